//! From what is to what should be.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;

use crate::change::Change;
use crate::nft;
use crate::{Link, LinkKind, LinkName, Mac, Object, Plan, Route, Space, Step};

/// The steps that turn `seen` into `want` in `space`: what is missing is created, what differs is
/// replaced, and what is `ours` but no longer wanted is deleted. What is neither wanted nor ours is
/// left alone. Deletions come first and in reverse order, so that what stands on something goes
/// before it; creations keep the order of `want`. It takes time in proportion to both, and what is
/// wanted, because it is mostly what the plan is made of.
pub fn diff(
    space: &Space,
    want: Vec<Object>,
    seen: &[Object],
    ours: impl Fn(&Object) -> bool,
) -> Plan {
    // Where nothing is seen, nothing can be stale.
    let wanted: HashSet<Key<'_>> = match seen.is_empty() {
        true => HashSet::new(),
        false => want.iter().map(Key::of).collect(),
    };
    let mut found = HashMap::with_capacity(seen.len());
    for object in seen {
        found.entry(Key::of(object)).or_insert(object);
    }
    let stale = |object: &&Object| ours(object) && !wanted.contains(&Key::of(object));
    let deletions = seen
        .iter()
        .rev()
        .filter(stale)
        .map(|object| Step::new(space, Change::Delete(object.clone()), "is no longer wanted"));
    let mut plan: Plan = deletions.collect();
    drop(wanted);
    // Mostly either all of it is missing, or hardly anything.
    if found.is_empty() {
        plan.reserve(want.len());
    }
    for object in want {
        match found.get(&Key::of(&object)) {
            None => plan.push(Step::new(space, Change::Create(object), "is missing")),
            Some(found) if is_satisfied(&object, found) => {}
            Some(found) if is_replaceable(&object, found) => {
                let change = Change::replace(Object::clone(found), object);
                plan.push(Step::new(space, change, "is not as it should be"));
            }
            Some(found) => {
                let change = Change::Delete(Object::clone(found));
                plan.push(Step::new(space, change, "is not as it should be"));
                plan.push(Step::new(space, Change::Create(object), "is not as it should be"));
            }
        }
    }
    plan
}

