//! Which subnets a cluster's configuration offers, and which of them one node takes. Never I/O.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fabric::flannel::NetConf;
use fabric::{Family, PerFamily};
use ipnet::IpNet;

/// How many free subnets are looked at: nodes that come at the same time take different ones.
const CHOICE: usize = 100;

/// The subnets of one family that are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) network: IpNet,
    len: u8,
    /// The first and the last subnet, as numbers.
    first: u128,
    last: u128,
}

/// What a family may be cut into: the same for both but for the numbers.
struct Limits {
    family: Family,
    /// What a subnet is if nobody says.
    usual: u8,
    /// How the keys of the configuration are called.
    keys: [&'static str; 4],
}

const V4: Limits = Limits {
    family: Family::V4,
    usual: 24,
    keys: ["Network", "SubnetLen", "SubnetMin", "SubnetMax"],
};

const V6: Limits = Limits {
    family: Family::V6,
    usual: 64,
    keys: ["IPv6Network", "IPv6SubnetLen", "IPv6SubnetMin", "IPv6SubnetMax"],
};

/// The ranges of a configuration, or what is wrong with it.
pub(super) fn ranges(conf: &NetConf) -> Result<PerFamily<Range>, String> {
    let v4 = || {
        let (min, max) = (conf.subnet_min.map(IpAddr::V4), conf.subnet_max.map(IpAddr::V4));
        range(&V4, conf.network.map(IpNet::V4), conf.subnet_len, min, max)
    };
    let v6 = || {
        let (min, max) =
            (conf.ipv6_subnet_min.map(IpAddr::V6), conf.ipv6_subnet_max.map(IpAddr::V6));
        range(&V6, conf.ipv6_network.map(IpNet::V6), conf.ipv6_subnet_len, min, max)
    };
    let ranges = PerFamily {
        v4: conf.enable_ipv4.then(v4).transpose()?,
        v6: conf.enable_ipv6.then(v6).transpose()?,
    };
    if ranges.is_empty() {
        return Err("EnableIPv4 and EnableIPv6 are both false".to_owned());
    }
    Ok(ranges)
}

fn range(
    limits: &Limits,
    network: Option<IpNet>,
    len: Option<u8>,
    min: Option<IpAddr>,
    max: Option<IpAddr>,
) -> Result<Range, String> {
    let [network_key, len_key, min_key, max_key] = limits.keys;
    let bits = limits.family.bits();
    let network = network.ok_or_else(|| format!("it has no {network_key}"))?.trunc();
    let prefix = network.prefix_len();
    // Four subnets of four addresses: the first is passed over, and two would be no choice.
    if prefix == 0 || prefix > bits - 4 {
        return Err(format!("{network_key} {network} is not in /1 to /{}", bits - 4));
    }
    let len = len.filter(|len| *len > 0).unwrap_or((prefix + 2).max(limits.usual));
    if !(prefix + 2..=bits - 2).contains(&len) {
        let (least, most) = (prefix + 2, bits - 2);
        return Err(format!("{len_key} {len} is not in {least} to {most}, as {network} needs"));
    }
    let size = 1_u128 << (bits - len);
    let start = number(network.network());
    let bound = |key: &str, given: Option<IpAddr>, usual: u128| {
        let Some(given) = given.filter(|it| !it.is_unspecified()) else { return Ok(usual) };
        let number = number(given);
        if !network.contains(&given) {
            Err(format!("{key} {given} is not in {network}"))
        } else if !number.is_multiple_of(size) {
            Err(format!("{key} {given} is not the first address of a /{len}"))
        } else {
            Ok(number)
        }
    };
    // The first subnet shares its address with the whole network, which some would take for a
    // broadcast address.
    let first = bound(min_key, min, start + size)?;
    let last = bound(max_key, max, start + ((1_u128 << (bits - prefix)) - size))?;
    if first > last {
        return Err(format!("{min_key} is behind {max_key}"));
    }
    Ok(Range { network, len, first, last })
}

impl Range {
    /// Whether `subnet` is one that it gives out.
    pub(super) fn has(&self, subnet: IpNet) -> bool {
        subnet.prefix_len() == self.len
            && self.network.contains(&subnet)
            && (self.first..=self.last).contains(&number(subnet.network()))
    }

