//! What people call the namespaces that were found, what these are for, and on which node they are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kernel::NetnsId;

use super::spaces::identity;
use super::{Place, Sources};
use crate::node::Attachment;
use crate::{Container, Namespace, Node, Role};

/// Gives each namespace a name of its own, and orders them: the machine's own first, then those that
/// were known beforehand in their order, then the others by node and name.
pub(super) fn give(
    namespaces: &mut [Namespace],
    sources: &Sources,
    own: Option<NetnsId>,
    nodes: &[Node],
    containers: &[(Option<NetnsId>, Container)],
) {
    let places: BTreeMap<NetnsId, &Place> =
        sources.places.iter().filter_map(|it| Some((identity(&it.path)?, it))).collect();
    let mut attached: BTreeMap<NetnsId, Vec<(&Node, &Attachment)>> = BTreeMap::new();
    for node in nodes {
        for attachment in &node.attachments {
            if let Some(id) = attachment.namespace {
                attached.entry(id).or_default().push((node, attachment));
            }
        }
    }
    let by_container: BTreeMap<&str, &Container> =
        containers.iter().map(|(_, it)| (it.id.as_str(), it)).collect();
    let mut by_namespace: BTreeMap<NetnsId, Vec<&Container>> = BTreeMap::new();
    for (id, container) in containers {
        if let Some(id) = id {
            by_namespace.entry(*id).or_default().push(container);
        }
    }
    for namespace in namespaces.iter_mut() {
        let id = namespace.id;
        let attached = attached.get(&id).map_or(&[][..], Vec::as_slice);
        namespace.containers = inside(namespace, attached, &by_container, by_namespace.get(&id));
        if own == Some(id) {
            namespace.role = Role::Host;
            namespace.node = nodes.first().map(|node| node.name.clone());
        }
        // A container without a network of its own is in its node's, whoever has attached it.
        else if let Some((node, _)) = attached.first().filter(|(it, _)| it.namespace != Some(id))
        {
            namespace.role = Role::Pod;
            namespace.node = Some(node.name.clone());
            namespace.lab.clone_from(&node.lab);
        } else if namespace.containers.iter().any(|it| it.pod.is_some()) {
            namespace.role = Role::Pod;
            namespace.node = own.and_then(|_| nodes.first()).map(|node| node.name.clone());
        }
        if let Some(place) = places.get(&id) {
            namespace.role = place.role;
            namespace.node.clone_from(&place.node);
            namespace.lab.clone_from(&place.lab);
        }
        namespace.name = match places.get(&id) {
            Some(place) => place.name.clone(),
            None if own == Some(id) => "host".to_owned(),
            None => name(namespace),
        };
    }
    make_unique(namespaces);
    let beforehand = |it: &Namespace| {
        let is_it = |place: &Place| places.get(&it.id).is_some_and(|known| *known == place);
        sources.places.iter().position(is_it).unwrap_or(usize::MAX)
    };
    namespaces.sort_by_cached_key(|it| {
        let node = it.node.as_deref().map(natural);
        (it.role != Role::Host, beforehand(it), node.is_none(), node, natural(&it.name))
    });
}

/// A name in the order in which people count: `pod2` before `pod10`.
fn natural(name: &str) -> Vec<(String, Option<u64>)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest.find(|it: char| it.is_ascii_digit()).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(digits);
        let end = tail.find(|it: char| !it.is_ascii_digit()).unwrap_or(tail.len());
        let (number, tail) = tail.split_at(end);
        parts.push((text.to_owned(), number.parse().ok()));
        rest = tail;
    }
    parts
}

