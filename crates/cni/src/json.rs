//! The JSON dialect that CNI documents are written in.
//!
//! It is what Go's `encoding/json` reads and writes, because that is what configurations were
//! tested with. Keys match fields whatever their case (the exact field is preferred, and the last
//! of several matching keys wins), unknown keys are ignored, and `null` for a field is as if it were
//! not there. Go also keeps the members of an object that comes twice; here the last one replaces
//! the first.
//!
//! [`from_value`] reads any type that derives `Deserialize` this way. Two attributes of serde go
//! around it and are not for CNI documents: `flatten` and `untagged` match keys exactly.

mod de;

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};
use serde_json::{Map, Value};

pub(crate) use self::de::same_key;

/// Reads a type from a value by the rules of this dialect.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    de::read(PhantomData, value)
}

/// Reads a document; anything but white space after it is an error.
///
/// Bytes that are not UTF-8 become U+FFFD, as in Go.
pub fn parse(bytes: &[u8]) -> Result<Value, Error> {
    let text = String::from_utf8_lossy(bytes);
    match serde_json::from_str(&text) {
        Ok(Document(value)) => Ok(value),
        Err(error) if error.is_eof() => Err(Error::syntax("unexpected end of JSON input")),
        Err(error) => Err(Error::syntax(error)),
    }
}

/// The member of an object that a field of this name would be read from, even if it is `null`.
pub fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let object = value.as_object()?;
    let mut matching = object.iter().filter(|(key, _)| same_key(key, name));
    matching.next_back().map(|(_, value)| value)
}

/// Prints as Go's `MarshalIndent` with four spaces does: no newline at the end, and `<`, `>`, `&`
/// and the two Unicode line separators escaped.
pub fn pretty<T: Serialize + ?Sized>(value: &T) -> String {
    print(value, PrettyFormatter::with_indent(b"    "))
}

/// Prints on one line, with the same escapes.
pub fn compact<T: Serialize + ?Sized>(value: &T) -> String {
    print(value, CompactFormatter)
}

/// The value that prints like this one.
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Value {
    // As for printing: only keys that are not text can fail.
    serde_json::to_value(value).unwrap_or_default()
}

fn print<T: Serialize + ?Sized>(value: &T, formatter: impl Formatter) -> String {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    // Only a map with keys that are not text can fail, and nothing that is printed here has one.
    let _ = value.serialize(&mut serializer);
    escape(&String::from_utf8_lossy(&bytes))
}

/// Escapes what Go escapes. These characters can only be inside the strings of a document.
fn escape(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for char in json.chars() {
        match char {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            _ => escaped.push(char),
        }
    }
    escaped
}

/// What is wrong with a document, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The place as `ipam.ranges[0][0].subnet`; empty for the whole document.
    path: String,
    problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Problem {
    /// The text is not JSON.
    Syntax(String),
    /// A field that has no default is not there.
    Missing(&'static str),
    /// The value cannot be read as what the field is; the value is filled in on the way out.
    Invalid { value: Option<String>, why: String },
}

impl Error {
    fn syntax(error: impl fmt::Display) -> Self {
        Error { path: String::new(), problem: Problem::Syntax(error.to_string()) }
    }

    fn invalid(why: String) -> Self {
        Error { path: String::new(), problem: Problem::Invalid { value: None, why } }
    }

    /// Says which value is meant, unless a value inside it was.
    fn of_value(mut self, value: &Value) -> Self {
        if let Problem::Invalid { value: unknown @ None, .. } = &mut self.problem {
            *unknown = Some(shortened(value));
        }
        self
    }

    /// Says that the value is a member of another.
    pub(crate) fn in_member(mut self, key: &str) -> Self {
        let separator = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{key}{separator}{}", self.path);
        self
    }

    fn in_element(self, index: usize) -> Self {
        self.in_member(&format!("[{index}]"))
    }
}

/// As much of a value as an error message should show.
fn shortened(value: &Value) -> String {
    const LONGEST: usize = 80;
    let mut text = value.to_string();
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        match &self.problem {
            Problem::Syntax(why) => f.write_str(why),
            Problem::Missing(field) => write!(f, "missing field {field:?}"),
            Problem::Invalid { value: Some(value), why } => {
                write!(f, "invalid value {value}: {why}")
            }
            Problem::Invalid { value: None, why } => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}

/// A value read such that the last of several equal keys is also last in order, which decides
/// against a key that differs from it only in case.
struct Document(Value);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor).map(Document)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(Document(element)) = seq.next_element()? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, Document(value))) = map.next_entry::<String, _>()? {
            object.shift_remove(&key);
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests;
