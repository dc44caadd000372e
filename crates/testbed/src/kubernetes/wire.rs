//! HTTP and JSON as the server needs them: requests read, answers written, patches merged.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use serde_json::{Value, json};

/// What was asked.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `GET`, `PATCH`, …
    pub method: String,
    /// Without what is behind the question mark.
    pub path: String,
    /// What is behind it.
    pub query: BTreeMap<String, String>,
    /// By names in small letters.
    pub headers: BTreeMap<String, String>,
    /// `null` if there is none.
    pub body: Value,
}

impl Request {
    /// Whether it is told what changes.
    pub fn is_watch(&self) -> bool {
        self.query.contains_key("watch")
    }

    /// Whether it asks for a page of what there is.
    pub fn is_list(&self) -> bool {
        self.method == "GET" && !self.is_watch()
    }

    /// Whether it is about all nodes.
    pub fn is_of_all(&self) -> bool {
        !self.query.contains_key("fieldSelector")
    }

    /// Whether metadata is enough.
    pub fn is_metadata(&self) -> bool {
        self.headers.get("accept").is_some_and(|it| it.contains("as=PartialObjectMetadata"))
    }
}

pub(super) fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let query = pairs.map(|(key, value)| (key.to_owned(), unescape(value))).collect();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((key, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(key.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    Some(Request { method, path: path.to_owned(), query, headers, body })
}

fn unescape(text: &str) -> String {
    let mut parts = text.split('%');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (code, rest) = part.split_at(2);
        let byte = u8::from_str_radix(code, 16).unwrap();
        format!("{text}{}{rest}", char::from(byte))
    })
}

pub(super) fn answer(stream: &mut impl Write, code: u16, body: &Value) -> io::Result<()> {
    answer_text(stream, code, &body.to_string())
}

pub(super) fn answer_text(stream: &mut impl Write, code: u16, body: &str) -> io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {code} x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

pub(super) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": reason, "message": message })
}

/// RFC 7396.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let object = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            object.remove(key);
        } else {
            merge(object.entry(key).or_insert(Value::Null), value);
        }
    }
}

pub(super) fn replace_by_type(conditions: &mut Value, condition: &Value) {
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let list = conditions.as_array_mut().unwrap();
    list.retain(|it| it["type"] != condition["type"]);
    list.push(condition.clone());
}
