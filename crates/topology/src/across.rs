//! One cluster that is on several machines: what a machine has to tell of its part, and all parts put
//! together.

use std::collections::BTreeSet;

use kernel::NetnsId;

use crate::{Machine, Role};

impl Machine {
    /// What is of the node whose namespace this is: the node, its pods, and nothing else. It is empty
    /// where that namespace is no node's.
    pub fn of_node(mut self, id: NetnsId) -> Self {
        let own = self.namespaces.iter().find(|namespace| namespace.id == id);
        let Some((node, lab)) = own.map(|it| (it.node.clone(), it.lab.clone())) else {
            return Self::default();
        };
        self.namespaces.retain(|it| {
            it.lab == lab && (it.id == id || (it.role == Role::Pod && it.node == node))
        });
        self.nodes.retain(|it| it.namespace == Some(id));
        self
    }

    /// The parts of a cluster as one machine, in which [`part`] tells whose a namespace is. Names that
    /// two of them have are told apart by the names of the parts.
    pub fn across(parts: Vec<(String, Self)>) -> Self {
        let mut whole = Self::default();
        let mut names = BTreeSet::new();
        for (number, (name, part)) in parts.into_iter().enumerate() {
            let id = |id: NetnsId| NetnsId {
                device: ((number as u64 + 1) << SHIFT) | (id.device & ((1 << SHIFT) - 1)),
                ..id
            };
            if number == 0 {
                whole.host = part.host;
            }
            for mut node in part.nodes {
                node.namespace = node.namespace.map(id);
                for attachment in &mut node.attachments {
                    attachment.namespace = attachment.namespace.map(id);
                }
                node.name = if node.lab.is_none() { name.clone() } else { node.name };
                whole.nodes.push(node);
            }
            for mut namespace in part.namespaces {
                namespace.id = id(namespace.id);
                namespace.known.values_mut().for_each(|known| *known = id(*known));
                if namespace.lab.is_none() {
                    namespace.node = Some(name.clone());
                }
                if namespace.role == Role::Host {
                    namespace.role = Role::Node;
                    namespace.name.clone_from(&name);
                }
                if !names.insert(namespace.name.clone()) {
                    namespace.name = format!("{name}/{}", namespace.name);
                }
                whole.namespaces.push(namespace);
            }
            whole.gaps.extend(part.gaps.into_iter().map(|mut gap| {
                gap.what = format!("{name}: {}", gap.what);
                gap
            }));
        }
        whole
    }
}

/// Devices of nsfs have small numbers; above them is room for whose they are.
const SHIFT: u32 = 32;

/// Which of the parts that were put together this namespace is of.
pub fn part(id: NetnsId) -> Option<usize> {
    usize::try_from(id.device >> SHIFT).ok()?.checked_sub(1)
}
