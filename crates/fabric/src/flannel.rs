//! What flannel reads and writes, so that a cluster can move from it node by node: its network
//! configuration, its `subnet.env`, the keys and values of its leases.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use net::Mac;
use serde::{Deserialize, Serialize};

use crate::{Node, NodeName, PerFamily};

/// flannel's `net-conf.json`, as far as it says something to us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetConf {
    /// The cluster's IPv4 range.
    pub network: Option<Ipv4Net>,
    /// The cluster's IPv6 range.
    #[serde(rename = "IPv6Network")]
    pub ipv6_network: Option<Ipv6Net>,
    /// Whether there is IPv4.
    #[serde(rename = "EnableIPv4", default = "yes")]
    pub enable_ipv4: bool,
    /// Whether there is IPv6.
    #[serde(rename = "EnableIPv6", default)]
    pub enable_ipv6: bool,
    /// The prefix length of a node's subnet.
    pub subnet_len: Option<u8>,
    /// The first subnet that is given out.
    pub subnet_min: Option<Ipv4Addr>,
    /// The last one.
    pub subnet_max: Option<Ipv4Addr>,
    /// The prefix length of a node's IPv6 subnet.
    #[serde(rename = "IPv6SubnetLen")]
    pub ipv6_subnet_len: Option<u8>,
    /// The first IPv6 subnet that is given out.
    #[serde(rename = "IPv6SubnetMin")]
    pub ipv6_subnet_min: Option<Ipv6Addr>,
    /// The last one.
    #[serde(rename = "IPv6SubnetMax")]
    pub ipv6_subnet_max: Option<Ipv6Addr>,
    /// How nodes are joined.
    pub backend: Option<NetConfBackend>,
}

/// The backend in `net-conf.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetConfBackend {
    /// `vxlan`, `host-gw`, …
    #[serde(rename = "Type")]
    pub kind: String,
    /// The virtual network of vxlan.
    #[serde(rename = "VNI")]
    pub vni: Option<u32>,
    /// Its UDP port; 0 is the kernel's default.
    pub port: Option<u16>,
}

fn yes() -> bool {
    true
}

impl NetConf {
    /// The cluster's ranges.
    pub fn networks(&self) -> Vec<IpNet> {
        let v4 = self.network.filter(|_| self.enable_ipv4).map(IpNet::V4);
        let v6 = self.ipv6_network.filter(|_| self.enable_ipv6).map(IpNet::V6);
        v4.into_iter().chain(v6).map(|net| net.trunc()).collect()
    }
}

/// The value of a lease, and of what a node publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Lease {
    /// The node's name: ours alone, which flannel passes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<NodeName>,
    /// The node's IPv4 address.
    #[serde(rename = "PublicIP", default = "unspecified")]
    pub public_ip: Ipv4Addr,
    /// The node's IPv6 address.
    #[serde(rename = "PublicIPv6", default, skip_serializing_if = "Option::is_none")]
    pub public_ipv6: Option<Ipv6Addr>,
    /// How it is joined.
    #[serde(default)]
    pub backend_type: String,
    /// What joining it needs in IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_data: Option<BackendData>,
    /// What joining it needs in IPv6.
    #[serde(rename = "BackendV6Data", default, skip_serializing_if = "Option::is_none")]
    pub backend_v6_data: Option<BackendData>,
}

/// What joining a node by vxlan needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendData {
    /// The virtual network.
    #[serde(rename = "VNI", default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<u32>,
    /// The hardware address of the tunnel end.
    #[serde(rename = "VtepMAC", default, skip_serializing_if = "Option::is_none")]
    pub vtep_mac: Option<Mac>,
}

fn unspecified() -> Ipv4Addr {
    Ipv4Addr::UNSPECIFIED
}