/// What makes two objects the same one, whatever else they say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key<'a>(Kind<'a>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind<'a> {
    Netns(&'a Path),
    Link(&'a LinkName),
    Address(&'a LinkName, IpNet),
    Route(u32, IpNet, u32),
    Rule(u32, bool, Option<(u32, u32)>, Option<IpNet>, Option<IpNet>),
    Neighbour(&'a LinkName, IpAddr),
    Fdb(&'a LinkName, Mac, Option<IpAddr>),
    Vni(&'a LinkName, u32),
    Qdisc(&'a LinkName),
    Sysctl(&'a str),
    Tracked(u8, SocketAddr, SocketAddr),
    File(&'a Path),
    Table(&'a nft::TableId),
    Chain(&'a nft::TableId, &'a str),
    Set(&'a nft::TableId, &'a str),
    Element(&'a nft::TableId, &'a str, &'a nft::Key),
}

impl<'a> Key<'a> {
    /// The key of an object.
    pub fn of(object: &'a Object) -> Self {
        Self(match object {
            Object::Netns(it) => Kind::Netns(&it.path),
            Object::Link(it) => Kind::Link(&it.name),
            Object::Address(it) => Kind::Address(&it.link, it.address),
            Object::Route(it) => Kind::Route(it.table, it.destination, it.effective_metric()),
            // A rule that matches addresses has their family, whatever its flag says.
            Object::Rule(it) => Kind::Rule(it.priority, it.is_v6(), it.fwmark, it.from, it.to),
            Object::Neighbour(it) => Kind::Neighbour(&it.link, it.address),
            Object::Fdb(it) => Kind::Fdb(&it.link, it.mac, it.to),
            Object::Vni(it) => Kind::Vni(&it.link, it.vni),
            Object::Qdisc(it) => Kind::Qdisc(&it.link),
            Object::Sysctl(it) => Kind::Sysctl(&it.key),
            Object::Tracked(it) => Kind::Tracked(it.protocol, it.from, it.to),
            Object::File(it) => Kind::File(&it.path),
            Object::Nft(nft::Object::Table(it)) => Kind::Table(&it.id),
            Object::Nft(nft::Object::Chain(it)) => Kind::Chain(&it.table, &it.name),
            Object::Nft(nft::Object::Set(it)) => Kind::Set(&it.table, &it.name),
            Object::Nft(nft::Object::Element(it)) => Kind::Element(&it.table, &it.set, &it.key),
        })
    }
}

fn is_satisfied(want: &Object, seen: &Object) -> bool {
    match (want, seen) {
        (Object::Link(want), Object::Link(seen)) => want.is_satisfied_by(seen),
        (Object::Route(want), Object::Route(seen)) => {
            let plain =
                |route: &Route| Route { metric: Some(route.effective_metric()), ..route.clone() };
            plain(want) == plain(seen)
        }
        _ => want == seen,
    }
}

/// Whether one message can turn `seen` into `want`.
fn is_replaceable(want: &Object, seen: &Object) -> bool {
    match (want, seen) {
        (Object::Link(Link { kind, .. }), Object::Link(seen)) => {
            // A veth is seen without its kind.
            let is_veth = matches!(kind, Some(LinkKind::Veth { .. })) && seen.kind.is_none();
            kind.is_none() || *kind == seen.kind || is_veth
        }
        (Object::Rule(_) | Object::Netns(_) | Object::Tracked(_), _) => false,
        (Object::Nft(nft::Object::Chain(_)), _) => true,
        // All that is in it stays.
        (Object::Nft(nft::Object::Table(want)), Object::Nft(nft::Object::Table(seen))) => {
            want.comment == seen.comment
        }
        (Object::Nft(_), _) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, owner};

    fn route(to: &str, via: &str) -> Object {
        let mut route = Route::new(to.parse().unwrap());
        route.gateway = Some(via.parse().unwrap());
        route.protocol = owner::PROTOCOL;
        route.into()
    }

    fn ours(object: &Object) -> bool {
        matches!(object, Object::Route(route) if route.protocol == owner::PROTOCOL)
    }

    fn changes(plan: Plan) -> Vec<Change> {
        plan.into_iter().map(|step| step.change).collect()
    }

    #[test]
    fn missing_different_and_stale() {
        let want = [route("10.1.0.0/24", "192.0.2.1"), route("10.2.0.0/24", "192.0.2.2")];
        let mut foreign = Route::new("10.9.0.0/24".parse().unwrap());
        foreign.protocol = 4;
        let seen =
            [route("10.2.0.0/24", "192.0.2.9"), route("10.3.0.0/24", "192.0.2.3"), foreign.into()];
        assert_eq!(
            changes(diff(&Space::Here, want.to_vec(), &seen, ours)),
            [
                Change::Delete(seen[1].clone()),
                Change::Create(want[0].clone()),
                Change::replace(seen[0].clone(), want[1].clone()),
            ]
        );
        assert_eq!(diff(&Space::Here, want.to_vec(), &want, ours), []);
    }

    #[test]
    fn what_is_left_open_is_satisfied() {
        let name: LinkName = "cni0".parse().unwrap();
        let want = Link::bridge(name.clone()).up();
        let seen = Link { mtu: Some(1400), up: Some(true), ..Link::bridge(name) };
        assert_eq!(diff(&Space::Here, vec![want.clone().into()], &[seen.clone().into()], ours), []);
        let down = Link { up: Some(false), ..seen };
        let plan = changes(diff(&Space::Here, vec![want.into()], &[down.into()], ours));
        assert!(matches!(plan[..], [Change::Replace { .. }]));
    }

    #[test]
    fn an_unset_metric_is_the_kernels_default() {
        let mut want = Route::new("fd00::/64".parse().unwrap());
        let mut seen = want.clone();
        seen.metric = Some(1024);
        assert_eq!(diff(&Space::Here, vec![want.clone().into()], &[seen.clone().into()], ours), []);
        want.metric = Some(5);
        assert_eq!(diff(&Space::Here, vec![want.into()], &[seen.into()], ours).len(), 1);
    }

    #[test]
    fn keys_tell_addresses_apart() {
        let link: LinkName = "eth0".parse().unwrap();
        let a: Object = Address::new(link.clone(), "10.0.0.1/24".parse().unwrap()).into();
        let b: Object = Address::new(link, "10.0.0.1/16".parse().unwrap()).into();
        assert!(Key::of(&a) != Key::of(&b));
    }
}
