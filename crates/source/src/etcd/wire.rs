//! The JSON of etcd's gateway: what is asked and how answers are read, as values. Never I/O.
//!
//! Keys and values are base64, 64-bit numbers are strings, and whatever is zero or empty is left out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// What went wrong, in the words of gRPC: 3, 14, 16 are all that is branched on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    #[serde(alias = "grpc_code")]
    pub(super) code: i64,
    pub(super) message: String,
    /// Where older gateways put the text.
    error: Option<Value>,
}

impl Status {
    /// The status in an answer's body, or what a proxy said instead.
    pub(super) fn parse(body: &[u8]) -> Self {
        let mut status: Self = serde_json::from_slice(body).unwrap_or_default();
        if status.message.is_empty() {
            status.message = match status.error.take() {
                Some(Value::String(text)) => text,
                _ => String::from_utf8_lossy(body).trim().chars().take(200).collect(),
            };
        }
        status
    }

    /// A member that cannot answer now (14, or 4 where it ran out of time): another one may.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self.code, 4 | 14)
    }

    /// The token is not known any more (16), or was given under rights that have changed since, or is
    /// missing: a new one is to be had.
    pub(super) fn wants_token(&self) -> bool {
        self.code == 16
            || ["invalid auth token", "revision of auth store is old", "user name is empty"]
                .iter()
                .any(|text| self.message.contains(text))
    }

    /// The token is asked for in vain: etcd asks nobody who he is.
    pub(super) fn is_without_auth(&self) -> bool {
        self.message.contains("authentication is not enabled")
    }

    /// The lease that a key was to have has gone.
    pub(super) fn is_without_lease(&self) -> bool {
        self.message.contains("requested lease not found")
    }
}

/// A number that is written as a string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Int(pub(super) i64);

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => text.parse().map(Self).map_err(serde::de::Error::custom),
            Value::Number(number) => {
                number.as_i64().map(Self).ok_or_else(|| serde::de::Error::custom("not an integer"))
            }
            other => Err(serde::de::Error::custom(format!("{other} is not a number"))),
        }
    }
}

/// Bytes in base64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A key, its value and its history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct KeyValue {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) create_revision: Int,
    pub(super) mod_revision: Int,
    /// 0: without one, so for ever.
    pub(super) lease: Int,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Header {
    pub(super) revision: Int,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RangeAnswer {
    pub(super) kvs: Vec<KeyValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TxnAnswer {
    pub(super) header: Header,
    pub(super) succeeded: bool,
    responses: Vec<TxnPart>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TxnPart {
    response_range: RangeAnswer,
}

impl TxnAnswer {
    /// All keys that it tells.
    pub(super) fn key_values(self) -> impl Iterator<Item = KeyValue> {
        self.responses.into_iter().flat_map(|part| part.response_range.kvs)
    }
}

/// Of a grant and, within [`Streamed`], of a renewal: 0 seconds if there is no such lease.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LeaseAnswer {
    #[serde(rename = "ID")]
    pub(super) id: Int,
    #[serde(rename = "TTL")]
    pub(super) ttl: Int,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TokenAnswer {
    pub(super) token: String,
}

/// One message of a stream.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Streamed<T> {
    Result(T),
    Error(Status),
}

/// One message of a watch.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WatchMessage {
    pub(super) header: Header,
    pub(super) created: bool,
    pub(super) canceled: bool,
    pub(super) compact_revision: Int,
    pub(super) cancel_reason: String,
    pub(super) events: Vec<Event>,
}

/// A key was written or removed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    #[serde(rename = "type")]
    kind: String,
    pub(super) kv: KeyValue,
}

impl Event {
    pub(super) fn is_removal(&self) -> bool {
        self.kind == "DELETE"
    }
}

fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

/// The first key after all that begin with `prefix`, which ends with `/`.
fn end_of(prefix: &str) -> String {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    STANDARD.encode(end)
}

/// The configuration and all leases, as they are at one revision.
pub(super) fn list(config: &str, leases: &str) -> Value {
    json!({ "success": [
        { "requestRange": { "key": base64(config) } },
        { "requestRange": { "key": base64(leases), "range_end": end_of(leases) } },
    ]})
}

