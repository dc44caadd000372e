//! Reading a machine, the one thing of this room that is not pure.
//!
//! Namespaces are looked for first, then each is looked at once, by several threads; whose numbers
//! its devices speak of is settled afterwards, when all are known. Nothing is changed, and nothing
//! is read but the kernel and the files of [`Sources`]. What goes away meanwhile is left out; what
//! is there and cannot be read is a [gap](Gap).

mod files;
mod look;
mod names;
mod numbers;
mod parallel;
mod resolvers;
mod runtimes;
mod spaces;

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use kernel::{Kernel, Netns, NetnsId, Result};

pub use self::files::Files;
pub use self::runtimes::Runtimes;
use self::spaces::Spaces;
use crate::{Gap, Host, Machine, Node, Role};

/// Where a machine is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Namespaces that are known beforehand.
    pub places: Vec<Place>,
    /// Nodes that are known beforehand.
    pub nodes: Vec<NodeFiles>,
    /// The machine itself, with every namespace on it; `None` for the places alone.
    pub whole: Option<Whole>,
}

/// What a machine has beside the nodes of labs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// The files of its own pods.
    pub files: Files,
    /// The state of container runtimes.
    pub runtimes: Runtimes,
}

/// A node that is known beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFiles {
    /// Its name, as [`Place::node`] has it.
    pub name: String,
    /// The lab that it is of.
    pub lab: Option<String>,
    /// Where its namespace is bound.
    pub namespace: PathBuf,
    /// The files of its pods.
    pub files: Files,
}

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

impl Sources {
    /// These namespaces and nothing else.
    pub fn of(places: impl Into<Vec<Place>>) -> Self {
        Self { places: places.into(), ..Self::default() }
    }

    /// The whole machine, with the files where CNI and runtimes keep them.
    pub fn machine() -> Self {
        let whole = Whole { files: Files::default(), runtimes: Runtimes::default() };
        Self { whole: Some(whole), ..Self::default() }
    }
}

impl Machine {
    /// Looks at a machine, once.
    pub fn collect(sources: &Sources) -> Result<Self> {
        let mut gaps = Vec::new();
        let spaces = Spaces::find(sources, &mut gaps)?;
        let host = host(&mut gaps);
        let around = look::Around {
            own: spaces.path_of_own().and_then(|path| Netns::open(path).ok()),
            tracked: host.settings.get(TRACKED).and_then(|it| it.parse().ok()),
        };
        let look = |kernel: &mut Kernel, space: &_| look::look(kernel, space, &around);
        let looks = parallel::each(&spaces.all, look)?;
        let mut namespaces = Vec::new();
        for seen in looks {
            match seen {
                look::Look::Seen(namespace, more) => {
                    namespaces.push(*namespace);
                    gaps.extend(more);
                }
                look::Look::Gone => {}
                look::Look::Closed(gap) => gaps.push(gap),
            }
        }
        let nodes = nodes(sources, &host, spaces.own, &mut gaps);
        let containers = match &sources.whole {
            Some(whole) => whole.runtimes.containers(&mut gaps),
            None => Vec::new(),
        };
        names::give(&mut namespaces, sources, spaces.own, &nodes, &containers);
        let namespaces = numbers::settle(namespaces, &mut gaps)?;
        let mut machine = Self { host, nodes, namespaces, gaps };
        machine.host.neighbours = machine.neighbours(true).max(machine.neighbours(false));
        Ok(machine)
    }
}

/// The nodes with what their files say.
fn nodes(sources: &Sources, host: &Host, own: Option<NetnsId>, gaps: &mut Vec<Gap>) -> Vec<Node> {
    let own = sources.whole.iter().map(|whole| (host.name.as_str(), None, own, &whole.files));
    let labs = sources.nodes.iter().map(|node| {
        let namespace = Netns::open(&node.namespace).and_then(|netns| netns.id()).ok();
        (node.name.as_str(), node.lab.clone(), namespace, &node.files)
    });
    own.chain(labs).map(|(name, lab, id, files)| files.node(name, lab, id, gaps)).collect()
}

/// Settings that hold for all namespaces, below `/proc/sys`. What a kernel does not have is left out.
const SETTINGS: [&str; 9] = [
    "net/ipv4/neigh/default/gc_thresh1",
    "net/ipv4/neigh/default/gc_thresh2",
    "net/ipv4/neigh/default/gc_thresh3",
    "net/ipv6/neigh/default/gc_thresh1",
    "net/ipv6/neigh/default/gc_thresh2",
    "net/ipv6/neigh/default/gc_thresh3",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_buckets",
    "net/ipv6/route/max_size",
];

/// The most connections that all namespaces can track together.
const TRACKED: &str = "net.netfilter.nf_conntrack_max";

fn host(gaps: &mut Vec<Gap>) -> Host {
    let taken = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut read = |setting: &str| match look::setting(setting) {
        Ok(value) => Some(value),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            gaps.push(Gap { what: format!("setting {setting}"), why: error.to_string() });
            None
        }
    };
    let mut named = |key: &&str| Some((key.replace('/', "."), read(key)?));
    let settings = SETTINGS.iter().filter_map(&mut named).collect();
    Host {
        name: read("kernel/hostname").unwrap_or_default(),
        kernel: read("kernel/osrelease").unwrap_or_default(),
        taken,
        settings,
        ..Host::default()
    }
}
