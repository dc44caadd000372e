//! What should be, of everything that is known: this node, all nodes, the machine.

use net::{Link, LinkKind, Object, Sysctl};

use crate::backend::{Joint, choose};
use crate::{
    Code, Config, Family, Machine, Node, NodeName, Nodes, PerFamily, Problem, Source, Uplink,
    choose_uplink, firewall,
};

/// What should be on this node.
#[derive(Debug, PartialEq)]
pub struct Desired<'a> {
    /// How peers are joined; `None` if nothing can be.
    pub joint: Option<Joint<'a>>,
    /// What all peers share, in the order in which it is made.
    pub shared: Vec<Object>,
    /// What keeps this node from being ready, or a family of it from being joined.
    pub problems: Vec<Problem>,
}

/// What should be on the node `name`: all that peers share now, and each peer when it is asked for.
pub fn desired<'a>(
    config: &'a Config,
    name: &NodeName,
    nodes: &Nodes,
    machine: &Machine,
) -> Desired<'a> {
    let mut problems = Vec::new();
    let Some(me) = nodes.get(name) else {
        let text = match config.source {
            Source::Etcd(_) => format!(
                "this node, {name}, has no lease of its name in etcd yet; its agent takes one when \
                 it runs"
            ),
            _ => format!(
                "this node, {name}, is not among the {} nodes of the source; add it, or set `node`",
                nodes.len()
            ),
        };
        problems.push(Problem::here(Code::NotListed, text));
        return Desired { joint: None, shared: Vec::new(), problems };
    };
    let mut uplinks = PerFamily::default();
    let mut missing = PerFamily::default();
    for family in Family::ALL {
        match choose_uplink(config, Some(me), machine, family) {
            Ok(uplink) => *uplinks.place(family) = Some(uplink),
            Err(problem) => *missing.place(family) = Some(problem),
        }
    }
    if uplinks.is_empty()
        && let Some((_, problem)) =
            missing.iter().find(|(family, _)| me.subnets.get(*family).is_some())
    {
        // Of both families the first: what is missing to one is mostly missing to both.
        problems.push(Problem::here(
            Code::NoUplink,
            format!("no other node is reached: {}", problem.text),
        ));
        return Desired { joint: None, shared: Vec::new(), problems };
    }
    let chosen = choose(config, machine, &uplinks);
    let spoils = |(_, uplink): (Family, &Uplink)| machine.spoils_checksums.contains(&uplink.link);
    let tx_checksum = config.tunnel.tx_checksum.or(uplinks.iter().any(spoils).then_some(false));
    let vni_filter = machine.vni_filter;
    let me = me.clone();
    let pod_networks = nodes.pod_networks(config).to_vec();
    let mut joint = Joint { config, me, pod_networks, uplinks, chosen, vni_filter, tx_checksum };
    for family in Family::ALL {
        let Some(subnet) = joint.me.subnets.get(family).copied() else { continue };
        if let Some(problem) = unfit(&joint, family, &subnet, &missing) {
            problems.push(problem);
            *joint.me.subnets.place(family) = None;
        }
    }
    if joint.me.subnets.is_empty() {
        if problems.is_empty() {
            let text = format!("this node, {name}, has no pod subnet in the source; give it one");
            problems.push(Problem::here(Code::NoSubnet, text));
        }
        return Desired { joint: None, shared: Vec::new(), problems };
    }
    if joint.me.subnets.get(Family::V6).is_some()
        && let Some(problem) = too_small(&mut joint)
    {
        problems.push(problem);
    }
    if let Some(problem) = foreign_device(&joint, machine) {
        problems.push(problem);
        return Desired { joint: None, shared: Vec::new(), problems };
    }
    for (_, uplink) in joint.uplinks.iter().filter(|(_, uplink)| !uplink.up) {
        let text = format!("{} is down, so that no node is reached; set it up", uplink.link);
        problems.push(Problem::here(Code::UplinkDown, text));
    }
    problems.extend(machine.droppers.iter().map(|text| Problem::note(Code::Dropper, text)));
    let mut shared = sysctls(&joint);
    shared.extend(joint.shared());
    shared.extend(firewall::base(&joint));
    Desired { joint: Some(joint), shared, problems }
}

