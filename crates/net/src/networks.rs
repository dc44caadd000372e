//! Many networks to be searched for the one that something is a part of.

use ipnet::IpNet;

/// Networks of which none overlaps another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one that `part` is a part of, or is itself.
    pub fn around(&self, part: &IpNet) -> Option<IpNet> {
        let end = self.0.partition_point(|it| it <= part);
        self.0[..end].last().filter(|it| it.contains(part)).copied()
    }
}

impl FromIterator<IpNet> for Networks {
    /// None of them may overlap another.
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let mut all: Vec<IpNet> = networks.into_iter().collect();
        all.sort_unstable();
        Self(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_found_in_its_network() {
        let net = |text: &str| -> IpNet { text.parse().unwrap() };
        let all = ["10.2.0.0/24", "10.1.0.0/23", "fd00:1::/64", "10.0.0.0/24"].map(net);
        let networks: Networks = all.into_iter().collect();
        for (part, whole) in [
            ("10.1.0.0/23", Some("10.1.0.0/23")),
            ("10.1.1.7/32", Some("10.1.0.0/23")),
            ("10.0.0.0/25", Some("10.0.0.0/24")),
            ("fd00:1::8/128", Some("fd00:1::/64")),
            ("10.1.0.0/22", None),
            ("10.1.2.0/24", None),
            ("9.0.0.0/24", None),
            ("0.0.0.0/0", None),
            ("fd00:2::/64", None),
        ] {
            assert_eq!(networks.around(&net(part)), whole.map(net), "{part}");
        }
        assert_eq!(Networks::default().around(&net("10.0.0.0/24")), None);
    }
}
