//! Names and hardware addresses that cannot be wrong.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of a network device as the kernel accepts it (`dev_valid_name` in `net/core/dev.c`):
/// 1 to 15 bytes, neither `.` nor `..`, without `/`, `:` and white space. A name with `%` is a
/// pattern to the kernel (`br%d` makes `br0`), so no device has one. Thousands of objects can be on one
/// device, so that copies share the text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkName(Arc<str>);

/// Why a text is not a [`LinkName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkNameError {
    /// No characters at all.
    #[error("interface name is empty")]
    Empty,
    /// More than 15 bytes.
    #[error("interface name {0:?} is too long: at most 15 bytes fit")]
    TooLong(String),
    /// `.`, `..`, or a character that the kernel refuses.
    #[error("interface name {0:?} is . or .., or contains / or : or white space")]
    Invalid(String),
    /// A pattern instead of a name.
    #[error("interface name {0:?} contains %, where the kernel would put a number")]
    Pattern(String),
}

impl LinkName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LinkName {
    type Err = LinkNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            Err(LinkNameError::Empty)
        } else if text.len() > 15 {
            Err(LinkNameError::TooLong(text.to_owned()))
        } else if text == "."
            || text == ".."
            || text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0')
        {
            Err(LinkNameError::Invalid(text.to_owned()))
        } else if text.contains('%') {
            Err(LinkNameError::Pattern(text.to_owned()))
        } else {
            Ok(Self(text.into()))
        }
    }
}

impl TryFrom<String> for LinkName {
    type Error = LinkNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<LinkName> for String {
    fn from(name: LinkName) -> Self {
        name.as_str().to_owned()
    }
}

impl AsRef<str> for LinkName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An Ethernet address: six bytes, printed as `0a:58:0a:01:00:04`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

/// A text that is not six colon-separated hexadecimal bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address of the form 0a:58:0a:01:00:04")]
pub struct MacError(String);

impl Mac {
    /// A locally administered unicast address made of `random` bytes, as the kernel's
    /// `eth_random_addr` makes them.
    pub fn local(mut random: [u8; 6]) -> Self {
        random[0] = random[0] & 0xfe | 0x02;
        Self(random)
    }

    /// Whether a device can have it: the kernel takes neither that of a group nor that of nobody.
    pub fn is_of_device(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2);
            *byte = part
                .and_then(|p| u8::from_str_radix(p, 16).ok())
                .ok_or_else(|| MacError(text.to_owned()))?;
        }
        match parts.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(MacError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_follow_the_kernel() {
        for good in ["eth0", "a", "veth0123456789a", "x-y_z.1"] {
            assert_eq!(good.parse::<LinkName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "sixteen-bytes-xx"] {
            assert!(bad.parse::<LinkName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn macs_round_trip() {
        let mac: Mac = "0a:58:0A:01:00:04".parse().unwrap();
        assert_eq!(mac.to_string(), "0a:58:0a:01:00:04");
        for bad in ["", "0a:58", "0a:58:0a:01:00:04:05", "0a:58:0a:01:00:xx", "a:58:0a:01:00:04"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad:?}");
        }
        let local = Mac::local([0xff; 6]);
        assert_eq!(local.0[0] & 3, 2);
    }
}