/// The containers in a namespace, by all that speaks of them.
fn inside(
    namespace: &Namespace,
    attached: &[(&Node, &Attachment)],
    by_id: &BTreeMap<&str, &Container>,
    told: Option<&Vec<&Container>>,
) -> Vec<Container> {
    let mut found: BTreeMap<String, Container> = BTreeMap::new();
    for container in told.into_iter().flatten() {
        found.insert(container.id.clone(), (*container).clone());
    }
    let groups: BTreeSet<&str> =
        namespace.processes.iter().map(|process| process.cgroup.as_str()).collect();
    for id in groups.into_iter().filter_map(container_of) {
        let known = || by_id.get(id).map(|it| (*it).clone());
        found.entry(id.to_owned()).or_insert_with(|| known().unwrap_or(Container::new(id)));
    }
    for (_, attachment) in attached {
        let id = &attachment.container_id;
        let container = found.entry(id.clone()).or_insert_with(|| {
            by_id.get(id.as_str()).map_or_else(|| Container::new(id), |it| (*it).clone())
        });
        if container.pod.is_none() {
            container.pod.clone_from(&attachment.pod);
        }
    }
    found.into_values().collect()
}

/// The container that a control group is of: runtimes call the group, or the last but one, by the
/// container's 64 digits, with the runtime's name in front and `.scope` behind under systemd.
fn container_of(group: &str) -> Option<&str> {
    group.rsplit('/').find_map(|part| {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        let part = part.rsplit('-').next().unwrap_or(part);
        let is_id = part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then_some(part)
    })
}

/// What a namespace that nobody has named beforehand is called.
fn name(namespace: &Namespace) -> String {
    let pod = namespace.containers.iter().find_map(|it| it.pod.as_ref());
    if let Some(pod) = pod {
        return pod.to_string();
    }
    let bound = namespace.paths.iter().find(|path| !path.starts_with("/proc"));
    let bound = bound.and_then(|path| path.file_name());
    if let Some(name) = bound.filter(|_| namespace.paths.iter().any(|path| is_named(path))) {
        return name.to_string_lossy().into_owned();
    }
    if let Some(name) = namespace.containers.iter().find_map(|it| it.name.as_ref()) {
        return name.clone();
    }
    if let Some(container) = namespace.containers.first() {
        return container.id.chars().take(12).collect();
    }
    if let Some(name) = bound {
        return name.to_string_lossy().into_owned();
    }
    match namespace.processes.first() {
        Some(process) => format!("{}-{}", process.name, process.pid),
        None => format!("net:[{}]", namespace.id.inode),
    }
}

/// Whether a path is one of those that `ip netns` knows, and not what a runtime made by chance.
fn is_named(path: &Path) -> bool {
    let named = [net::NAMED, "/var/run/netns"].iter().any(|names| path.starts_with(names));
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    named && !(name.starts_with(b"cni-") || name.starts_with(b"netns-"))
}

/// Two of one name are told apart by their inodes.
fn make_unique(namespaces: &mut [Namespace]) {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for namespace in namespaces.iter() {
        *count.entry(namespace.name.clone()).or_default() += 1;
    }
    for namespace in namespaces {
        if count.get(&namespace.name).is_some_and(|count| *count > 1)
            && namespace.role != Role::Host
        {
            namespace.name = format!("{}@{}", namespace.name, namespace.id.inode);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_told_by_their_control_groups() {
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        for group in [
            format!("/kubepods/besteffort/pod1/{id}"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            format!("/machine.slice/libpod-{id}.scope/container"),
            format!("/docker/{id}"),
        ] {
            assert_eq!(container_of(&group), Some(id), "{group}");
        }
        assert_eq!(container_of("/system.slice/ssh.service"), None);
    }

    #[test]
    fn names_are_ordered_as_people_count() {
        let mut names = ["pod10", "pod2", "pod", "10", "9a", ""];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["", "9a", "10", "pod", "pod2", "pod10"]);
    }

    #[test]
    fn no_two_are_called_the_same() {
        let space = |name: &str, inode| Namespace {
            name: name.to_owned(),
            ..Namespace::new(NetnsId { device: 4, inode })
        };
        let mut all = [space("a", 1), space("b", 2), space("a", 3)];
        make_unique(&mut all);
        assert_eq!(all.map(|it| it.name), ["a@1", "b", "a@3"]);
    }
}