impl Desired<'_> {
    /// What a peer adds, and why it is not reached if it is not.
    pub fn peer(&self, peer: &Node) -> (Vec<Object>, Vec<Problem>) {
        let Some(joint) = &self.joint else { return (Vec::new(), Vec::new()) };
        let (mut objects, mut problems) = (Vec::new(), Vec::new());
        for family in Family::ALL {
            match joint.peer(peer, family) {
                Ok(more) => objects.extend(more),
                Err(problem) => problems.push(problem),
            }
            objects.extend(firewall::peer(joint, peer, family));
        }
        (objects, problems)
    }
}

/// Why pods of `family` cannot be joined to other nodes' at all.
fn unfit(
    joint: &Joint<'_>,
    family: Family,
    subnet: &ipnet::IpNet,
    missing: &PerFamily<Problem>,
) -> Option<Problem> {
    if let Some(on_link) = joint.on_underlay(subnet) {
        let text = format!(
            "our own pod subnet {subnet} overlaps with {on_link}, which the underlay has; give \
             this node's pods another one"
        );
        return Some(Problem::here(Code::SubnetOnUnderlay, text));
    }
    let reachable = match (joint.has_tunnel(), family) {
        (true, _) => joint.outer(family).is_some(),
        (false, Family::V4) => true,
        (false, Family::V6) => joint.uplinks.v6.is_some(),
    };
    if reachable {
        return None;
    }
    let cause = missing.get(family).map(|problem| problem.text.clone()).unwrap_or_default();
    let text = format!(
        "{family} pods cannot be joined: {cause}. Backend gpe carries both families over either one"
    );
    Some(Problem::here(Code::Families, text))
}

/// The smallest link that IPv6 works on (RFC 8200 section 5).
const IPV6_MINIMUM: u32 = 1280;

/// Takes IPv6 out where the kernel would take it off the tunnel.
fn too_small(joint: &mut Joint<'_>) -> Option<Problem> {
    let mtu = joint.mtu().filter(|mtu| *mtu < IPV6_MINIMUM)?;
    joint.me.subnets.v6 = None;
    let text = format!(
        "IPv6 pods cannot be joined: packets of at most {mtu} bytes get through, and IPv6 needs \
         {IPV6_MINIMUM}; raise the underlay's MTU (or `mtu`), or take backend gpe, which needs 14 \
         bytes less"
    );
    Some(Problem::here(Code::Mtu, text))
}

/// A device of the tunnel's name that is no tunnel end is somebody else's.
fn foreign_device(joint: &Joint<'_>, machine: &Machine) -> Option<Problem> {
    let names = Family::ALL.map(|family| joint.device(family));
    let found = machine
        .links
        .iter()
        .find(|link| joint.has_tunnel() && names.contains(&link.name) && !is_tunnel(link))?;
    let text = format!(
        "{} is there and is not a VXLAN device, so it is not ours: delete it, or set tunnel.device \
         to another name",
        found.name
    );
    Some(Problem::here(Code::ForeignDevice, text))
}

/// Whether a device can be one of ours.
pub(crate) fn is_tunnel(link: &Link) -> bool {
    matches!(link.kind, Some(LinkKind::Vxlan(_)))
}

/// A node forwards, as routers do.
fn sysctls(joint: &Joint<'_>) -> Vec<Object> {
    let mut sysctls = Vec::new();
    // The check of where packets come from has to see the marks of `firewall::direct`. Where it is not
    // strict, all goes well without.
    if let Some(uplink) = joint.uplinks.v4.as_ref().filter(|_| joint.has_tunnel()) {
        let key = format!("net/ipv4/conf/{}/src_valid_mark", uplink.link);
        sysctls.push(Sysctl::nicety(key, "1"));
    }
    if joint.me.subnets.v4.is_some() {
        sysctls.push(Sysctl::new("net/ipv4/ip_forward", "1"));
    }
    if joint.me.subnets.v6.is_some() {
        // A router does not listen to other routers unless it is told to: without this, the node
        // loses the default route that one of them gave it.
        if let Some(uplink) = &joint.uplinks.v6 {
            let key = format!("net/ipv6/conf/{}/accept_ra", uplink.link);
            sysctls.push(Sysctl::nicety(key, "2"));
        }
        sysctls.push(Sysctl::new("net/ipv6/conf/all/forwarding", "1"));
    }
    sysctls.into_iter().map(Object::Sysctl).collect()
}
