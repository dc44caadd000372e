//! The node file: the cluster as a list that a person keeps.
//!
//! ```yaml
//! nodes:
//! - name: n1
//!   addresses: [192.0.2.1, "2001:db8::1"]
//!   podSubnets: [10.244.1.0/24, "fd00:10:244:1::/64"]
//! ```
//!
//! YAML 1.2, so JSON too. The whole file is right or refused. Places in the file are looked for only
//! when it is refused: they cost as much as all the rest.

use std::net::IpAddr;

use ipnet::IpNet;
use net::Mac;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::{Family, Node, NodeName, PerFamily};

/// Why a node file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeFileError {
    /// It is not YAML, or not of the form of a node file.
    #[error("{0}")]
    Form(String),
    /// A value cannot be what it is there for.
    #[error("line {line}: {field} of node {node}: {what}")]
    Value {
        /// Where.
        line: u64,
        /// The node's name, or its place in the list.
        node: String,
        /// The field.
        field: &'static str,
        /// What is wrong and what would be right.
        what: String,
    },
    /// Two nodes with one name.
    #[error("line {line}: a second node is called {name}; names are unique")]
    Twice {
        /// Where.
        line: u64,
        /// The name.
        name: NodeName,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<T> {
    nodes: Vec<Entry<T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry<T> {
    name: T,
    addresses: Vec<T>,
    pod_subnets: Vec<T>,
    #[serde(default = "PerFamily::default")]
    macs: PerFamily<T>,
}

/// A value of the file as text, with its line where that is known.
trait Text {
    fn text(&self) -> &str;
    fn line(&self) -> u64;
}

impl Text for String {
    fn text(&self) -> &str {
        self
    }

    fn line(&self) -> u64 {
        0
    }
}

impl Text for Spanned<String> {
    fn text(&self) -> &str {
        &self.value
    }

    fn line(&self) -> u64 {
        self.referenced.line()
    }
}

/// The nodes of a file.
pub fn parse_nodes(text: &str) -> Result<Vec<Node>, NodeFileError> {
    if text.trim().is_empty() {
        // A file that is being written looks like this, too.
        let what = "the file is empty; a cluster without nodes is written `nodes: []`";
        return Err(NodeFileError::Form(what.to_owned()));
    }
    if let Some(nodes) = quickly(text) {
        return Ok(nodes);
    }
    let file: File<Spanned<String>> =
        serde_saphyr::from_str(text).map_err(|error| NodeFileError::Form(error.to_string()))?;
    nodes(file)
}

/// The nodes of a file with which nothing is wrong.
fn quickly(text: &str) -> Option<Vec<Node>> {
    // Machines write JSON, which is read many times as fast as YAML.
    let file: File<String> = match text.starts_with('{') {
        true => serde_json::from_str(text).ok()?,
        false => serde_saphyr::from_str(text).ok()?,
    };
    nodes(file).ok()
}

fn nodes<T: Text>(file: File<T>) -> Result<Vec<Node>, NodeFileError> {
    let mut names = std::collections::HashSet::with_capacity(file.nodes.len());
    let node = |entry: Entry<T>| {
        let node = node(&entry)?;
        if !names.insert(node.name.clone()) {
            return Err(NodeFileError::Twice { line: entry.name.line(), name: node.name });
        }
        Ok(node)
    };
    file.nodes.into_iter().map(node).collect()
}

fn node<T: Text>(entry: &Entry<T>) -> Result<Node, NodeFileError> {
    let refuse = |at: &T, field: &'static str, what: String| NodeFileError::Value {
        line: at.line(),
        node: entry.name.text().to_owned(),
        field,
        what,
    };
    let name = entry.name.text().parse();
    let name =
        name.map_err(|error: crate::NodeNameError| refuse(&entry.name, "name", error.to_string()))?;
    let mut node = Node::new(name);
    for text in &entry.addresses {
        let address =
            text.text().parse::<IpAddr>().ok().filter(is_of_one_machine).ok_or_else(|| {
                let what = format!(
                    "{:?} is not an address of one machine, such as 192.0.2.1",
                    text.text()
                );
                refuse(text, "addresses", what)
            })?;
        let family = Family::of(address);
        if let Some(first) = node.addresses.place(family).replace(address) {
            let what = format!("{first} and {address} are both {family}; one a family is used");
            return Err(refuse(text, "addresses", what));
        }
    }
    for text in &entry.pod_subnets {
        let subnet = text.text().parse::<IpNet>().map_err(|_| {
            let what = format!("{:?} is not a network such as 10.244.1.0/24", text.text());
            refuse(text, "podSubnets", what)
        })?;
        if subnet != subnet.trunc() {
            let what = format!("{subnet} has host bits; the network is {}", subnet.trunc());
            return Err(refuse(text, "podSubnets", what));
        }
        if subnet.prefix_len() == 0 || subnet.prefix_len() + 2 > subnet.max_prefix_len() {
            let what = format!(
                "{subnet} is too {} for pods",
                match subnet.prefix_len() {
                    0 => "large",
                    _ => "small",
                }
            );
            return Err(refuse(text, "podSubnets", what));
        }
        let family = Family::of_net(subnet);
        if let Some(first) = node.subnets.place(family).replace(subnet) {
            let what = format!("{first} and {subnet} are both {family}; one a family is used");
            return Err(refuse(text, "podSubnets", what));
        }
    }
    for (family, text) in entry.macs.iter() {
        let mac: Mac = text
            .text()
            .parse()
            .map_err(|error: net::MacError| refuse(text, "macs", error.to_string()))?;
        *node.macs.place(family) = Some(mac);
    }
    Ok(node)
}

fn is_of_one_machine(address: &IpAddr) -> bool {
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = "nodes:\n- name: n1\n  addresses: [192.0.2.1, 'fd00::1']\n  podSubnets: [10.1.0.0/24]\n";
        let json = r#"{"nodes":[{"name":"n1","addresses":["192.0.2.1","fd00::1"],"podSubnets":["10.1.0.0/24"]}]}"#;
        let nodes = parse_nodes(yaml).unwrap();
        assert_eq!(nodes, parse_nodes(json).unwrap());
        assert_eq!(nodes[0].addresses.v6, Some("fd00::1".parse().unwrap()));
        assert_eq!(parse_nodes("nodes: []"), Ok(Vec::new()));
    }

    #[test]
    fn a_bad_file_is_refused_with_line_and_reason() {
        let entry = |addresses: &str, subnets: &str| {
            format!("nodes:\n- name: n1\n  addresses: [{addresses}]\n  podSubnets: [{subnets}]\n")
        };
        for (text, expected) in [
            (entry("192.0.2.256", ""), "line 3: addresses of node n1: \"192.0.2.256\" is not an address"),
            (entry("0.0.0.0", ""), "line 3: addresses of node n1: \"0.0.0.0\" is not an address"),
            (entry("192.0.2.1, 192.0.2.2", ""), "both IPv4; one a family is used"),
            (entry("", "10.1.0.1/24"), "line 4: podSubnets of node n1: 10.1.0.1/24 has host bits; the network is 10.1.0.0/24"),
            (entry("", "10.1.0.0/31"), "too small"),
            (entry("", "10.1.0.0"), "is not a network"),
            ("nodes:\n- name: N1\n  addresses: []\n  podSubnets: []".to_owned(), "line 2: name of node N1"),
            ("nodes:\n- {name: a, addresses: [], podSubnets: []}\n- {name: a, addresses: [], podSubnets: []}".to_owned(), "line 3: a second node is called a"),
            ("nodes:\n- name: n1\n  address: []\n".to_owned(), "address"),
            ("nodes: [".to_owned(), "line"),
            (String::new(), "the file is empty"),
        ] {
            let error = parse_nodes(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}\n  does not say\n{expected}");
        }
    }
}
