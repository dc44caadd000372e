//! What the state machine wants to see, from the kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use fabric::{Machine, PerFamily};
use kernel::{ForeignDrop, Kernel, Query, Result};
use net::nft::TableId;
use net::{LinkName, Networks, Object, Space, owner};

/// Addresses for documentation (RFC 5737, RFC 3849).
const NOWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// All that may be the agent's, and the routes of others to the `pods` of peers.
pub(super) fn look(
    kernel: &mut Kernel,
    space: &Space,
    devices: Vec<LinkName>,
    pods: &Networks,
) -> Result<Vec<Object>> {
    let protocol = owner::PROTOCOL;
    let table = TableId::new(net::nft::Family::Inet, owner::AGENT_NFT_TABLE);
    let mut queries: Vec<Query> = devices.iter().cloned().map(Query::On).collect();
    queries.extend([
        Query::Routes { protocol, by: devices, within: pods.clone() },
        Query::Rules { protocol },
        Query::NftTable(table),
    ]);
    let mut seen = Vec::new();
    for query in queries {
        seen.extend(kernel.observe(space, &query)?);
    }
    Ok(seen)
}

/// What others' firewalls drop, looked at now and then: their rulesets can be large.
#[derive(Debug, Default)]
pub(super) struct Droppers(Option<(Instant, Vec<String>)>);

impl Droppers {
    const FRESH: Duration = Duration::from_secs(50);

    fn get(&mut self, kernel: &mut Kernel, space: &Space) -> Vec<String> {
        match &self.0 {
            Some((when, known)) if when.elapsed() < Self::FRESH => known.clone(),
            _ => {
                // A ruleset that cannot be read keeps nobody from joining nodes.
                let found = kernel.forward_droppers(space).unwrap_or_default();
                let sentences: Vec<String> = found.iter().filter_map(sentence).collect();
                self.0 = Some((Instant::now(), sentences.clone()));
                sentences
            }
        }
    }
}

/// Only what drops whatever nobody has accepted before keeps pods apart for certain.
fn sentence(found: &ForeignDrop) -> Option<String> {
    let ForeignDrop { family, table, chain, policy_drop, drops_the_rest, .. } = found;
    let how = match (policy_drop, drops_the_rest) {
        (true, _) => "by its policy",
        (_, true) => "by a rule for the rest",
        _ => return None,
    };
    Some(format!(
        "chain {chain} of table {family:?} {table} drops {how} what it has not accepted, and nothing \
         that podwire accepts overrides that: have it accept what comes from and goes to pods"
    ))
}

/// What the machine has.
pub(super) fn survey(
    kernel: &mut Kernel,
    space: &Space,
    droppers: &mut Droppers,
) -> Result<Machine> {
    let mut machine = Machine { droppers: droppers.get(kernel, space), ..Machine::default() };
    for object in kernel.observe(space, &Query::LinksAndAddresses)? {
        match object {
            Object::Link(link) => machine.links.push(link),
            Object::Address(address) => machine.addresses.push(address),
            _ => {}
        }
    }
    // Where what nobody has a route of its own for would go: nothing is sent.
    let [v4, v6] = NOWHERE.map(|address| kernel.way_to(space, address));
    machine.default_routes = PerFamily { v4: v4?, v6: v6? };
    let version = kernel::release();
    machine.vni_filter = version >= (5, 18);
    machine.gpe_sound = version >= (6, 5);
    let mut carriers: Vec<&LinkName> = machine.addresses.iter().map(|it| &it.link).collect();
    carriers.sort();
    carriers.dedup();
    let is_hardware = |name: &&LinkName| {
        // Only hardware cuts packets by itself; what is virtual has a kind.
        machine.links.iter().any(|link| link.name == **name && link.kind.is_none())
    };
    let hardware: Vec<LinkName> = carriers.into_iter().filter(is_hardware).cloned().collect();
    for link in hardware {
        let Ok(features) = kernel.link_features(space, &link) else { continue };
        let driver = features.driver.as_deref();
        if features.tx_udp_tnl_segmentation == Some(true) && driver != Some("veth") {
            machine.tunnel_offload.push(link.clone());
        }
        // Whatever the kernel: its device sums up the wrong part of a tunnel's packets.
        if driver == Some("vmxnet3") {
            machine.spoils_checksums.push(link);
        }
    }
    Ok(machine)
}
