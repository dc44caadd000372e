//! The error object that a plugin prints, and its codes.

use serde::{Deserialize, Serialize};

use crate::json;

/// An error in CNI's terms: what a plugin prints instead of a result.
///
/// CNI spec 1.1.0 section 5, "Error". `cniVersion` is left out, as in the reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{msg}{}{details}", if details.is_empty() { "" } else { "; " })]
pub struct Error {
    /// What a program may branch on.
    #[serde(default)]
    pub code: Code,
    /// What went wrong, in a short line.
    #[serde(default)]
    pub msg: String,
    /// More about it; left out when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

/// The meaning of an error. CNI spec 1.1.0 section 5, "Error".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "u32", into = "u32")]
pub enum Code {
    /// 0: nothing is known, as when a plugin dies without a word.
    #[default]
    Unknown,
    /// 1: the plugin does not speak the version of the configuration.
    IncompatibleVersion,
    /// 2: a field of the configuration is not supported.
    UnsupportedField,
    /// 3: the container is unknown or does not exist.
    UnknownContainer,
    /// 4: a `CNI_*` variable is missing or wrong.
    InvalidEnvironment,
    /// 5: standard input could not be read.
    Io,
    /// 6: a document could not be decoded.
    Decode,
    /// 7: the configuration is wrong.
    InvalidConfig,
    /// 8: the network namespace is wrong.
    InvalidNetns,
    /// 11: the same call may succeed later.
    TryAgainLater,
    /// 50: `STATUS`: the plugin cannot serve `ADD`.
    NotAvailable,
    /// 51: `STATUS`: new containers will have limited connectivity.
    LimitedConnectivity,
    /// 999: every failure without a code of its own.
    Internal,
    /// A plugin's own code (100 and up) or one that is not assigned. Made by [`Code::from`], so
    /// that it never holds a number that has a name.
    Other(u32),
}

impl Error {
    /// An error with a code and a message.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Error { code, msg: msg.into(), details: String::new() }
    }

    /// A failure without a code of its own: 999 with the text as its message.
    ///
    /// `map_err(Error::internal)` is how any other error becomes one of these.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        Error::new(Code::Internal, error.to_string())
    }

    /// The configuration is wrong: 7.
    pub fn invalid_config(msg: impl Into<String>) -> Self {
        Error::new(Code::InvalidConfig, msg)
    }

    /// The environment is wrong: 4.
    pub fn invalid_environment(msg: impl Into<String>) -> Self {
        Error::new(Code::InvalidEnvironment, msg)
    }

    /// A document could not be decoded: 6.
    pub fn decode(msg: impl Into<String>) -> Self {
        Error::new(Code::Decode, msg)
    }

    /// The same call may succeed later: 11.
    pub fn try_again_later(msg: impl Into<String>) -> Self {
        Error::new(Code::TryAgainLater, msg)
    }

    /// The plugin cannot serve `ADD` now: 50, for `STATUS`.
    pub fn not_available(msg: impl Into<String>) -> Self {
        Error::new(Code::NotAvailable, msg)
    }

    /// The same error with more to say.
    #[must_use]
    pub fn with_details(self, details: impl Into<String>) -> Self {
        Error { details: details.into(), ..self }
    }

    /// The JSON that a plugin prints: indented by four spaces, without a newline at the end.
    pub fn to_json(&self) -> String {
        json::pretty(self)
    }
}

impl From<u32> for Code {
    fn from(number: u32) -> Self {
        match number {
            0 => Code::Unknown,
            1 => Code::IncompatibleVersion,
            2 => Code::UnsupportedField,
            3 => Code::UnknownContainer,
            4 => Code::InvalidEnvironment,
            5 => Code::Io,
            6 => Code::Decode,
            7 => Code::InvalidConfig,
            8 => Code::InvalidNetns,
            11 => Code::TryAgainLater,
            50 => Code::NotAvailable,
            51 => Code::LimitedConnectivity,
            999 => Code::Internal,
            other => Code::Other(other),
        }
    }
}

impl From<Code> for u32 {
    fn from(code: Code) -> Self {
        match code {
            Code::Unknown => 0,
            Code::IncompatibleVersion => 1,
            Code::UnsupportedField => 2,
            Code::UnknownContainer => 3,
            Code::InvalidEnvironment => 4,
            Code::Io => 5,
            Code::Decode => 6,
            Code::InvalidConfig => 7,
            Code::InvalidNetns => 8,
            Code::TryAgainLater => 11,
            Code::NotAvailable => 50,
            Code::LimitedConnectivity => 51,
            Code::Internal => 999,
            Code::Other(number) => number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_the_reference_s() {
        let error = Error::new(Code::InvalidEnvironment, "invalid characters in containerID");
        assert_eq!(
            error.to_json(),
            "{\n    \"code\": 4,\n    \"msg\": \"invalid characters in containerID\"\n}"
        );
        let error = error.with_details("<a&b>");
        assert_eq!(
            error.to_json(),
            "{\n    \"code\": 4,\n    \"msg\": \"invalid characters in containerID\",\n    \"details\": \"\\u003ca\\u0026b\\u003e\"\n}"
        );
    }

    #[test]
    fn text_is_message_and_details() {
        assert_eq!(Error::internal("kaput").to_string(), "kaput");
        assert_eq!(Error::internal("kaput").with_details("why").to_string(), "kaput; why");
        assert_eq!(Error::internal("kaput").code, Code::Internal);
    }

    #[test]
    fn every_number_survives() {
        for number in (0..=1100).chain([u32::MAX]) {
            assert_eq!(u32::from(Code::from(number)), number);
        }
    }
}
