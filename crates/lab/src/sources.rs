//! What there is to look at of a lab.

use std::path::Path;

use topology::{Files, NodeFiles, Place, Sources};

use crate::{Lab, Namespace, Role, Runtime};

impl Lab {
    /// A lab by itself, with its files in `directory`. Its nodes are called as their namespaces are,
    /// because several labs may have a `node1`.
    pub fn sources(&self, directory: &Path) -> Sources {
        let place = |namespace: &Namespace| {
            let (role, node) = match namespace.role {
                Role::Node => (topology::Role::Node, Some(namespace)),
                Role::Pod => (topology::Role::Pod, self.node_of(namespace)),
                Role::Underlay => (topology::Role::Underlay, None),
                Role::Outside => (topology::Role::Outside, None),
                Role::Plain => (topology::Role::Other, None),
            };
            Place {
                name: namespace.public.clone(),
                path: namespace.private_path(directory),
                role,
                node: node.map(|node| node.public.clone()),
                lab: Some(self.name.to_string()),
            }
        };
        let node = |node: &Namespace| {
            let Runtime { cache, reservations, configurations } = self.runtime(directory, node)?;
            Some(NodeFiles {
                name: node.public.clone(),
                lab: Some(self.name.to_string()),
                namespace: node.private_path(directory),
                files: Files {
                    cache,
                    reservations: vec![reservations],
                    configurations: vec![configurations],
                },
            })
        };
        Sources {
            places: self.namespaces.iter().map(place).collect(),
            nodes: self.nodes().filter_map(node).collect(),
            whole: None,
        }
    }
}
