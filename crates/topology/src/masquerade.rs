//! Masquerade in plain words, read from the rules of podwire's plugins.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use net::nft::{
    Chain, ChainKind, Element, Field, Key, Mapped, Object, Statement, Test, Value, Verdict,
};
use net::owner::{AGENT_NFT_TABLE, PLUGIN_NFT_TABLE};

/// Who leaves a namespace with its address instead of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masquerade {
    /// One rule a network.
    pub networks: Vec<Network>,
    /// The networks whose hosts are masqueraded by the agent when they leave the cluster.
    pub clusters: Vec<IpNet>,
}

/// The hosts of one network that are masqueraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Within this network they keep their own addresses; `None` for hosts that are networks of
    /// their own.
    pub spared: Option<IpNet>,
    /// Who they are.
    pub hosts: Vec<IpAddr>,
}

impl Masquerade {
    /// Reads a ruleset. Each host is an element that leads to the chain of its network, and that
    /// chain spares the network before it masquerades.
    pub(crate) fn read(ruleset: &[Object]) -> Self {
        let ours = ruleset.iter().filter_map(|object| match object {
            Object::Chain(chain) if chain.table.name == PLUGIN_NFT_TABLE => Some(chain),
            _ => None,
        });
        let network = |chain: &Chain| {
            let masquerades = |it: &Statement| matches!(it, Statement::Masquerade { .. });
            let statements = chain.rules.iter().flat_map(|rule| &rule.statements);
            statements.clone().find(|it| masquerades(it))?;
            let spared = statements.filter_map(destination).find(|net| !is_multicast(*net));
            let leads_here = |object: &Object| match object {
                Object::Element(element) if element.table == chain.table => host(element, chain),
                _ => None,
            };
            let mut hosts: Vec<IpAddr> = ruleset.iter().filter_map(leads_here).collect();
            hosts.sort();
            Some(Network { spared, hosts })
        };
        let mut networks: Vec<Network> = ours.filter_map(network).collect();
        networks.sort_by_key(|network| network.spared);
        Self { networks, clusters: clusters(ruleset) }
    }
}

/// The networks that the agent's rules look at before they masquerade.
fn clusters(ruleset: &[Object]) -> Vec<IpNet> {
    let chains = ruleset.iter().filter_map(|object| match object {
        Object::Chain(chain) if chain.table.name == AGENT_NFT_TABLE => Some(chain),
        _ => None,
    });
    let is_nat = |chain: &&Chain| chain.base.as_ref().is_some_and(|it| it.kind == ChainKind::Nat);
    let rules = chains.filter(is_nat).flat_map(|chain| &chain.rules);
    let source = |statement: &Statement| match statement {
        Statement::Match {
            field: Field::IpSource | Field::Ip6Source,
            negated: false,
            test: Test::Within(net),
        } => Some(*net),
        _ => None,
    };
    rules.filter_map(|rule| rule.statements.iter().find_map(source)).collect()
}

fn is_multicast(net: IpNet) -> bool {
    net.addr().is_multicast()
}

fn destination(statement: &Statement) -> Option<IpNet> {
    match statement {
        Statement::Match {
            field: Field::IpDestination | Field::Ip6Destination,
            negated: false,
            test: Test::Within(net),
        } => Some(*net),
        _ => None,
    }
}

fn host(element: &Element, chain: &Chain) -> Option<IpAddr> {
    match (&element.key, &element.value) {
        (Key::Point(key), Some(Mapped::Verdict(Verdict::Goto(to) | Verdict::Jump(to))))
            if *to == chain.name =>
        {
            match key[..] {
                [Value::Address(address)] => Some(address),
                _ => None,
            }
        }
        _ => None,
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = match self.hosts.len() {
            1 => "1 pod".to_owned(),
            count => format!("{count} pods"),
        };
        match self.spared {
            Some(network) => write!(f, "{network} leaves with this node's address ({hosts})"),
            None => {
                let verb = if self.hosts.len() == 1 { "leaves" } else { "leave" };
                write!(f, "{hosts} without a subnet {verb} with this node's address")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use net::nft::{Family, Rule, TableId};

    use super::*;

    fn table() -> TableId {
        TableId::new(Family::Inet, PLUGIN_NFT_TABLE)
    }

    fn element(address: &str, chain: &str) -> Object {
        Object::Element(Element {
            table: table(),
            set: "masquerade4".into(),
            key: Key::Point(vec![Value::Address(address.parse().unwrap())]),
            value: Some(Mapped::Verdict(Verdict::Goto(chain.to_owned()))),
            comment: None,
        })
    }

    #[test]
    fn the_plugins_rules_are_understood() {
        let spare = |net: &str| {
            let (field, negated) = (Field::IpDestination, false);
            let test = Test::Within(net.parse().unwrap());
            let found = Statement::Match { field, negated, test };
            Rule::new([found, Statement::Verdict(Verdict::Return)])
        };
        let chain = Chain {
            table: table(),
            name: "subnet".to_owned(),
            base: None,
            rules: vec![
                spare("10.1.0.0/24"),
                spare("224.0.0.0/4"),
                Rule::new([Statement::Masquerade { fully_random: false }]),
            ],
        };
        let ruleset = [
            Object::Chain(chain),
            element("10.1.0.3", "subnet"),
            element("10.1.0.2", "subnet"),
            element("10.2.0.2", "elsewhere"),
        ];
        let read = Masquerade::read(&ruleset);
        assert_eq!(read.networks.len(), 1);
        assert_eq!(
            read.networks[0].to_string(),
            "10.1.0.0/24 leaves with this node's address (2 pods)"
        );
        assert_eq!(Masquerade::read(&ruleset[1..]), Masquerade::default());

        let single = Chain {
            table: table(),
            name: "hosts4".to_owned(),
            base: None,
            rules: vec![
                spare("224.0.0.0/4"),
                Rule::new([Statement::Masquerade { fully_random: false }]),
            ],
        };
        let read = Masquerade::read(&[Object::Chain(single), element("10.1.0.2", "hosts4")]);
        let text = "1 pod without a subnet leaves with this node's address";
        assert_eq!(read.networks[0].to_string(), text);
    }
}
