//! `CNI_ARGS`, the oldest way to pass arguments: `K1=V1;K2=V2`.

use std::fmt;
use std::str::FromStr;

/// The arguments of a `CNI_ARGS` value, of which a plugin has named the keys that it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args<'a> {
    pairs: Vec<Pair<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair<'a> {
    text: &'a str,
    key: &'a str,
    value: &'a str,
}

/// Why a `CNI_ARGS` value cannot be read. The texts are the reference library's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A part without exactly one `=`.
    #[error("ARGS: invalid pair {0:?}")]
    InvalidPair(String),
    /// Keys that the plugin does not read, without `IgnoreUnknown`.
    #[error("ARGS: unknown args [{}]", quoted(.0))]
    Unknown(Vec<String>),
    /// A value that cannot be read.
    #[error("ARGS: error parsing value of pair {pair:?}: {why}")]
    Value {
        /// The whole part, `K=V`.
        pair: String,
        /// What is wrong with the value.
        why: String,
    },
}

impl<'a> Args<'a> {
    /// Reads arguments for a plugin that knows these keys; their case matters.
    ///
    /// Other keys are an error unless `IgnoreUnknown` is among the arguments as `1` or `true`.
    pub fn parse(text: &'a str, known: &[&str]) -> Result<Self, Error> {
        let parts = text.split(';').filter(|_| !text.is_empty());
        let pairs = parts.map(Pair::parse).collect::<Result<Vec<_>, _>>()?;
        let args = Args { pairs };
        let is_known = |pair: &&Pair<'_>| pair.key == IGNORE_UNKNOWN || known.contains(&pair.key);
        let unknown: Vec<_> = args.pairs.iter().filter(|pair| !is_known(pair)).collect();
        if args.value::<Flag>(IGNORE_UNKNOWN)?.is_some_and(|Flag(on)| on) || unknown.is_empty() {
            return Ok(args);
        }
        Err(Error::Unknown(unknown.into_iter().map(|pair| pair.text.to_owned()).collect()))
    }

    /// The text of an argument; the last one if it is given more than once.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.find(key).map(|pair| pair.value)
    }

    /// The value of an argument as another type.
    pub fn value<T: FromStr<Err: fmt::Display>>(&self, key: &str) -> Result<Option<T>, Error> {
        let parse = |pair: &Pair<'a>| {
            let failed =
                |why: T::Err| Error::Value { pair: pair.text.to_owned(), why: why.to_string() };
            pair.value.parse().map_err(failed)
        };
        self.find(key).map(parse).transpose()
    }

    fn find(&self, key: &str) -> Option<&Pair<'a>> {
        self.pairs.iter().rfind(|pair| pair.key == key)
    }
}

impl<'a> Pair<'a> {
    fn parse(text: &'a str) -> Result<Self, Error> {
        match text.split_once('=') {
            Some((key, value)) if !value.contains('=') => Ok(Pair { text, key, value }),
            _ => Err(Error::InvalidPair(text.to_owned())),
        }
    }
}

/// The key that every plugin knows.
const IGNORE_UNKNOWN: &str = "IgnoreUnknown";

/// A truth value as arguments write it.
struct Flag(bool);

impl FromStr for Flag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.to_lowercase();
        match text.as_str() {
            "1" | "true" => Ok(Flag(true)),
            "0" | "false" => Ok(Flag(false)),
            _ => Err(format!("boolean unmarshal error: invalid input {text}")),
        }
    }
}

fn quoted(texts: &[String]) -> String {
    let quoted: Vec<_> = texts.iter().map(|text| format!("{text:?}")).collect();
    quoted.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::{Ip, Mac};

    #[test]
    fn known_keys_are_read() {
        let args = Args::parse(
            "IgnoreUnknown=TRUE;K8S_POD_NAME=x;MAC=02:00:00:00:00:01;IP=",
            &["MAC", "IP"],
        )
        .unwrap();
        assert_eq!(args.get("MAC"), Some("02:00:00:00:00:01"));
        assert_eq!(args.value("MAC"), Ok(Some(Mac([2, 0, 0, 0, 0, 1]))));
        assert_eq!(args.get("IP"), Some(""));
        assert_eq!(args.get("GATEWAY"), None);
        assert_eq!(args.value::<Ip>("GATEWAY"), Ok(None));
        assert_eq!(Args::parse("IP=a;IP=b", &["IP"]).unwrap().get("IP"), Some("b"));
        assert_eq!(Args::parse("", &[]).unwrap().pairs, []);
    }

    #[test]
    fn errors_are_the_reference_s() {
        let cases = [
            ("x", r#"ARGS: invalid pair "x""#),
            ("MAC=1;", r#"ARGS: invalid pair """#),
            ("MAC=a=b", r#"ARGS: invalid pair "MAC=a=b""#),
            ("mac=1;X=2", r#"ARGS: unknown args ["mac=1" "X=2"]"#),
            ("IgnoreUnknown=0;X=2", r#"ARGS: unknown args ["X=2"]"#),
            (
                "IgnoreUnknown=Yes",
                r#"ARGS: error parsing value of pair "IgnoreUnknown=Yes": boolean unmarshal error: invalid input yes"#,
            ),
        ];
        for (text, want) in cases {
            assert_eq!(Args::parse(text, &["MAC"]).unwrap_err().to_string(), want);
        }
        let args = Args::parse("IP=10.0.0", &["IP"]).unwrap();
        assert_eq!(
            args.value::<Ip>("IP").unwrap_err().to_string(),
            r#"ARGS: error parsing value of pair "IP=10.0.0": invalid IP address: 10.0.0"#
        );
    }
}