/// To be told of the same from two revisions on. Two watches in one stream: etcd reads one request
/// after another.
pub(super) fn watch(config: (&str, i64), leases: (&str, i64)) -> String {
    let config = json!({ "create_request": {
        "key": base64(config.0), "start_revision": config.1.to_string(),
    }});
    let leases = json!({ "create_request": {
        "key": base64(leases.0), "range_end": end_of(leases.0),
        "start_revision": leases.1.to_string(),
    }});
    format!("{config}\n{leases}\n")
}

/// How a key has to be for it to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Only {
    /// Absent.
    New,
    /// As it was at this revision.
    Unchanged(i64),
}

impl Only {
    fn compare(self, key: &str) -> Value {
        match self {
            Self::New => json!({
                "key": base64(key), "target": "CREATE", "result": "EQUAL", "create_revision": "0",
            }),
            Self::Unchanged(revision) => json!({
                "key": base64(key), "target": "MOD", "result": "EQUAL",
                "mod_revision": revision.to_string(),
            }),
        }
    }
}

/// Writes a key; 0 is no lease.
pub(super) fn put(key: &str, value: &str, lease: i64, only: Only) -> Value {
    let put = json!({ "key": base64(key), "value": base64(value), "lease": lease.to_string() });
    json!({ "compare": [only.compare(key)], "success": [{ "requestPut": put }] })
}

/// Removes a key that is as it was.
pub(super) fn delete(key: &str, revision: i64) -> Value {
    let delete = json!({ "requestDeleteRange": { "key": base64(key) } });
    json!({ "compare": [Only::Unchanged(revision).compare(key)], "success": [delete] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_etcd_writes_them() {
        let text = r#"{"header":{"cluster_id":"14841639068965178418","revision":"7"},"succeeded":true,
            "responses":[{"response_range":{"header":{"revision":"7"},"kvs":[{"key":"L2E=",
            "create_revision":"2","mod_revision":"5","version":"3","value":"e30=","lease":"9"}],
            "count":"1"}},{"response_range":{"header":{"revision":"7"}}}]}"#;
        let answer: TxnAnswer = serde_json::from_str(text).unwrap();
        assert_eq!((answer.succeeded, answer.header.revision), (true, Int(7)));
        let all: Vec<KeyValue> = answer.key_values().collect();
        assert_eq!(all.len(), 1);
        assert_eq!((&all[0].key.0[..], all[0].mod_revision), (&b"/a"[..], Int(5)));

        let text = r#"{"result":{"header":{"revision":"5"},"watch_id":"1","events":[
            {"type":"DELETE","kv":{"key":"L2E=","mod_revision":"5"}}]}}"#;
        let Streamed::Result(WatchMessage { events, .. }) = serde_json::from_str(text).unwrap()
        else {
            panic!("no result");
        };
        assert!(events[0].is_removal());

        let text = r#"{"result":{"canceled":true,"compact_revision":"4"}}"#;
        let Streamed::Result(WatchMessage { compact_revision, .. }) =
            serde_json::from_str(text).unwrap()
        else {
            panic!("no result");
        };
        assert_eq!(compact_revision, Int(4));
    }

    #[test]
    fn a_status_is_found_wherever_it_is() {
        for (text, code, message) in [
            (r#"{"error":"no","message":"no","code":5}"#, 5, "no"),
            (r#"{"error":"no","code":5}"#, 5, "no"),
            (r#"{"code":5,"message":"no","details":[]}"#, 5, "no"),
            (r#"{"grpc_code":14,"http_code":503,"message":"no"}"#, 14, "no"),
            ("<html>bad gateway</html>", 0, "<html>bad gateway</html>"),
        ] {
            let status = Status::parse(text.as_bytes());
            assert_eq!((status.code, status.message.as_str()), (code, message), "{text}");
        }
    }

    #[test]
    fn odd_answers_are_refused() {
        for text in [r#"{"kvs":[{"key":"*"}]}"#, r#"{"kvs":[{"lease":"x"}]}"#, r#"{"kvs":1}"#] {
            assert!(serde_json::from_str::<RangeAnswer>(text).is_err(), "{text}");
        }
    }
}
