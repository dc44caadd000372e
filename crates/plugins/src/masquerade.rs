//! Masquerade: what a pod sends beyond its subnet leaves with the node's address.
//!
//! One map element a pod, so that a pod costs the same at the thousandth as at the first. The map
//! leads to the chain of the pod's subnet, which all pods of that subnet share.
//!
//! ```text
//! table inet podwire_cni {
//!     map masquerade4 { type ipv4_addr : verdict; elements = { 10.1.0.2 : goto subnet-10.1.0.0/16 } }
//!     chain postrouting { type nat hook postrouting priority srcnat; ip saddr vmap @masquerade4; … }
//!     chain subnet-10.1.0.0/16 { ip daddr { own subnet, multicast } return; masquerade }
//! }
//! ```

use std::net::IpAddr;

use cni::{Error, IpConfig};
use ipnet::IpNet;
use kernel::Kernel;
use net::nft::{
    Base, Chain, ChainKind, Element, Family, Field, Hook, Key, KeyType, MapValue, Mapped, Object,
    Policy, Rule, Set, SetFlags, Statement, TableId, Test, Value, Verdict, priority,
};
use net::{Change, Plan, Space, Step, owner};

use crate::attachment::Attachment;
use crate::interface;

/// The element that an address has in its map, whoever made it.
pub(crate) fn element_of(kernel: &mut Kernel, address: IpAddr) -> Result<Option<Element>, Error> {
    kernel.nft_element(&Space::Here, &table(), map(address), &key(address)).map_err(Error::internal)
}

/// What an earlier owner of the same addresses left in the maps.
pub(crate) fn stale(kernel: &mut Kernel, given: &[IpConfig]) -> Result<Vec<Element>, Error> {
    let mut found = Vec::new();
    for address in interface::addresses(given) {
        let element = element_of(kernel, address)
            .map_err(|error| Error::internal(format!("failed to set up masquerade: {error}")))?;
        found.extend(element);
    }
    Ok(found)
}

/// The table of the plugins for IP packets.
pub(crate) fn table() -> TableId {
    TableId::new(Family::Inet, owner::PLUGIN_NFT_TABLE)
}

/// The map that holds the addresses of a family.
fn map(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "masquerade4" } else { "masquerade6" }
}

/// The key of an address in its map.
fn key(address: IpAddr) -> Key {
    Key::Point(vec![Value::Address(address)])
}

/// The steps that masquerade `addresses`. `stale` are elements that were found under the same
/// keys: an address that was reserved anew belongs to its new owner, whatever an earlier one left.
pub(crate) fn plan(
    space: &Space,
    attachment: &Attachment,
    addresses: &[IpNet],
    stale: &[Element],
) -> Plan {
    let mut plan = Plan::new();
    let mut ensure = |object: Object, why| {
        plan.push(Step::new(space, Change::Ensure(net::Object::Nft(object)), why));
    };
    ensure(table().into(), "is where podwire's plugins keep their rules");
    for (name, kind) in [("masquerade4", KeyType::Ipv4Addr), ("masquerade6", KeyType::Ipv6Addr)] {
        ensure(verdict_map(name, kind).into(), "knows the pods that leave with the node's address");
    }
    let mut subnets: Vec<IpNet> = addresses.iter().map(IpNet::trunc).collect();
    subnets.dedup_by_key(|subnet| chain_name(*subnet));
    for subnet in &subnets {
        ensure(subnet_chain(*subnet).into(), "spares what stays in the pod's subnet");
    }
    ensure(postrouting().into(), "looks each pod up once a connection");
    for address in addresses {
        let element = element(attachment, *address);
        let found = stale.iter().find(|old| old.set == element.set && old.key == element.key);
        let change = match found {
            Some(old) => Change::replace(old.clone(), element),
            None => Change::Create(net::Object::Nft(element.into())),
        };
        plan.push(Step::new(space, change, "lets the pod reach the world with the node's address"));
    }
    plan
}

/// The element of one address.
fn element(attachment: &Attachment, address: IpNet) -> Element {
    Element {
        table: table(),
        set: map(address.addr()).into(),
        key: key(address.addr()),
        value: Some(Mapped::Verdict(Verdict::Goto(chain_name(address.trunc())))),
        comment: Some(attachment.comment()),
    }
}

fn verdict_map(name: &str, kind: KeyType) -> Set {
    Set {
        table: table(),
        name: name.to_owned(),
        key: vec![kind],
        value: Some(MapValue::Verdict),
        flags: SetFlags::default(),
        comment: None,
    }
}

/// The rules for all pods.
pub(crate) fn postrouting() -> Chain {
    let look_up = |field, map: &str| {
        Rule::new([Statement::VerdictMap { key: vec![field], map: map.to_owned() }])
    };
    Chain {
        table: table(),
        name: "postrouting".to_owned(),
        base: Some(Base {
            kind: ChainKind::Nat,
            hook: Hook::Postrouting,
            priority: priority::SRCNAT,
            policy: Policy::Accept,
            devices: Vec::new(),
        }),
        rules: vec![
            look_up(Field::IpSource, "masquerade4"),
            look_up(Field::Ip6Source, "masquerade6"),
        ],
    }
}

/// The rules for the pods of one subnet.
pub(crate) fn subnet_chain(subnet: IpNet) -> Chain {
    let (field, multicast) = match subnet {
        IpNet::V4(_) => (Field::IpDestination, "224.0.0.0/4"),
        IpNet::V6(_) => (Field::Ip6Destination, "ff00::/8"),
    };
    let spare = |net: IpNet| {
        Rule::new([
            Statement::Match { field, negated: false, test: Test::Within(net) },
            Statement::Verdict(Verdict::Return),
        ])
    };
    // What a pod sends to itself does not come by here.
    let own = Some(subnet).filter(|subnet| !interface::is_single(*subnet));
    let spared = [own, multicast.parse().ok()].into_iter().flatten().map(spare);
    let masquerade = Rule::new([Statement::Masquerade { fully_random: false }]);
    Chain {
        table: table(),
        name: chain_name(subnet),
        base: None,
        rules: spared.chain([masquerade]).collect(),
    }
}

/// `subnet-10.1.0.0/16`; colons are not allowed in names, so `subnet-fd00__/64` for IPv6. Pods that
/// are subnets of their own (/32, /128) share a chain, because chains stay when pods go.
fn chain_name(subnet: IpNet) -> String {
    match subnet {
        _ if !interface::is_single(subnet) => format!("subnet-{subnet}").replace(':', "_"),
        IpNet::V4(_) => "hosts4".to_owned(),
        IpNet::V6(_) => "hosts6".to_owned(),
    }
}
