//! What is left over of pods, labs and agents that are gone, ours and others'.
//!
//! Only what is certain is called left over: where nothing tells whether something is in use, it is
//! not mentioned.

use std::collections::BTreeSet;

use cni::hash::Named;
use net::nft::{Element, Object as NftObject};
use net::owner::{AGENT_NFT_TABLE, PLUGIN_NFT_TABLE};
use net::{Change, Object, Plan, Space, Step};
use topology::{Attachment, Machine, Namespace, Node, Role};

use super::Surroundings;
use crate::{Code, Finding, Thing, words};

/// Something that nobody needs any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// What it is.
    pub finding: Finding,
    /// What takes it away; empty where it is not ours, or where a command of its own does it.
    pub repair: Plan,
}

/// Looks for them.
pub fn leftovers(machine: &Machine, surroundings: &Surroundings) -> Vec<Leftover> {
    let mut leftovers: Vec<Leftover> = dead_names(surroundings).collect();
    for node in &machine.nodes {
        let namespace = machine.namespaces.iter().find(|it| Some(it.id) == node.namespace);
        leftovers.extend(attachments(node));
        leftovers.extend(namespace.and_then(|namespace| elements(node, namespace)));
    }
    let own = machine.namespaces.iter().find(|it| it.role == Role::Host);
    leftovers.extend(own.and_then(|own| network(own, surroundings)));
    leftovers
}

fn others(finding: Finding) -> Leftover {
    Leftover { finding, repair: Plan::new() }
}

fn dead_names(surroundings: &Surroundings) -> impl Iterator<Item = Leftover> {
    surroundings.dead_names.iter().map(|path| {
        let text = format!("{} is the name of a namespace that is gone.", path.display());
        let consequence = "`ip netns` lists it and cannot enter it, and no new namespace can have \
            that name.";
        let quoted = net::quote(&path.display().to_string());
        others(
            Finding::new(Code::DeadName, text, consequence, Vec::new())
                .remedy(format!("rm {quoted}"))
                .shown_by("ip netns list"),
        )
    })
}

/// Whether the runtime's own note leads to a namespace that is gone.
fn is_gone(attachment: &Attachment) -> bool {
    attachment.netns.is_some() && attachment.namespace.is_none()
}

/// Attachments of containers that are gone, one finding for all of a node.
fn attachments(node: &Node) -> Option<Leftover> {
    let gone: Vec<&Attachment> = node.attachments.iter().filter(|it| is_gone(it)).collect();
    let first = gone.first()?;
    let text = format!(
        "{} remembers {} of containers whose namespace is gone, such as {} on network {}.",
        node.name,
        words::count(gone.len(), "attachment"),
        first.container_id,
        first.network,
    );
    let consequence = "Their addresses stay reserved, and their rules stay, until the runtime takes \
        them back.";
    let directory = first.file.parent().map(|it| it.display().to_string()).unwrap_or_default();
    Some(others(
        Finding::new(Code::AttachmentLeft, text, consequence, Vec::new())
            .remedy("have the runtime remove the container (crictl rmp ID, podman rm ID), or run GC: podwire cni gc")
            .shown_by(format!("ls -l {}", net::quote(&directory))),
    ))
}

/// Elements of the plugins' sets for attachments that are gone: the host's end of their cable is not
/// there, and the node's files do not know them, or know that they are gone.
fn elements(node: &Node, namespace: &Namespace) -> Option<Leftover> {
    let links: BTreeSet<&str> = namespace.links().map(|link| link.name.as_str()).collect();
    // Without any note nothing is certain: it may be kept elsewhere.
    let knows = |network: &str| {
        node.attachments.iter().any(|it| it.network == network)
            || node.reservations.iter().any(|it| it.network == network)
    };
    let is_noted = |mark: &Named<'_>| {
        // What a long comment has no room for is the end of the container's name.
        let attached = node.attachments.iter().any(|it| {
            !is_gone(it)
                && it.network == mark.network
                && it.container_id.starts_with(mark.container_id)
        });
        let reservations = node.reservations.iter().filter(|it| it.network == mark.network);
        let mut entries = reservations.flat_map(|it| &it.entries);
        attached || entries.any(|it| it.container_id.starts_with(mark.container_id))
    };
    let is_left = |element: &&Element| {
        let mark = element.comment.as_deref().and_then(Named::read);
        element.table.name == PLUGIN_NFT_TABLE
            && mark.filter(|mark| !mark.container_id.is_empty()).is_some_and(|mark| {
                !links.contains(mark.instance) && knows(mark.network) && !is_noted(&mark)
            })
    };
    let all = namespace.dump.nft.iter().filter_map(|object| match object {
        NftObject::Element(element) => Some(element),
        _ => None,
    });
    let left: Vec<&Element> = all.filter(is_left).collect();
    let first = left.first()?;
    let text = format!(
        "Table inet {PLUGIN_NFT_TABLE} in {} has {} of pods that are gone, such as the one of {}.",
        namespace.name,
        words::count(left.len(), "element"),
        first.comment.as_deref().unwrap_or_default(),
    );
    let consequence = "Their host ports lead nowhere, and a new pod with such an address is treated \
        as the old one was.";
    let finding =
        Finding::new(Code::ElementLeft, text, consequence, vec![Thing::Namespace(namespace.id)])
            .remedy("podwire doctor --fix")
            .shown_by(format!("nft list table inet {PLUGIN_NFT_TABLE}"));
    let space = match (namespace.role, namespace.path()) {
        (Role::Host, _) | (_, None) => Space::Here,
        (_, Some(path)) => Space::At(path.to_owned()),
    };
    let delete = |element: &&Element| Step {
        space: space.clone(),
        change: Change::Delete(Object::Nft(NftObject::Element((*element).clone()))),
        why: "the pod that it is for is gone".into(),
    };
    Some(Leftover { finding, repair: left.iter().map(delete).collect() })
}

