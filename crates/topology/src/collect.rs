//! Reading a machine, the one thing of this room that is not pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use kernel::{Kernel, Netns, NetnsId, Result};
use net::Space;

use crate::{Machine, Namespace, Role};

/// A namespace whose name and role are known beforehand, as those of labs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What people call it.
    pub name: String,
    /// Where it is bound.
    pub path: PathBuf,
    /// What it is for.
    pub role: Role,
    /// The node that it is, or is on.
    pub node: Option<String>,
    /// The lab that it belongs to.
    pub lab: Option<String>,
}

impl Place {
    /// A namespace of which no more is known than its name.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), path: path.into(), role: Role::Other, node: None, lab: None }
    }
}

impl Machine {
    /// Looks at these namespaces, one after the other, and at nothing else.
    pub fn collect(kernel: &mut Kernel, places: &[Place]) -> Result<Self> {
        let open = |place: &Place| Netns::open(&place.path);
        let opened: Vec<Netns> = places.iter().map(open).collect::<Result<_>>()?;
        let ids: Vec<NetnsId> = opened.iter().map(Netns::id).collect::<Result<_>>()?;
        let mut look = |place: &Place, id: &NetnsId| {
            let Place { name, path, role, node, lab } = place.clone();
            let space = Space::At(path.clone());
            let dump = kernel.dump(&space)?;
            let numbers = dump.links.values().filter_map(|link| link.parent_netns);
            let mut wanted: BTreeSet<i32> = numbers.collect();
            let mut known = BTreeMap::new();
            for (other, id) in opened.iter().zip(&ids) {
                if wanted.is_empty() {
                    break;
                }
                if let Some(number) = kernel.number_of(&space, other)?
                    && wanted.remove(&number)
                {
                    known.insert(number, *id);
                }
            }
            let paths = vec![path];
            Ok(Namespace { name, role, node, lab, paths, known, dump, ..Namespace::new(*id) })
        };
        let namespaces = places.iter().zip(&ids).map(|(place, id)| look(place, id));
        Ok(Self { namespaces: namespaces.collect::<Result<_>>()?, ..Self::default() })
    }
}
