//! One range of addresses, checked and completed at the door.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::{Error, Result};

/// Consecutive addresses of one subnet that may be given out, except for the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    subnet: IpNet,
    start: IpAddr,
    end: IpAddr,
    gateway: IpAddr,
}

/// A range as a configuration writes it (`subnet`, `rangeStart`, `rangeEnd`, `gateway`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeSpec {
    /// The subnet; required, and without host bits.
    pub subnet: Option<IpNet>,
    /// The first address, the one after the network address by default. The network address may
    /// be named here and is then given out, as in the reference.
    pub start: Option<IpAddr>,
    /// The last address; by default the last one of the subnet, for IPv4 the one before the
    /// broadcast address.
    pub end: Option<IpAddr>,
    /// The gateway, the address after the network address by default. It may lie anywhere, as in
    /// the reference.
    pub gateway: Option<IpAddr>,
}

impl Range {
    /// Checks a range and fills in what it leaves out, in the reference's order.
    pub fn new(spec: &RangeSpec) -> Result<Self> {
        let subnet = spec.subnet.ok_or(Error::NoSubnet)?;
        if subnet.prefix_len() > subnet.max_prefix_len() - 2 {
            return Err(Error::TooSmall(subnet));
        }
        if subnet.addr().to_canonical() != subnet.addr() {
            return Err(Error::MappedSubnet);
        }
        if subnet.addr() != subnet.network() {
            let (length, network) = (subnet.prefix_len(), subnet.network());
            return Err(Error::HostBits { length, network });
        }

        let canonical = |address: Option<IpAddr>| address.map(|address| address.to_canonical());
        let (first, last) = (bits(subnet.network()), bits(subnet.broadcast()));
        let second = address(&subnet, first + 1);
        let gateway = canonical(spec.gateway).unwrap_or(second);
        let start = canonical(spec.start).unwrap_or(second);
        let end = canonical(spec.end)
            .unwrap_or_else(|| address(&subnet, last - u128::from(subnet.addr().is_ipv4())));

        // The reference compares a given start with a given end, and a given end with whatever
        // start it has, and so names the start when both are given in the wrong order. It does
        // not notice a given start behind the default end (the broadcast address) and walks out
        // of the subnet; here that is refused too.
        let behind = |start: IpAddr, end: IpAddr| subnet.contains(&end) && start > end;
        if spec.start.is_some() && (!subnet.contains(&start) || behind(start, end)) {
            return Err(Error::StartOutside { start, subnet });
        }
        if !subnet.contains(&end) || start > end {
            return Err(Error::EndOutside { end, subnet });
        }
        Ok(Self { subnet, start, end, gateway })
    }

    /// Whether the address is between the first and the last one, the gateway included.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.start.is_ipv4() == address.is_ipv4() && (self.start..=self.end).contains(&address)
    }

    /// Whether some address is in both ranges.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.start) || other.contains(self.start)
    }

    /// The subnet, whose prefix length every address of the range is given out with.
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// The gateway, which is never given out.
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// Whether the range is IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.start.is_ipv4()
    }

    /// How many addresses can be given out, the gateway left out. The whole of IPv6 counts one
    /// less than it is.
    pub fn size(&self) -> u128 {
        let all = self.numbers();
        let span = (all.end() - all.start()).saturating_add(1);
        span - u128::from(self.contains(self.gateway))
    }

    /// The addresses as numbers, for arithmetic.
    pub(crate) fn numbers(&self) -> RangeInclusive<u128> {
        bits(self.start)..=bits(self.end)
    }

    /// The address that one of those numbers stands for.
    pub(crate) fn address(&self, number: u128) -> IpAddr {
        address(&self.subnet, number)
    }
}

/// `start-end`, as the reference prints ranges in its errors.
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

