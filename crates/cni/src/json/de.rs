//! A serde deserializer over a JSON value that matches keys as Go does and knows where it is.

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Value, map};

use super::{Error, Problem};

/// Whether a key of a document names a field, whatever the case of its letters.
///
/// Go folds Unicode, by which two more characters equal ASCII letters: the Kelvin sign and the
/// long s. Fields have ASCII names.
pub(crate) fn same_key(key: &str, field: &str) -> bool {
    let fold = |char: char| match char {
        '\u{212a}' => 'k',
        '\u{17f}' => 's',
        other => other.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(field.chars().map(fold))
}

/// Reads one value; if it is refused, the error says which value it was.
pub(super) fn read<'de, S: DeserializeSeed<'de>>(
    seed: S,
    value: &'de Value,
) -> Result<S::Value, Error> {
    seed.deserialize(ValueDeserializer(value)).map_err(|error| error.of_value(value))
}

struct ValueDeserializer<'de>(&'de Value);

impl<'de> Deserializer<'de> for ValueDeserializer<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), _, _) => visitor.visit_u64(number),
                (None, Some(number), _) => visitor.visit_i64(number),
                (None, None, number) => visitor.visit_f64(number.unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(elements) => visitor.visit_seq(Elements::new(elements)),
            Value::Object(object) => visitor.visit_map(Members::all(object)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(object) => visitor.visit_map(Members::of_fields(object, fields)),
            Value::Null => visitor.visit_map(Members::default()),
            _ => Err(Error::invalid("expected an object".to_owned())),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_map(Members::default()),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_seq(Elements::new(&[])),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::String(text) => {
                let variant: StrDeserializer<'_, Error> = text.as_str().into_deserializer();
                visitor.visit_enum(variant)
            }
            Value::Object(object) => {
                visitor.visit_enum(MapAccessDeserializer::new(Members::all(object)))
            }
            _ => Err(Error::invalid("expected a string".to_owned())),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// The members of an object, each under the name that the visitor knows.
#[derive(Default)]
struct Members<'de> {
    members: Vec<Member<'de>>,
    /// The value whose name was given last.
    current: Option<Member<'de>>,
}

#[derive(Clone, Copy)]
struct Member<'de> {
    /// As it stands in the document, for messages.
    key: &'de str,
    name: &'de str,
    value: &'de Value,
}

impl<'de> Members<'de> {
    /// Every member under its own key, the first one last because they are taken from the end.
    fn all(object: &'de map::Map<String, Value>) -> Self {
        let members = object.iter().rev().map(|(key, value)| Member { key, name: key, value });
        Members { members: members.collect(), current: None }
    }

    /// The last member that is not null for each field.
    fn of_fields(object: &'de map::Map<String, Value>, fields: &[&'static str]) -> Self {
        let mut chosen: Vec<Option<Member<'de>>> = vec![None; fields.len()];
        for (key, value) in object.iter().filter(|(_, value)| !value.is_null()) {
            let exact = fields.iter().position(|field| field == key);
            let field = exact.or_else(|| fields.iter().position(|field| same_key(key, field)));
            if let Some(index) = field {
                chosen[index] = Some(Member { key, name: fields[index], value });
            }
        }
        Members { members: chosen.into_iter().rev().flatten().collect(), current: None }
    }
}

impl<'de> MapAccess<'de> for Members<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.current = self.members.pop();
        let Some(member) = self.current else { return Ok(None) };
        let name: de::value::BorrowedStrDeserializer<'de, Error> =
            de::value::BorrowedStrDeserializer::new(member.name);
        seed.deserialize(name).map(Some).map_err(|error| error.in_member(member.key))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let Some(member) = self.current else {
            return Err(Error::invalid("a value was asked for before its key".to_owned()));
        };
        read(seed, member.value).map_err(|error| error.in_member(member.key))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.members.len())
    }
}

/// The elements of a list.
struct Elements<'de> {
    elements: std::iter::Enumerate<std::slice::Iter<'de, Value>>,
}

impl<'de> Elements<'de> {
    fn new(elements: &'de [Value]) -> Self {
        Elements { elements: elements.iter().enumerate() }
    }
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let Some((index, value)) = self.elements.next() else { return Ok(None) };
        read(seed, value).map(Some).map_err(|error| error.in_element(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.elements.len())
    }
}

impl de::Error for Error {
    fn custom<T: std::fmt::Display>(why: T) -> Self {
        Error::invalid(why.to_string())
    }

    fn invalid_type(_found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Error::invalid(format!("expected {}", in_plain_words(&expected.to_string())))
    }

    fn invalid_value(_found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Error::invalid(format!("expected {}", in_plain_words(&expected.to_string())))
    }

    fn unknown_variant(_variant: &str, expected: &'static [&'static str]) -> Self {
        let expected: Vec<_> = expected.iter().map(|name| format!("{name:?}")).collect();
        Error::invalid(format!("expected one of {}", expected.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Error { path: String::new(), problem: Problem::Missing(field) }
    }
}

/// The words of the library that decodes, in those of people who write configurations.
fn in_plain_words(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number that is not negative",
        "i32" | "i64" => "a whole number",
        "a sequence" => "a list",
        "a map" => "an object",
        "path string" => "a path in quotes",
        other => other,
    }
}
