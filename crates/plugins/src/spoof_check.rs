//! The spoof check: a pod's frames pass the bridge only with the pod's own hardware address.
//!
//! Two set elements a pod, and two rules for all of them.
//!
//! ```text
//! table bridge podwire_cni {
//!     set allowed { type ifname . ether_addr }
//!     set guarded { type ifname }
//!     chain prerouting { type filter hook prerouting priority -300;
//!         iifname . ether saddr @allowed accept; iifname @guarded drop }
//! }
//! ```

use net::nft::{
    Base, Chain, ChainKind, Element, Family, Field, Hook, Key, KeyType, Object, Policy, Rule, Set,
    SetFlags, Statement, TableId, Value, Verdict, priority,
};
use net::{Change, LinkName, Mac, Plan, Space, Step, owner};

use crate::attachment::Attachment;

/// The set of the ports that are guarded.
pub(crate) const GUARDED: &str = "guarded";
/// The sets, in the order in which a pod's elements are removed.
pub(crate) const SETS: [&str; 2] = [GUARDED, "allowed"];

/// The key of a port in the set of guarded ports.
pub(crate) fn guard(link: &LinkName) -> Key {
    Key::Point(vec![Value::Interface(link.clone())])
}

/// The table of the plugins for frames.
pub(crate) fn table() -> TableId {
    TableId::new(Family::Bridge, owner::PLUGIN_NFT_TABLE)
}

/// The steps that bind the port `link` to `mac`.
pub(crate) fn plan(space: &Space, attachment: &Attachment, link: &LinkName, mac: Mac) -> Plan {
    let mut plan = Plan::new();
    let mut step = |change: fn(net::Object) -> Change, object: Object, why| {
        plan.push(Step::new(space, change(net::Object::Nft(object)), why));
    };
    step(Change::Ensure, table().into(), "is where podwire's plugins keep their rules for frames");
    for (name, key) in
        [("allowed", vec![KeyType::Ifname, KeyType::EtherAddr]), ("guarded", vec![KeyType::Ifname])]
    {
        step(Change::Ensure, set(name, key).into(), "knows the guarded ports");
    }
    step(Change::Ensure, prerouting().into(), "drops frames with a hardware address of others");
    for (name, key) in [
        ("allowed", vec![Value::Interface(link.clone()), Value::Ether(mac)]),
        ("guarded", vec![Value::Interface(link.clone())]),
    ] {
        let element = Element {
            table: table(),
            set: name.into(),
            key: Key::Point(key),
            value: None,
            comment: Some(attachment.comment()),
        };
        step(Change::Create, element.into(), "binds the pod to its hardware address");
    }
    plan
}

fn set(name: &str, key: Vec<KeyType>) -> Set {
    Set {
        table: table(),
        name: name.to_owned(),
        key,
        value: None,
        flags: SetFlags::default(),
        comment: None,
    }
}

/// The rules for all ports.
pub(crate) fn prerouting() -> Chain {
    let rule = |key: Vec<Field>, set: &str, verdict| {
        let lookup = Statement::Lookup { key, negated: false, set: set.to_owned() };
        Rule::new([lookup, Statement::Verdict(verdict)])
    };
    Chain {
        table: table(),
        name: "prerouting".to_owned(),
        base: Some(Base {
            kind: ChainKind::Filter,
            hook: Hook::Prerouting,
            priority: priority::RAW,
            policy: Policy::Accept,
            devices: Vec::new(),
        }),
        rules: vec![
            rule(vec![Field::InputName, Field::EtherSource], "allowed", Verdict::Accept),
            rule(vec![Field::InputName], "guarded", Verdict::Drop),
        ],
    }
}
