//! Addresses as configurations write them.
//!
//! These read what Go's `net` package reads, because existing configurations were written for it.
//! The functions are for `#[serde(default, deserialize_with = "cni::fields::…")]`.

use std::fmt;
use std::net::{AddrParseError, IpAddr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An IP address. IPv4 parts with leading zeros are refused, and an IPv4-mapped IPv6 address is
/// the IPv4 address. The empty text is not one: see [`optional_ip`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ip(pub IpAddr);

/// An address with its prefix length. Host bits are kept, so `10.1.2.3/24` is that host in that
/// network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr(pub IpNet);

/// An Ethernet address, written as `02:00:5e:10:00:01`, `02-00-5e-10-00-01` or `0200.5e10.0001`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not an IP address.
    #[error("invalid IP address: {0}")]
    Ip(String),
    /// Not an address with a prefix length.
    #[error("invalid CIDR address: {0}")]
    Cidr(String),
    /// Not a MAC address.
    #[error("address {0}: invalid MAC address")]
    Mac(String),
    /// A MAC address that is longer than Ethernet's.
    #[error("address {text}: a MAC address of {bytes} bytes, but Ethernet's have 6")]
    LongMac {
        /// The address as it was given.
        text: String,
        /// Its length: 8 or 20.
        bytes: usize,
    },
}

/// Reads an address that may be missing, `null` or empty.
pub fn optional_ip<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    let ip: Option<Ip> = optional(deserializer)?;
    Ok(ip.map(|Ip(ip)| ip))
}

/// Reads an address with prefix length.
pub fn cidr<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpNet, D::Error> {
    Cidr::deserialize(deserializer).map(|Cidr(net)| net)
}

/// Reads any of the fields above, or another that is text, where empty text means nothing.
pub fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    match Option::<String>::deserialize(deserializer)? {
        Some(text) if !text.is_empty() => text.parse().map(Some).map_err(de::Error::custom),
        _ => Ok(None),
    }
}

impl FromStr for Ip {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ip: Result<IpAddr, AddrParseError> = text.parse();
        ip.map(|ip| Ip(ip.to_canonical())).map_err(|_| ParseError::Ip(text.to_owned()))
    }
}

impl FromStr for Cidr {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            // ipnet's own parser allows leading zeros in IPv4 addresses.
            let (address, prefix) = text.split_once('/')?;
            let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
            let prefix = prefix.parse().ok().filter(|_| digits)?;
            IpNet::new(address.parse().ok()?, prefix).ok()
        };
        let net = parse().ok_or_else(|| ParseError::Cidr(text.to_owned()))?;
        Ok(Cidr(canonical(net)))
    }
}

/// An IPv4-mapped network whose prefix covers the mapping is the IPv4 network.
fn canonical(net: IpNet) -> IpNet {
    let (IpAddr::V4(ip), Some(prefix)) =
        (net.addr().to_canonical(), net.prefix_len().checked_sub(96))
    else {
        return net;
    };
    Ipv4Net::new(ip, prefix).map_or(net, IpNet::V4)
}

impl FromStr for Mac {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || ParseError::Mac(text.to_owned());
        let (separator, digits) = match text.as_bytes().get(2) {
            Some(b':') => (':', 2),
            Some(b'-') => ('-', 2),
            _ => ('.', 4),
        };
        let mut bytes = Vec::with_capacity(20);
        for group in text.split(separator) {
            if group.len() != digits || !group.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(invalid());
            }
            let number = u16::from_str_radix(group, 16).map_err(|_| invalid())?;
            bytes.extend_from_slice(&number.to_be_bytes()[2 - digits / 2..]);
        }
        match *bytes.as_slice() {
            [a, b, c, d, e, f] => Ok(Mac([a, b, c, d, e, f])),
            _ if matches!(bytes.len(), 8 | 20) => {
                Err(ParseError::LongMac { text: text.to_owned(), bytes: bytes.len() })
            }
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

macro_rules! as_text {
    ($($field:ty),*) => {$(
        impl Serialize for $field {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $field {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

as_text!(Ip, Cidr, Mac);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let good = [
            ("10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("FD00::1", "fd00::1"),
            ("::", "::"),
        ];
        for (text, want) in good {
            assert_eq!(text.parse::<Ip>().unwrap().to_string(), want);
        }
        for text in ["", "010.0.0.1", "10.0.0", "10.0.0.256", "fe80::1%eth0", "10.0.0.1/24", "x"] {
            let error = text.parse::<Ip>().unwrap_err();
            assert_eq!(error.to_string(), format!("invalid IP address: {text}"));
        }
    }

    #[test]
    fn networks_keep_host_bits() {
        let good = [
            ("10.1.2.3/24", "10.1.2.3/24"),
            ("::ffff:10.1.2.3/120", "10.1.2.3/24"),
            ("::ffff:10.1.2.3/64", "::ffff:10.1.2.3/64"),
            ("fd00::1/64", "fd00::1/64"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ];
        for (text, want) in good {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), want);
        }
        for text in [
            "",
            "10.0.0.1",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "10.0.0.0/8/8",
            "010.0.0.0/8",
            "fd00::/129",
        ] {
            let error = text.parse::<Cidr>().unwrap_err();
            assert_eq!(error.to_string(), format!("invalid CIDR address: {text}"));
        }
    }

    #[test]
    fn macs_have_three_forms() {
        for text in ["02:00:5E:10:00:01", "02-00-5e-10-00-01", "0200.5e10.0001"] {
            assert_eq!(text.parse::<Mac>().unwrap().to_string(), "02:00:5e:10:00:01");
        }
        let bad = [
            "",
            "x",
            "02:00:5e:10:00",
            "02:00:5e:10:00:0",
            "02:00:5e:10:00:001",
            "02:00-5e:10:00:01",
            "0200:5e10:0001",
            "02005e100001",
            "02:00:5e:10:00:0g",
            "é:00:5e:10:00:01",
            "+2:00:5e:10:00:01",
        ];
        for text in bad {
            let error = text.parse::<Mac>().unwrap_err();
            assert_eq!(error.to_string(), format!("address {text}: invalid MAC address"));
        }
        assert_eq!(
            "02:00:5e:10:00:00:00:01".parse::<Mac>().unwrap_err().to_string(),
            "address 02:00:5e:10:00:00:00:01: a MAC address of 8 bytes, but Ethernet's have 6"
        );
    }
}
