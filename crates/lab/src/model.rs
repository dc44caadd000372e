//! What a lab consists of, as it is kept in the lab's own directory.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Name, Plan, Result, plain, pods, store};

/// A lab. Its JSON form is the private copy by which the lab is taken down, whatever became of the
/// command line that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Network {
    /// Two namespaces on a bridge, wired by hand: the picture that a teacher draws first.
    Plain,
    /// A node and its pods, wired by CNI plugins.
    Pods(Pods),
}

/// A node with pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pods {
    /// How many.
    pub count: u16,
    /// IPv6 beside IPv4.
    pub dual_stack: bool,
    /// Where the plugins come from.
    pub plugins: Plugins,
}

/// Where a lab's plugin files come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Namespace {
    /// What it plays.
    pub role: Role,
    /// What it is called in the lab, such as `pod1`.
    pub name: String,
    /// What `ip netns` calls it, such as `blue-pod1`.
    pub public: String,
}

/// What a namespace plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// A machine that runs pods.
    Node,
    /// A pod.
    Pod,
    /// Nothing of Kubernetes.
    Plain,
}

impl Lab {
    /// The largest number of pods: the addresses of a /24 without network, gateway and broadcast.
    pub const MAX_PODS: u16 = 253;

    /// A lab whose namespaces are called `prefix` and their own name; see [`Name::prefix`].
    pub fn new(name: Name, prefix: &str, network: Network) -> Result<Self> {
        if let Network::Pods(Pods { count, .. }) = network
            && !(1..=Self::MAX_PODS).contains(&count)
        {
            return Err(Error::Pods { count });
        }
        let namespace = |(role, name): (Role, String)| {
            let public = format!("{prefix}{name}");
            Namespace { role, name, public }
        };
        let namespaces: Vec<(Role, String)> = match &network {
            Network::Plain => plain::NAMESPACES.map(|name| (Role::Plain, name.to_owned())).into(),
            Network::Pods(Pods { count, .. }) => {
                let pods = (1..=*count).map(|number| (Role::Pod, format!("pod{number}")));
                std::iter::once((Role::Node, pods::NODE.to_owned())).chain(pods).collect()
            }
        };
        let namespaces = namespaces.into_iter().map(namespace).collect();
        Ok(Self { name, network, namespaces })
    }

    /// The steps that make this lab, with its files in `directory`.
    pub fn plan(&self, directory: &Path) -> Plan {
        match &self.network {
            Network::Plain => plain::plan(self, directory),
            Network::Pods(network) => pods::plan(self, network, directory),
        }
    }

    /// The namespaces of pods.
    pub fn pods(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.iter().filter(|namespace| namespace.role == Role::Pod)
    }

    /// The namespace that plays the machine all others are connected to.
    pub fn node(&self) -> Option<&Namespace> {
        self.namespaces.first()
    }
}

impl Namespace {
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
            Some(("netns", name)) => name == self.public,
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
            Self::Plain => "netns",
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