    /// The first and the last subnet's address.
    pub(super) fn bounds(&self) -> (IpAddr, IpAddr) {
        (self.address(self.first), self.address(self.last))
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.network {
            IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
            IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }

    fn subnet(&self, number: u128) -> Option<IpNet> {
        IpNet::new(self.address(number), self.len).ok()
    }

    /// Those that overlap none of `taken`, in order.
    fn free<'a>(&'a self, taken: &'a [IpNet]) -> impl Iterator<Item = IpNet> + 'a {
        let size = 1_u128 << (Family::of_net(self.network).bits() - self.len);
        // Nearly all are of one length: those are looked up, so that a full network of many
        // thousands is searched at once. The few others are compared.
        let (narrow, wide): (Vec<&IpNet>, _) =
            taken.iter().partition(|net| net.prefix_len() >= self.len);
        let narrow: HashSet<u128> =
            narrow.into_iter().map(|net| number(net.network()) / size * size).collect();
        let is_free = move |net: &IpNet| {
            !narrow.contains(&number(net.network())) && !wide.iter().any(|it| it.contains(net))
        };
        let numbers = std::iter::successors(Some(self.first), move |it| it.checked_add(size));
        let numbers = numbers.take_while(|it| *it <= self.last);
        numbers.filter_map(|it| self.subnet(it)).filter(is_free)
    }
}

/// One subnet of each range: that in `before` if it is free, else one of the first that are, by
/// `seed`. The range that has none is the error.
pub(super) fn choose(
    ranges: &PerFamily<Range>,
    taken: &[IpNet],
    before: &PerFamily<IpNet>,
    seed: u64,
) -> Result<PerFamily<IpNet>, Range> {
    let mut chosen = PerFamily::default();
    for (family, range) in ranges.iter() {
        let same: Vec<IpNet> =
            taken.iter().copied().filter(|net| Family::of_net(*net) == family).collect();
        let is_free = |net: &IpNet| range.has(*net) && !same.iter().any(|it| overlap(*it, *net));
        let subnet = match before.get(family).copied().filter(is_free) {
            Some(subnet) => subnet,
            None => {
                let free: Vec<IpNet> = range.free(&same).take(CHOICE).collect();
                let count = free.len() as u64;
                let place = seed.checked_rem(count).ok_or(*range)?;
                free[usize::try_from(place).unwrap_or_default()]
            }
        };
        *chosen.place(family) = Some(subnet);
    }
    Ok(chosen)
}

/// Whether one is within the other.
pub(super) fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> NetConf {
        serde_json::from_str(text).unwrap()
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_flannels() {
        for (text, first, last, len) in [
            (r#"{"Network":"10.5.0.0/16"}"#, "10.5.1.0", "10.5.255.0", 24),
            (r#"{"Network":"10.5.3.4/16","SubnetLen":0}"#, "10.5.1.0", "10.5.255.0", 24),
            (r#"{"Network":"10.5.0.0/22"}"#, "10.5.1.0", "10.5.3.0", 24),
            (r#"{"Network":"10.5.0.0/23"}"#, "10.5.0.128", "10.5.1.128", 25),
            (r#"{"Network":"10.5.0.16/28"}"#, "10.5.0.20", "10.5.0.28", 30),
            (
                r#"{"Network":"10.0.0.0/8","SubnetLen":20,"SubnetMin":"10.10.0.0","SubnetMax":"10.99.0.0"}"#,
                "10.10.0.0",
                "10.99.0.0",
                20,
            ),
        ] {
            let range = ranges(&conf(text)).unwrap().v4.unwrap();
            let (first, last) = (first.parse().unwrap(), last.parse().unwrap());
            assert_eq!((range.bounds(), range.len), ((first, last), len), "{text}");
        }
        for (text, first, last, len) in [
            ("fc00::/48", "fc00:0:0:1::", "fc00:0:0:ffff::", 64),
            ("fc00::/62", "fc00:0:0:1::", "fc00:0:0:3::", 64),
            ("fc00::/63", "fc00:0:0:0:8000::", "fc00:0:0:1:8000::", 65),
            ("fc00::/124", "fc00::4", "fc00::c", 126),
        ] {
            let text =
                format!(r#"{{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"{text}"}}"#);
            let ranges = ranges(&conf(&text)).unwrap();
            assert_eq!(ranges.v4, None);
            let range = ranges.v6.unwrap();
            let (first, last) = (first.parse().unwrap(), last.parse().unwrap());
            assert_eq!((range.bounds(), range.len), ((first, last), len), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_key() {
        for (text, expected) in [
            (r#"{}"#, "it has no Network"),
            (r#"{"Network":"10.0.0.0/29"}"#, "Network 10.0.0.0/29 is not in /1 to /28"),
            (r#"{"Network":"0.0.0.0/0"}"#, "Network 0.0.0.0/0"),
            (r#"{"Network":"10.0.0.0/16","SubnetLen":17}"#, "SubnetLen 17 is not in 18 to 30"),
            (r#"{"Network":"10.0.0.0/16","SubnetLen":31}"#, "SubnetLen 31"),
            (r#"{"Network":"10.0.0.0/16","SubnetMin":"10.1.0.0"}"#, "SubnetMin 10.1.0.0 is not in"),
            (r#"{"Network":"10.0.0.0/16","SubnetMax":"10.0.9.1"}"#, "first address of a /24"),
            (
                r#"{"Network":"10.0.0.0/16","SubnetMin":"10.0.9.0","SubnetMax":"10.0.8.0"}"#,
                "SubnetMin is behind SubnetMax",
            ),
            (r#"{"Network":"10.0.0.0/16","EnableIPv6":true}"#, "it has no IPv6Network"),
            (r#"{"EnableIPv4":false}"#, "both false"),
        ] {
            let error = ranges(&conf(text)).unwrap_err();
            assert!(error.contains(expected), "{error}\n  does not say\n{expected}");
        }
    }

    #[test]
    fn what_is_taken_is_not_chosen() {
        let ranges = ranges(&conf(r#"{"Network":"10.5.0.0/21"}"#)).unwrap();
        let none = PerFamily::default();
        let mut taken = vec![net("10.5.1.0/24"), net("10.5.2.128/25"), net("10.5.4.0/23")];
        for seed in 0..20 {
            let chosen = choose(&ranges, &taken, &none, seed).unwrap().v4.unwrap();
            assert!(["10.5.3.0/24", "10.5.6.0/24", "10.5.7.0/24"].map(net).contains(&chosen));
        }
        let before = PerFamily { v4: Some(net("10.5.6.0/24")), v6: None };
        assert_eq!(choose(&ranges, &taken, &before, 0).unwrap(), before);
        taken.push(net("10.5.6.0/24"));
        assert!(choose(&ranges, &taken, &before, 0).unwrap() != before);
        taken.push(net("10.5.0.0/21"));
        assert_eq!(choose(&ranges, &taken, &before, 0), Err(ranges.v4.unwrap()));
    }

    #[test]
    fn a_full_network_is_searched_at_once() {
        let ranges = ranges(&conf(
            r#"{"Network":"10.0.0.0/8","EnableIPv6":true,"IPv6Network":"fc00::/32"}"#,
        ))
        .unwrap();
        let all: Vec<IpNet> = ranges.v4.unwrap().free(&[]).collect();
        assert_eq!(all.len(), 65535);
        let none = PerFamily::default();
        let but_one = &all[..all.len() - 1];
        let chosen = choose(&ranges, but_one, &none, 7).unwrap();
        assert_eq!(chosen.v4, Some(net("10.255.255.0/24")));
        assert!(ranges.v6.unwrap().has(chosen.v6.unwrap()), "{chosen:?}");
    }
}
