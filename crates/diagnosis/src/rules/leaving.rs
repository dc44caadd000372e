//! Who leaves a node with its address, in a line each: what pictures say of masquerade.
//!
//! Told are rules that name where packets come from, and ask for nothing else but that they do not go
//! somewhere. What others do, such as those for marked packets, is left to sentences.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use net::nft::{Field, Hook, Key, Object, Statement, Test, Value};

use super::{Action, Condition, Effect, MOST_EFFECTS, Packet, Rules};
use crate::words;

/// A line for each network whose hosts leave a node with its address instead of their own, by a
/// ruleset of whatever writer.
pub fn leaving(ruleset: &[Object]) -> Vec<String> {
    let rules = Rules::new(ruleset);
    let effects = rules.effects(&[Hook::Postrouting], &Packet::default());
    if rules.is_exhausted() || effects.len() >= MOST_EFFECTS {
        return Vec::new();
    }
    let mut pods: BTreeMap<Option<IpNet>, BTreeSet<IpAddr>> = BTreeMap::new();
    let mut networks = BTreeMap::new();
    for effect in effects.iter().filter(|it| it.action == Action::Masquerade) {
        for source in sources(effect).unwrap_or_default() {
            if source.prefix_len() == source.max_prefix_len() {
                let spared = effect.unless.iter().filter_map(|it| network(it));
                let own = spared.clone().find(|net| net.contains(&source));
                pods.entry(own).or_default().insert(source.addr());
            } else {
                let is_told = effect.unless.iter().any(|it| is_cluster(it));
                networks.insert(source, if is_told { " the cluster" } else { "" });
            }
        }
    }
    let pods = pods.into_iter().map(|(own, pods)| {
        let verb = if pods.len() == 1 { "leaves" } else { "leave" };
        let pods = words::count(pods.len(), "pod");
        match own {
            Some(net) => format!("{net} leaves with this node's address ({pods})"),
            None => format!("{pods} without a subnet {verb} with this node's address"),
        }
    });
    let networks = networks
        .into_iter()
        .map(|(net, what)| format!("{net} leaves{what} with this node's address"));
    pods.chain(networks).collect()
}

/// What an effect is for, as the last of its conditions on that says; `None` if it is for less.
fn sources(effect: &Effect<'_>) -> Option<Vec<IpNet>> {
    let mut sources = None;
    for condition in &effect.when {
        match condition {
            Condition::Statement(Statement::Match { negated: true, .. }, _) => {}
            Condition::Statement(Statement::Match { field, test, .. }, _) => match field {
                Field::NetworkFamily | Field::EtherType => {}
                Field::IpSource | Field::Ip6Source => sources = Some(vec![within(test)?]),
                _ => return None,
            },
            Condition::Keys { fields: [Field::IpSource | Field::Ip6Source], keys } => {
                let host = |key: &&Key| match key {
                    Key::Point(parts) => parts.first().and_then(address),
                    _ => None,
                };
                sources = Some(keys.iter().map(host).collect::<Option<_>>()?);
            }
            _ => return None,
        }
    }
    sources
}

fn within(test: &Test) -> Option<IpNet> {
    match test {
        Test::Within(net) => Some(*net),
        Test::Is(value) => address(value),
        _ => None,
    }
}

fn address(value: &Value) -> Option<IpNet> {
    match value {
        Value::Address(address) => Some((*address).into()),
        _ => None,
    }
}

/// The network that is spared, whatever is sent there.
fn network(spared: &[Condition<'_>]) -> Option<IpNet> {
    let [Condition::Statement(Statement::Match { field, negated: false, test }, _)] = spared else {
        return None;
    };
    is_destination(*field).then(|| within(test)).flatten()
}

/// Whether what is spared are the networks of a set.
fn is_cluster(spared: &[Condition<'_>]) -> bool {
    match spared {
        [Condition::Statement(Statement::Lookup { key, negated: false, .. }, _)] => {
            key.iter().all(|field| is_destination(*field))
        }
        _ => false,
    }
}

fn is_destination(field: Field) -> bool {
    matches!(field, Field::IpDestination | Field::Ip6Destination)
}

#[cfg(test)]
mod tests {
    use net::nft::{
        Base, Chain, ChainKind, Element, Family, Mapped, Policy, Rule, TableId, Verdict,
    };

    use super::*;

    fn table() -> TableId {
        TableId::new(Family::Inet, "t")
    }

    fn chain(name: &str, rules: Vec<Rule>) -> Object {
        let is_base = name == "postrouting";
        let base = Base {
            kind: ChainKind::Nat,
            hook: Hook::Postrouting,
            priority: 100,
            policy: Policy::Accept,
            devices: Vec::new(),
        };
        Chain { table: table(), name: name.to_owned(), base: is_base.then_some(base), rules }.into()
    }

    fn rule(conditions: &[(Field, &str)], last: Statement) -> Rule {
        let test = |(field, net): &(Field, &str)| Statement::within(*field, net.parse().unwrap());
        Rule::new(conditions.iter().map(test).chain([last]).collect::<Vec<_>>())
    }

    fn element(address: &str, set: &str, chain: Option<&str>) -> Object {
        Object::Element(Element {
            table: table(),
            set: set.into(),
            key: Key::Point(vec![Value::Address(address.parse().unwrap())]),
            value: chain.map(|chain| Mapped::Verdict(Verdict::Goto(chain.to_owned()))),
            comment: None,
        })
    }

    fn masquerade() -> Statement {
        Statement::Masquerade { fully_random: false }
    }

    #[test]
    fn pods_that_are_looked_up_are_told_with_their_network() {
        let spare = |net| rule(&[(Field::IpDestination, net)], Statement::Verdict(Verdict::Return));
        let rest = || Rule::new([masquerade()]);
        let ruleset = [
            chain("postrouting", vec![Rule::new([Statement::vmap([Field::IpSource], "m")])]),
            chain("subnet", vec![spare("10.1.0.0/24"), spare("224.0.0.0/4"), rest()]),
            chain("hosts", vec![spare("224.0.0.0/4"), rest()]),
            element("10.1.0.3", "m", Some("subnet")),
            element("10.1.0.2", "m", Some("subnet")),
            element("10.2.0.2", "m", Some("hosts")),
            element("10.3.0.2", "m", Some("elsewhere")),
        ];
        let expected = [
            "1 pod without a subnet leaves with this node's address",
            "10.1.0.0/24 leaves with this node's address (2 pods)",
        ];
        assert_eq!(leaving(&ruleset), expected);
        assert!(leaving(&ruleset[1..]).is_empty());
    }

    #[test]
    fn networks_are_told_unless_the_rule_is_for_less() {
        let source = (Field::IpSource, "10.4.0.0/16");
        let pods = || element("10.4.0.2", "pods", None);
        let told = |rules| leaving(&[chain("postrouting", rules), pods()]);
        let text = "10.4.0.0/16 leaves with this node's address";
        assert_eq!(told(vec![rule(&[source], masquerade())]), [text]);
        let for_less = [source, (Field::IpDestination, "10.5.0.0/16")];
        assert!(told(vec![rule(&for_less, masquerade())]).is_empty());
        assert!(told(vec![Rule::new([masquerade()])]).is_empty());
        let set = Statement::lookup([Field::IpDestination], "pods");
        let spare = Rule::new([set, Statement::Verdict(Verdict::Return)]);
        let text = "10.4.0.0/16 leaves the cluster with this node's address";
        assert_eq!(told(vec![spare, rule(&[source], masquerade())]), [text]);
    }
}