/// The agent's network on a node where no agent runs.
fn network(own: &Namespace, surroundings: &Surroundings) -> Option<Leftover> {
    let is_ours = |object: &NftObject| match object {
        NftObject::Table(table) => table.id.name == AGENT_NFT_TABLE,
        _ => false,
    };
    if surroundings.agent_runs || !own.dump.nft.iter().any(is_ours) {
        return None;
    }
    let text = "This node is joined to others, and no agent runs.".to_owned();
    let consequence = "Pods go on reaching each other, but nothing is repaired, and nodes that come \
        are not joined.";
    Some(others(
        Finding::new(Code::AgentGone, text, consequence, vec![Thing::Namespace(own.id)])
            .remedy("systemctl start podwire-agent; or, for good: podwire agent --cleanup")
            .shown_by(format!("nft list table inet {AGENT_NFT_TABLE}; podwire agent status")),
    ))
}

#[cfg(test)]
mod tests {
    use net::nft::{Family, Key, TableId};
    use topology::{NetnsId, Reservation, Reservations};

    use super::*;

    const ID: NetnsId = NetnsId { device: 4, inode: 1 };

    /// A node that has given an address to container `lives`, with an element for `container`.
    fn machine(container: &str, network: &str) -> Machine {
        let comment = format!("0123-veth00000000000, net: {network}, if: eth0, id: {container}");
        let element = Element {
            table: TableId { family: Family::Inet, name: PLUGIN_NFT_TABLE.into() },
            set: "masquerade4".into(),
            key: Key::Point(vec![net::nft::Value::Address([10, 1, 0, 2].into())]),
            value: None,
            comment: Some(comment),
        };
        let mut own = Namespace { role: Role::Host, ..Namespace::new(ID) };
        own.dump.nft.push(NftObject::Element(element));
        let entry = Reservation {
            address: [10, 1, 0, 2].into(),
            container_id: "lives".to_owned(),
            ifname: "eth0".to_owned(),
        };
        let reservations = Reservations {
            directory: "/n".into(),
            network: "n".to_owned(),
            entries: vec![entry],
            last: [].into(),
            subnets: Vec::new(),
        };
        let node = Node {
            name: "n1".to_owned(),
            lab: None,
            namespace: Some(ID),
            attachments: Vec::new(),
            reservations: vec![reservations],
            configurations: Vec::new(),
        };
        Machine { nodes: vec![node], namespaces: vec![own], ..Machine::default() }
    }

    fn codes(machine: &Machine) -> Vec<(Code, usize)> {
        let found = leftovers(machine, &Surroundings::default());
        found.iter().map(|it| (it.finding.code, it.repair.len())).collect()
    }

    #[test]
    fn elements_of_pods_that_are_gone_can_be_taken_away() {
        assert_eq!(codes(&machine("gone", "n")), [(Code::ElementLeft, 1)]);
    }

    #[test]
    fn what_is_in_use_or_unknown_is_not_left_over() {
        assert_eq!(codes(&machine("lives", "n")), []);
        // The end of its name found no room.
        assert_eq!(codes(&machine("liv", "n")), []);
        assert_eq!(codes(&machine("gone", "elsewhere")), []);
    }

    #[test]
    fn attachments_without_namespace_are_told_once_a_node() {
        let mut machine = machine("lives", "n");
        let attachment = |netns: Option<&str>| Attachment {
            file: "/var/lib/cni/results/n-c-eth0".into(),
            network: "n".to_owned(),
            container_id: "c".to_owned(),
            ifname: "eth0".to_owned(),
            pod: None,
            netns: netns.map(Into::into),
            namespace: None,
            addresses: Vec::new(),
            ports: Vec::new(),
            nameservers: Vec::new(),
        };
        machine.nodes[0].attachments = vec![attachment(None)];
        assert_eq!(codes(&machine), []);
        machine.nodes[0].attachments = vec![attachment(Some("/run/netns/c")); 3];
        let found = leftovers(&machine, &Surroundings::default());
        assert!(found[0].finding.text.contains("3 attachments"), "{found:?}");
        assert_eq!(codes(&machine), [(Code::AttachmentLeft, 0)]);
    }
}