impl Lease {
    /// What `node` publishes.
    pub fn of(node: &Node, backend_type: &str, vni: u32) -> Self {
        let data = |family| {
            let is_joined = node.subnets.get(family).is_some() && backend_type == "vxlan";
            is_joined.then(|| BackendData { vni: Some(vni), vtep_mac: Some(node.mac(family)) })
        };
        let public_ipv6 = match node.addresses.v6 {
            Some(IpAddr::V6(address)) => Some(address),
            _ => None,
        };
        let public_ip = match node.addresses.v4 {
            Some(IpAddr::V4(address)) => address,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let backend_data = data(crate::Family::V4);
        let backend_v6_data = data(crate::Family::V6);
        let backend_type = backend_type.to_owned();
        let node_name = Some(node.name.clone());
        Self { node_name, public_ip, public_ipv6, backend_type, backend_data, backend_v6_data }
    }

    /// The hardware addresses at which it has others send to its tunnel ends.
    pub fn macs(&self) -> PerFamily<Mac> {
        let mac = |data: Option<BackendData>| data?.vtep_mac.filter(|mac| mac.is_of_device());
        PerFamily { v4: mac(self.backend_data), v6: mac(self.backend_v6_data) }
    }

    /// The node that published it.
    pub fn node(&self, name: NodeName, subnets: PerFamily<IpNet>) -> Node {
        Node {
            name,
            subnets,
            addresses: PerFamily {
                v4: Some(self.public_ip).filter(|it| !it.is_unspecified()).map(IpAddr::V4),
                v6: self.public_ipv6.filter(|it| !it.is_unspecified()).map(IpAddr::V6),
            },
            macs: self.macs(),
        }
    }
}

/// The key of a lease below `<prefix>/subnets/`: `10.5.52.0-24`, or `10.5.52.0-24&fc00::-64`.
pub fn lease_key(subnets: &PerFamily<IpNet>) -> String {
    let part = |net: &IpNet| format!("{}-{}", net.network(), net.prefix_len());
    let parts: Vec<String> = subnets.iter().map(|(_, net)| part(net)).collect();
    parts.join("&")
}

/// The subnets that a key is of.
pub fn parse_lease_key(key: &str) -> Option<PerFamily<IpNet>> {
    let mut subnets = PerFamily::default();
    for part in key.split('&') {
        let (address, length) = part.rsplit_once('-')?;
        let net = IpNet::new(address.parse().ok()?, length.parse().ok()?).ok()?;
        *subnets.place(crate::Family::of_net(net)) = Some(net.trunc());
    }
    Some(subnets)
}

/// What flannel's CNI plugin reads.
pub fn subnet_env(me: &Node, networks: &[IpNet], mtu: u32) -> String {
    let mut text = String::new();
    for (family, subnet) in me.subnets.iter() {
        let infix = if family == crate::Family::V6 { "IPV6_" } else { "" };
        let network = networks.iter().find(|net| net.contains(subnet)).unwrap_or(subnet);
        let first = subnet.hosts().find(|host| *host != subnet.network());
        let first = first.unwrap_or(subnet.network());
        text += &format!("FLANNEL_{infix}NETWORK={network}\n");
        text += &format!("FLANNEL_{infix}SUBNET={first}/{}\n", subnet.prefix_len());
    }
    text + &format!("FLANNEL_MTU={mtu}\nFLANNEL_IPMASQ=true\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_both_ways() {
        for key in ["10.5.52.0-24", "10.5.52.0-24&fc00::-64", "fc00::-64"] {
            assert_eq!(lease_key(&parse_lease_key(key).unwrap()), key);
        }
        for key in ["", "10.5.52.0", "10.5.52.0-33", "x-24"] {
            assert_eq!(parse_lease_key(key), None, "{key}");
        }
    }

    #[test]
    fn leases_are_read_as_flannel_writes_them() {
        let text = r#"{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:f0"}}"#;
        let lease: Lease = serde_json::from_str(text).unwrap();
        let node = lease.node("n1".parse().unwrap(), parse_lease_key("10.5.52.0-24").unwrap());
        assert_eq!(node.addresses.v4, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(node.mac(crate::Family::V4).to_string(), "aa:bb:cc:dd:ee:f0");
        let own = Lease::of(&node, "vxlan", 1);
        assert_eq!(own.backend_data, lease.backend_data);
    }

    #[test]
    fn subnet_env_is_flannels() {
        let mut me = Node::new("n1".parse().unwrap());
        me.subnets = parse_lease_key("10.244.1.0-24&fd00:10:244:1::-64").unwrap();
        let networks = ["10.244.0.0/16".parse().unwrap(), "fd00:10:244::/56".parse().unwrap()];
        assert_eq!(
            subnet_env(&me, &networks, 1450),
            "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n\
             FLANNEL_IPV6_NETWORK=fd00:10:244::/56\nFLANNEL_IPV6_SUBNET=fd00:10:244:1::1/64\n\
             FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
        );
    }
}