/// An address as a number; both families fit.
pub(crate) fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address of the subnet's family that a number stands for.
fn address(subnet: &IpNet, number: u128) -> IpAddr {
    // An IPv4 number comes from an IPv4 subnet and fits 32 bits.
    if subnet.addr().is_ipv4() {
        IpAddr::V4((number as u32).into())
    } else {
        IpAddr::V6(number.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(subnet: &str, start: &str, end: &str, gateway: &str) -> RangeSpec {
        let address = |text: &str| text.parse().ok();
        RangeSpec {
            subnet: subnet.parse().ok(),
            start: address(start),
            end: address(end),
            gateway: address(gateway),
        }
    }

    /// The range and its gateway, or the error.
    fn range(subnet: &str, start: &str, end: &str, gateway: &str) -> String {
        match Range::new(&spec(subnet, start, end, gateway)) {
            Ok(range) => format!("{range} via {}", range.gateway()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        assert_eq!(range("192.0.2.0/24", "", "", ""), "192.0.2.1-192.0.2.254 via 192.0.2.1");
        assert_eq!(range("192.0.2.0/25", "", "", ""), "192.0.2.1-192.0.2.126 via 192.0.2.1");
        assert_eq!(range("192.0.2.0/30", "", "", ""), "192.0.2.1-192.0.2.2 via 192.0.2.1");
        assert_eq!(
            range("2001:db8:1::/64", "", "", ""),
            "2001:db8:1::1-2001:db8:1:0:ffff:ffff:ffff:ffff via 2001:db8:1::1"
        );
        assert_eq!(range("2001:db8::/126", "", "", ""), "2001:db8::1-2001:db8::3 via 2001:db8::1");
        assert_eq!(range("0.0.0.0/0", "", "", ""), "0.0.0.1-255.255.255.254 via 0.0.0.1");
    }

    #[test]
    fn what_is_given_is_kept() {
        assert_eq!(
            range("192.0.2.0/24", "192.0.2.0", "192.0.2.255", "10.0.0.1"),
            "192.0.2.0-192.0.2.255 via 10.0.0.1"
        );
        assert_eq!(
            range("192.0.2.0/24", "::ffff:192.0.2.7", "192.0.2.7", "::1"),
            "192.0.2.7-192.0.2.7 via ::1"
        );
    }

    #[test]
    fn a_wrong_range_is_refused_in_the_reference_s_words() {
        let no = |subnet, start, end| range(subnet, start, end, "");
        assert_eq!(no("", "", ""), "IP <nil> not v4 nor v6");
        assert_eq!(no("10.1.2.0/31", "", ""), "Network 10.1.2.0/31 too small to allocate from");
        assert_eq!(no("10.1.2.1/32", "", ""), "Network 10.1.2.1/32 too small to allocate from");
        assert_eq!(
            no("2001:db8::/127", "", ""),
            "Network 2001:db8::/127 too small to allocate from"
        );
        assert_eq!(no("::ffff:10.1.2.0/120", "", ""), "IPNet IP and Mask version mismatch");
        for (subnet, length, network) in [
            ("192.0.2.12/24", 24, "192.0.2.0"),
            ("192.0.3.0/23", 23, "192.0.2.0"),
            ("2001:db8:1::24/64", 64, "2001:db8:1::"),
            ("2001:db8:0:1::/63", 63, "2001:db8::"),
        ] {
            assert_eq!(
                no(subnet, "", ""),
                format!(
                    "Network has host bits set. For a subnet mask of length {length} the network address is {network}"
                )
            );
        }
        let start = |start, end| no("10.1.2.0/24", start, end);
        assert_eq!(start("10.1.3.1", ""), "RangeStart 10.1.3.1 not in network 10.1.2.0/24");
        assert_eq!(start("::1", ""), "RangeStart ::1 not in network 10.1.2.0/24");
        assert_eq!(
            start("10.1.2.20", "10.1.2.10"),
            "RangeStart 10.1.2.20 not in network 10.1.2.0/24"
        );
        assert_eq!(start("10.1.2.255", ""), "RangeStart 10.1.2.255 not in network 10.1.2.0/24");
        assert_eq!(start("", "10.1.3.1"), "RangeEnd 10.1.3.1 not in network 10.1.2.0/24");
        assert_eq!(start("", "10.1.2.0"), "RangeEnd 10.1.2.0 not in network 10.1.2.0/24");
        assert_eq!(start("10.1.2.9", "::1"), "RangeEnd ::1 not in network 10.1.2.0/24");
    }

    #[test]
    fn size_leaves_the_gateway_out_and_never_overflows() {
        let size = |subnet, gateway| Range::new(&spec(subnet, "", "", gateway)).unwrap().size();
        assert_eq!(size("10.1.2.0/24", ""), 253);
        assert_eq!(size("10.1.2.0/24", "10.9.9.9"), 254);
        assert_eq!(size("2001:db8::/64", ""), u128::from(u64::MAX) - 1);
        assert_eq!(size("::/0", "10.9.9.9"), u128::MAX);
        let all = Range::new(&spec("::/0", "::", "", "10.9.9.9")).unwrap();
        assert_eq!(all.size(), u128::MAX);
    }
}
