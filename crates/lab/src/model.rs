//! What a lab consists of, as it is kept in the lab's own directory.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Cluster, Error, Name, Plan, Result, cluster, plain, pods, store};

/// A lab. Its JSON form is the private copy by which the lab is taken down, whatever became of the
/// command line that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lab {
    /// What it is called.
    pub name: Name,
    /// How it is wired.
    pub network: Network,
    /// All of its namespaces, in the order in which they are made.
    pub namespaces: Vec<Namespace>,
}

/// How a lab is wired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Network {
    /// Two namespaces on a bridge, wired by hand: the picture that a teacher draws first.
    Plain,
    /// A node and its pods, wired by CNI plugins.
    Pods(Pods),
    /// Several nodes with pods, joined by agents.
    Cluster(Cluster),
}

/// A node with pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pods {
    /// How many there are at first.
    pub count: u16,
    /// IPv6 beside IPv4.
    pub dual_stack: bool,
    /// Where the plugins come from.
    pub plugins: Plugins,
}

/// Where a lab's plugin files come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Plugins {
    /// A directory of plugins, used as it is.
    Directory(PathBuf),
    /// One program that acts by the name it is called by; the lab links these names to it in a
    /// directory of its own.
    Program {
        /// The program.
        file: PathBuf,
        /// The plugins that it is.
        names: Vec<String>,
    },
}

/// A namespace of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Namespace {
    /// What it plays.
    pub role: Role,
    /// What it is called in the lab, such as `pod1`.
    pub name: String,
    /// What `ip netns` calls it, such as `blue-pod1`.
    pub public: String,
    /// The node that a pod is on, in a lab of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// Where a node's container runtime, which the lab plays, keeps its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// What it remembers of attachments: `results` is in it.
    pub cache: PathBuf,
    /// The directories of host-local, one a network.
    pub reservations: PathBuf,
    /// Where networks are configured.
    pub configurations: PathBuf,
}

/// What a namespace plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// A machine that runs pods.
    Node,
    /// A pod.
    Pod,
    /// Nothing of Kubernetes.
    Plain,
    /// What joins the nodes.
    Underlay,
    /// A host beyond the cluster.
    Outside,
}

impl Lab {
    /// The largest number of pods: the addresses of a /24 without network, gateway and broadcast.
    pub const MAX_PODS: u16 = 253;

    /// A lab whose namespaces are called `prefix` and their own name; see [`Name::prefix`].
    pub fn new(name: Name, prefix: &str, network: Network) -> Result<Self> {
        let namespaces = match &network {
            Network::Plain => plain::NAMESPACES.map(|it| Namespace::new(Role::Plain, it)).into(),
            Network::Pods(Pods { count, .. }) => {
                require_pods(*count)?;
                let pods = (1..=*count).map(|number| Namespace::pod(number, None));
                std::iter::once(Namespace::new(Role::Node, pods::NODE)).chain(pods).collect()
            }
            Network::Cluster(network) => {
                require_pods(network.pods)?;
                cluster::namespaces(network)?
            }
        };
        let named = |namespace: Namespace| Namespace {
            public: format!("{prefix}{}", namespace.name),
            ..namespace
        };
        let namespaces = namespaces.into_iter().map(named).collect();
        Ok(Self { name, network, namespaces })
    }

    /// The steps that make this lab, with its files in `directory`.
    pub fn plan(&self, directory: &Path) -> Plan {
        match &self.network {
            Network::Plain => plain::plan(self, directory),
            Network::Pods(network) => pods::plan(self, network, directory),
            Network::Cluster(network) => cluster::plan(self, network, directory),
        }
    }

    /// The same lab with one more pod, on `node` or on the node that has the fewest; and that pod.
    pub(crate) fn with_pod(&self, node: Option<&str>) -> Result<(Self, Namespace)> {
        let pods_of = |node: &Namespace| {
            self.pods()
                .filter(|pod| self.node_of(pod).is_some_and(|it| it.name == node.name))
                .count()
        };
        let home = match node {
            Some(name) => self.namespace(Role::Node, name)?,
            None => self
                .nodes()
                .min_by_key(|node| pods_of(node))
                .ok_or_else(|| Error::NoNodes { name: self.name.to_string() })?,
        };
        let count = u16::try_from(pods_of(home)).unwrap_or(u16::MAX).saturating_add(1);
        require_pods(count)?;
        let number = self.free_number(Role::Pod, "pod");
        let of_several = matches!(self.network, Network::Cluster(_));
        let pod = Namespace::pod(number, of_several.then(|| home.name.clone()));
        Ok(self.with(pod))
    }

    /// The same lab with one more node, and that node.
    pub(crate) fn with_node(&self) -> Result<(Self, Namespace)> {
        self.require_cluster()?;
        let number = self.free_number(Role::Node, "node");
        cluster::require_nodes(number)?;
        Ok(self.with(Namespace::new(Role::Node, &cluster::node_name(number))))
    }

    /// The same lab without some of its namespaces.
    pub(crate) fn without(&self, gone: &[Namespace]) -> Self {
        let stays = |namespace: &&Namespace| !gone.contains(namespace);
        let namespaces = self.namespaces.iter().filter(stays).cloned().collect();
        Self { namespaces, ..self.clone() }
    }

    fn with(&self, namespace: Namespace) -> (Self, Namespace) {
        // All of a lab's public names begin alike.
        let prefix = self.namespaces.first().and_then(|it| it.public.strip_suffix(&it.name));
        let public = format!("{}{}", prefix.unwrap_or_default(), namespace.name);
        let namespace = Namespace { public, ..namespace };
        let mut lab = self.clone();
        lab.namespaces.push(namespace.clone());
        (lab, namespace)
    }

