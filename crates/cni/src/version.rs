//! The versions of the CNI specification.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use crate::json;

/// A published version of the CNI specification. They are ordered by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 0.1.0, also meant when a document names no version.
    V0_1_0,
    /// 0.2.0, the same result type as 0.1.0, and the `VERSION` command.
    V0_2_0,
    /// 0.3.0, the first with interfaces and several addresses.
    V0_3_0,
    /// 0.3.1, the same as 0.3.0 with a correction.
    V0_3_1,
    /// 0.4.0, the first with `CHECK`, and with `prevResult` on `DEL`.
    V0_4_0,
    /// 1.0.0, which drops the single configuration and the `version` of an address.
    V1_0_0,
    /// 1.1.0, the first with `GC` and `STATUS`.
    V1_1_0,
}

impl Version {
    /// All versions, oldest first.
    pub const ALL: [Version; 7] = [
        Version::V0_1_0,
        Version::V0_2_0,
        Version::V0_3_0,
        Version::V0_3_1,
        Version::V0_4_0,
        Version::V1_0_0,
        Version::V1_1_0,
    ];

    /// The newest version, which a `VERSION` reply names as its own.
    pub const LATEST: Version = Version::V1_1_0;

    /// The version as documents write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Version::V0_1_0 => "0.1.0",
            Version::V0_2_0 => "0.2.0",
            Version::V0_3_0 => "0.3.0",
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }

    /// Whether a result with or without addresses can be written in this version.
    ///
    /// Before 0.3.0 a result is nothing but its addresses, so one without any (a layer 2 network)
    /// cannot be expressed. A plugin asks before it acts, because printing comes after the work.
    pub const fn can_express(self, has_ips: bool) -> bool {
        has_ips || !matches!(self, Version::V0_1_0 | Version::V0_2_0)
    }

    /// The three numbers that order versions.
    pub(crate) fn numbers(self) -> Numbers {
        match self {
            Version::V0_1_0 => Numbers(0, 1, 0),
            Version::V0_2_0 => Numbers(0, 2, 0),
            Version::V0_3_0 => Numbers(0, 3, 0),
            Version::V0_3_1 => Numbers(0, 3, 1),
            Version::V0_4_0 => Numbers(0, 4, 0),
            Version::V1_0_0 => Numbers(1, 0, 0),
            Version::V1_1_0 => Numbers(1, 1, 0),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Version {
    type Err = ParseVersionError;

    /// Only the exact text of a published version is one, `1.0` is not; the empty text is 0.1.0.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Version::V0_1_0);
        }
        let exact = Version::ALL.into_iter().find(|version| version.as_str() == text);
        exact.map_or_else(
            || {
                text.parse::<Numbers>()?;
                Err(ParseVersionError::Unknown(text.to_owned()))
            },
            Ok,
        )
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Why a text is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseVersionError {
    /// More than three parts between dots.
    #[error("invalid version {0:?}: too many parts")]
    TooManyParts(String),
    /// A part that is not a number.
    #[error(
        "failed to convert {which} version part {part:?}: strconv.Atoi: parsing {part:?}: {problem}"
    )]
    BadPart {
        /// `major`, `minor` or `micro`.
        which: &'static str,
        /// The part as it was given.
        part: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Numbers that no published version has.
    #[error("unknown CNI version {0:?}")]
    Unknown(String),
}

/// The `cniVersion` of a configuration or result as it was written; empty if there is none.
pub(crate) fn named(document: &Value) -> Result<String, json::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct VersionOnly {
        #[serde(rename = "cniVersion")]
        cni_version: String,
    }
    json::from_value(document).map(|VersionOnly { cni_version }| cni_version)
}

/// Major, minor and micro number of a version that need not be published, for comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Numbers(i64, i64, i64);

impl FromStr for Numbers {
    type Err = ParseVersionError;

    /// Parts that are left out are 0, and the empty text is 0.1.0.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Version::V0_1_0.numbers());
        }
        if text.split('.').count() > 3 {
            return Err(ParseVersionError::TooManyParts(text.to_owned()));
        }
        let mut parts = text.split('.');
        let mut next = |which| parts.next().map_or(Ok(0), |part| number(which, part));
        Ok(Numbers(next("major")?, next("minor")?, next("micro")?))
    }
}

fn number(which: &'static str, part: &str) -> Result<i64, ParseVersionError> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    part.parse().map_err(|error: std::num::ParseIntError| {
        let problem = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        ParseVersionError::BadPart { which, part: part.to_owned(), problem }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_round_trip_and_order() {
        for version in Version::ALL {
            assert_eq!(version.to_string().parse(), Ok(version));
            assert_eq!(version.as_str().parse(), Ok(version.numbers()));
        }
        assert!(Version::ALL.is_sorted());
        assert_eq!("".parse(), Ok(Version::V0_1_0));
        assert_eq!("".parse(), Ok(Numbers(0, 1, 0)));
        assert_eq!("1".parse(), Ok(Numbers(1, 0, 0)));
        assert_eq!("1.2".parse(), Ok(Numbers(1, 2, 0)));
        assert!("0.10.0".parse::<Numbers>().unwrap() > Version::V0_4_0.numbers());
    }

    #[test]
    fn errors_are_the_reference_s() {
        let cases = [
            ("1.2.3.4", r#"invalid version "1.2.3.4": too many parts"#),
            (
                "x.0.0",
                r#"failed to convert major version part "x": strconv.Atoi: parsing "x": invalid syntax"#,
            ),
            (
                "0.x.0",
                r#"failed to convert minor version part "x": strconv.Atoi: parsing "x": invalid syntax"#,
            ),
            (
                "0.0.",
                r#"failed to convert micro version part "": strconv.Atoi: parsing "": invalid syntax"#,
            ),
            (
                "99999999999999999999",
                r#"failed to convert major version part "99999999999999999999": strconv.Atoi: parsing "99999999999999999999": value out of range"#,
            ),
            ("1.0", r#"unknown CNI version "1.0""#),
            ("1.2.3", r#"unknown CNI version "1.2.3""#),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<Version>().unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn old_versions_need_addresses() {
        let without: Vec<_> = Version::ALL.into_iter().filter(|v| !v.can_express(false)).collect();
        assert_eq!(without, [Version::V0_1_0, Version::V0_2_0]);
        assert!(Version::ALL.into_iter().all(|version| version.can_express(true)));
    }
}