    /// The lowest number that no namespace of the role has in its name.
    fn free_number(&self, role: Role, word: &str) -> u16 {
        let is_free = |number: &u16| {
            let name = format!("{word}{number}");
            !self.namespaces.iter().any(|it| it.role == role && it.name == name)
        };
        (1..u16::MAX).find(is_free).unwrap_or(u16::MAX)
    }

    /// How several nodes are joined, if there are several.
    pub(crate) fn require_cluster(&self) -> Result<&Cluster> {
        match &self.network {
            Network::Cluster(network) => Ok(network),
            _ => Err(Error::NoNodes { name: self.name.to_string() }),
        }
    }

    /// The namespace of this role that a person calls by its name, or by role and name.
    pub(crate) fn namespace(&self, role: Role, object: &str) -> Result<&Namespace> {
        let of_role = || self.namespaces.iter().filter(move |it| it.role == role);
        let found = of_role().find(|it| it.name == object || it.answers_to(object));
        found.ok_or_else(|| Error::NoObject {
            object: object.to_owned(),
            objects: of_role().map(Namespace::object).collect(),
        })
    }

    /// The namespaces of pods.
    pub fn pods(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.iter().filter(|namespace| namespace.role == Role::Pod)
    }

    /// The namespaces of nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.iter().filter(|namespace| namespace.role == Role::Node)
    }

    /// Where a node's runtime keeps its files, for a lab with its files in `directory`; `None` for
    /// what runs no pods.
    pub fn runtime(&self, directory: &Path, node: &Namespace) -> Option<Runtime> {
        let home = match &self.network {
            Network::Plain => return None,
            Network::Pods(_) => directory.to_owned(),
            Network::Cluster(_) => cluster::home(directory, node),
        };
        let configurations = match &self.network {
            Network::Cluster(_) => cluster::configurations(&home),
            _ => home.join("cni/net.d"),
        };
        let (cache, reservations) = (home.join("cni"), home.join("cni/networks"));
        Some(Runtime { cache, reservations, configurations })
    }

    /// The node that a pod is on.
    pub fn node_of(&self, pod: &Namespace) -> Option<&Namespace> {
        match &pod.node {
            Some(name) => self.nodes().find(|node| node.name == *name),
            None => self.nodes().next(),
        }
    }
}

fn require_pods(count: u16) -> Result<()> {
    if (1..=Lab::MAX_PODS).contains(&count) { Ok(()) } else { Err(Error::Pods { count }) }
}

impl Namespace {
    /// One that is called the same everywhere, and is on no node.
    pub(crate) fn new(role: Role, name: &str) -> Self {
        Self { role, name: name.to_owned(), public: name.to_owned(), node: None }
    }

    /// A pod.
    pub(crate) fn pod(number: u16, node: Option<String>) -> Self {
        Self { node, ..Self::new(Role::Pod, &format!("pod{number}")) }
    }

    /// The space that steps of a plan happen in: by the name that `ip netns` knows.
    pub(crate) fn space(&self) -> net::Space {
        net::Space::named(&self.public)
    }

    /// Where `ip netns` finds it.
    pub fn public_path(&self) -> PathBuf {
        Path::new(net::NAMED).join(&self.public)
    }

    /// Where the lab itself finds it.
    pub fn private_path(&self, directory: &Path) -> PathBuf {
        directory.join(store::PRIVATE).join(&self.name)
    }

    /// How a person addresses it: `pod/pod1`.
    pub fn object(&self) -> String {
        format!("{}/{}", self.role.word(), self.name)
    }

    /// Whether a person who writes `object` means this one: by type and name, or by the name that
    /// `ip netns` knows.
    pub fn answers_to(&self, object: &str) -> bool {
        match object.split_once('/') {
            Some(("netns", name)) if name == self.public => true,
            Some((kind, name)) => kind == self.role.word() && name == self.name,
            None => object == self.public,
        }
    }
}

impl Role {
    /// The word for it in object names.
    pub fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Pod => "pod",
            Self::Plain | Self::Underlay | Self::Outside => "netns",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lab(name: &str, network: Network) -> Lab {
        let name: Name = name.parse().unwrap();
        Lab::new(name.clone(), &name.prefix(), network).unwrap()
    }

    fn pods(count: u16) -> Network {
        let plugins = Plugins::Directory("/opt/cni/bin".into());
        Network::Pods(Pods { count, dual_stack: false, plugins })
    }

    #[test]
    fn objects_are_found_by_type_or_by_public_name() {
        let lab = lab("blue", pods(2));
        let found = |object: &str| {
            let found = lab.namespaces.iter().find(|namespace| namespace.answers_to(object));
            found.map(|namespace| namespace.name.as_str())
        };
        assert_eq!(found("pod/pod2"), Some("pod2"));
        assert_eq!(found("node/node1"), Some("node1"));
        assert_eq!(found("blue-pod1"), Some("pod1"));
        assert_eq!(found("netns/blue-pod1"), Some("pod1"));
        assert_eq!(found("pod1"), None);
        assert_eq!(found("pod/node1"), None);
    }

    #[test]
    fn a_lab_has_as_many_pods_as_its_subnet_has_addresses() {
        let name: Name = "blue".parse().unwrap();
        for count in [0, 254] {
            assert!(Lab::new(name.clone(), "", pods(count)).is_err());
        }
        assert_eq!(lab("blue", pods(253)).namespaces.len(), 254);
    }

    #[test]
    fn a_lab_survives_being_kept() {
        for lab in [lab("default", Network::Plain), lab("blue", pods(1))] {
            let text = serde_json::to_string(&lab).unwrap();
            assert_eq!(serde_json::from_str::<Lab>(&text).unwrap(), lab);
        }
    }
}
