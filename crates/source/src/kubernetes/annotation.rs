//! What annotations of a Node mean, ours and flannel's, and which ones this node is to have.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use fabric::flannel::{BackendData, Lease};
use fabric::{Family, Mac, Node, NodeName, PerFamily, Publication};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::object::Object;

/// The annotation that a node of ours publishes: JSON such as
/// `{"addresses":{"v4":"192.0.2.1"},"subnets":{"v4":"10.244.1.0/24"},"backend":"vxlan","vni":1}`.
///
/// `addresses` is where other nodes send what is for the node, `subnets` which addresses its pods have,
/// at most one a family (`v4`, `v6`). `backend` and `vni` are for people. Keys that are not known are
/// passed over, so that later versions can add some. The hardware address of the tunnel end is among
/// them (`macs`) only where flannel has chosen it; else it follows from the node's name.
pub const ANNOTATION: &str = "podwire.dev/node";

const FLANNEL: &str = "flannel.alpha.coreos.com/";
const SUBNET_MANAGER: &str = "flannel.alpha.coreos.com/kube-subnet-manager";
const BACKEND_TYPE: &str = "flannel.alpha.coreos.com/backend-type";
const BACKEND_DATA: PerFamily<&str> = PerFamily {
    v4: Some("flannel.alpha.coreos.com/backend-data"),
    v6: Some("flannel.alpha.coreos.com/backend-v6-data"),
};
const PUBLIC_IP: PerFamily<&str> = PerFamily {
    v4: Some("flannel.alpha.coreos.com/public-ip"),
    v6: Some("flannel.alpha.coreos.com/public-ipv6"),
};
/// Of people: the address that is published in place of the node's own, for nodes behind NAT.
const OVERWRITE: PerFamily<&str> = PerFamily {
    v4: Some("flannel.alpha.coreos.com/public-ip-overwrite"),
    v6: Some("flannel.alpha.coreos.com/public-ipv6-overwrite"),
};
/// Of people: which of its own addresses the node is reached by.
const NODE_IP: PerFamily<&str> = PerFamily {
    v4: Some("flannel.alpha.coreos.com/node-public-ip"),
    v6: Some("flannel.alpha.coreos.com/node-public-ipv6"),
};

/// Whether an annotation is kept when an object is read.
pub(super) fn is_known(key: &str) -> bool {
    key == ANNOTATION || key.starts_with(FLANNEL)
}

/// The value of [`ANNOTATION`].
#[derive(Debug, Serialize, Deserialize)]
struct Published {
    addresses: PerFamily<IpAddr>,
    subnets: PerFamily<IpNet>,
    #[serde(default, skip_serializing_if = "PerFamily::is_empty")]
    macs: PerFamily<Mac>,
    #[serde(default)]
    backend: String,
    #[serde(default)]
    vni: u32,
}

/// The node that `object` is of, if it says how it is reached; with `flannel` also in flannel's words.
pub(super) fn peer(object: &Object, name: &NodeName, flannel: bool) -> Option<Node> {
    let ours = || published(object.annotation(ANNOTATION)?, name);
    let flannels = || Some(flannels(object)?.node(name.clone(), object.subnets()));
    ours().or_else(|| flannels().filter(|_| flannel))
}

/// The hardware addresses of the tunnel ends of the node `name` that others have read in `object`,
/// where they are not those of its name. flannel's words come first: it may have run here since ours
/// were written.
pub(super) fn macs(object: &Object, name: &NodeName, flannel: bool) -> PerFamily<Mac> {
    let ours = object.annotation(ANNOTATION).and_then(|text| published(text, name));
    let ours = ours.map(|node| node.macs).unwrap_or_default();
    let flannels = flannels(object).filter(|_| flannel).map(|lease| lease.macs());
    let flannels = flannels.unwrap_or_default();
    let of = |family| {
        let mac = flannels.get(family).or(ours.get(family)).copied();
        mac.filter(|mac| *mac != name.mac())
    };
    PerFamily { v4: of(Family::V4), v6: of(Family::V6) }
}

fn published(text: &str, name: &NodeName) -> Option<Node> {
    let Published { addresses, subnets, macs, .. } = serde_json::from_str(text).ok()?;
    let mut node = Node::new(name.clone());
    for family in Family::ALL {
        let address = addresses.get(family).filter(|it| Family::of(**it) == family);
        *node.addresses.place(family) = address.copied();
        let subnet = subnets.get(family).filter(|it| Family::of_net(**it) == family);
        *node.subnets.place(family) = subnet.map(IpNet::trunc);
        *node.macs.place(family) = macs.get(family).copied().filter(|mac| mac.is_of_device());
    }
    Some(node)
}

fn flannels(object: &Object) -> Option<Lease> {
    let text = |keys: PerFamily<&str>, family| object.annotation(keys.get(family)?);
    let data = |family| -> Option<BackendData> {
        serde_json::from_str::<Option<BackendData>>(text(BACKEND_DATA, family)?).ok()?
    };
    if object.annotation(SUBNET_MANAGER) != Some("true") {
        return None;
    }
    let public_ip = text(PUBLIC_IP, Family::V4).and_then(|text| text.parse().ok());
    Some(Lease {
        node_name: None,
        public_ip: public_ip.unwrap_or(Ipv4Addr::UNSPECIFIED),
        public_ipv6: text(PUBLIC_IP, Family::V6).and_then(|text| text.parse().ok()),
        backend_type: object.annotation(BACKEND_TYPE).unwrap_or_default().to_owned(),
        backend_data: data(Family::V4),
        backend_v6_data: data(Family::V6),
    })
}

/// This node, as its own Node object, what others know of its tunnel ends and what the agent has
/// found make it.
pub(super) fn own(
    object: &Object,
    macs: PerFamily<Mac>,
    publication: &Publication,
    flannel: bool,
) -> Node {
    let mut node = Node { macs, ..Node::new(publication.name.clone()) };
    node.subnets = object.subnets();
    let internal = object.internal();
    for family in Family::ALL {
        let found = publication.addresses.get(family).copied();
        let told = || of_people(object, NODE_IP, family).filter(|_| flannel);
        let internal = internal.get(family).copied();
        *node.addresses.place(family) = found.or_else(told).or(internal);
    }
    node
}

/// Annotations with their values, and without one where there must be none.
pub(super) type Wanted = BTreeMap<&'static str, Option<String>>;

/// The annotations that this node is to have; `None` while there is nothing that others could use.
pub(super) fn wanted(
    object: &Object,
    macs: PerFamily<Mac>,
    publication: &Publication,
    flannel: bool,
) -> Option<Wanted> {
    let mut node = own(object, macs, publication, flannel);
    if node.subnets.is_empty() || node.addresses.is_empty() {
        return None;
    }
    for family in Family::ALL {
        if let Some(address) = of_people(object, OVERWRITE, family).filter(|_| flannel) {
            *node.addresses.place(family) = Some(address);
        }
    }
    let (backend, vni) = (publication.backend.clone(), publication.vni);
    // flannel has no words for gpe, and would send to such a node in vain.
    let is_flannels = flannel && matches!(&*backend, "vxlan" | "host-gw");
    let mut wanted = if is_flannels { for_flannel(&node, &backend, vni) } else { BTreeMap::new() };
    let Node { addresses, subnets, macs, .. } = node;
    let published = Published { addresses, subnets, macs, backend, vni };
    wanted.insert(ANNOTATION, serde_json::to_string(&published).ok());
    Some(wanted)
}

fn for_flannel(node: &Node, backend: &str, vni: u32) -> Wanted {
    let lease = Lease::of(node, backend, vni);
    let data = PerFamily { v4: lease.backend_data, v6: lease.backend_v6_data };
    let mut wanted = BTreeMap::new();
    wanted.insert(SUBNET_MANAGER, Some("true".to_owned()));
    wanted.insert(BACKEND_TYPE, Some(backend.to_owned()));
    for family in Family::ALL {
        let address = node.addresses.get(family).filter(|_| node.subnets.get(family).is_some());
        // Without data, as with host-gw, flannel writes `null`, and wants to read that.
        let data = address.and_then(|_| serde_json::to_string(&data.get(family)).ok());
        if let Some((public_ip, backend_data)) = PUBLIC_IP.get(family).zip(BACKEND_DATA.get(family))
        {
            wanted.insert(public_ip, address.map(ToString::to_string));
            wanted.insert(backend_data, data.clone());
        }
    }
    wanted
}

/// An address that a person has annotated the node with.
fn of_people(object: &Object, keys: PerFamily<&str>, family: Family) -> Option<IpAddr> {
    let address: IpAddr = object.annotation(keys.get(family)?)?.trim().parse().ok()?;
    Some(address).filter(|address| Family::of(*address) == family)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NONE: PerFamily<Mac> = PerFamily { v4: None, v6: None };

    fn object(annotations: &Value, subnets: &Value, internal: &[&str]) -> Object {
        let addresses: Vec<Value> =
            internal.iter().map(|it| json!({ "type": "InternalIP", "address": it })).collect();
        serde_json::from_value(json!({
            "metadata": { "name": "n1", "annotations": annotations },
            "spec": { "podCIDRs": subnets },
            "status": { "addresses": addresses },
        }))
        .unwrap()
    }

    fn name() -> NodeName {
        "n1".parse().unwrap()
    }

    fn publication(backend: &str) -> Publication {
        let backend = backend.to_owned();
        Publication { name: name(), addresses: PerFamily::default(), backend, vni: 1 }
    }

    fn both() -> Object {
        let subnets = json!(["10.244.1.0/24", "fd00:0:0:1::/64"]);
        object(&json!({}), &subnets, &["192.0.2.1", "2001:db8::1"])
    }

    #[test]
    fn what_is_published_is_read_again() {
        let wanted = wanted(&both(), NONE, &publication("vxlan"), false).unwrap();
        assert_eq!(wanted.len(), 1);
        let text = wanted[ANNOTATION].clone().unwrap();
        assert_eq!(
            text,
            r#"{"addresses":{"v4":"192.0.2.1","v6":"2001:db8::1"},"subnets":{"v4":"10.244.1.0/24","v6":"fd00:0:0:1::/64"},"backend":"vxlan","vni":1}"#
        );
        let seen = object(&json!({ ANNOTATION: text }), &json!([]), &[]);
        assert_eq!(
            peer(&seen, &name(), false),
            Some(own(&both(), NONE, &publication("vxlan"), false))
        );
    }

    #[test]
    fn addresses_of_the_agent_win() {
        let mut publication = publication("vxlan");
        publication.addresses.v4 = Some("198.51.100.1".parse().unwrap());
        let node = own(&both(), NONE, &publication, false);
        assert_eq!(node.addresses.v4, Some("198.51.100.1".parse().unwrap()));
        assert_eq!(node.addresses.v6, Some("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn nothing_is_published_that_nobody_could_use() {
        let no_subnet = object(&json!({}), &json!([]), &["192.0.2.1"]);
        let no_address = object(&json!({}), &json!(["10.244.1.0/24"]), &[]);
        for object in [no_subnet, no_address] {
            assert!(wanted(&object, NONE, &publication("vxlan"), true).is_none());
        }
    }

    #[test]
    fn what_is_odd_is_not_taken() {
        for (text, expected) in [
            ("", false),
            ("{}", false),
            (r#"{"addresses":{"v4":"n1"},"subnets":{}}"#, false),
            (r#"{"addresses":{},"subnets":{},"later":[1]}"#, true),
        ] {
            assert_eq!(published(text, &name()).is_some(), expected, "{text}");
        }
        let swapped = r#"{"addresses":{"v4":"2001:db8::1"},"subnets":{"v6":"10.244.1.0/24"}}"#;
        assert_eq!(published(swapped, &name()), Some(Node::new(name())));
        let host_bits = r#"{"addresses":{},"subnets":{"v4":"10.244.1.7/24"}}"#;
        let node = published(host_bits, &name()).unwrap();
        assert_eq!(node.subnets.v4, Some("10.244.1.0/24".parse().unwrap()));
    }

    #[test]
    fn flannel_is_told_in_its_own_words() {
        let mac = name().mac();
        let object = object(&json!({}), &json!(["10.244.1.0/24"]), &["192.0.2.1", "2001:db8::1"]);
        let wanted_by = |backend| wanted(&object, NONE, &publication(backend), true).unwrap();
        let vxlan = wanted_by("vxlan");
        let text = |key: &str| vxlan[key].as_deref();
        assert_eq!(text("flannel.alpha.coreos.com/kube-subnet-manager"), Some("true"));
        assert_eq!(text("flannel.alpha.coreos.com/backend-type"), Some("vxlan"));
        assert_eq!(
            text("flannel.alpha.coreos.com/backend-data"),
            Some(&*format!(r#"{{"VNI":1,"VtepMAC":"{mac}"}}"#))
        );
        assert_eq!(text("flannel.alpha.coreos.com/public-ip"), Some("192.0.2.1"));
        // There is no IPv6 subnet.
        assert_eq!(text("flannel.alpha.coreos.com/backend-v6-data"), None);
        assert_eq!(text("flannel.alpha.coreos.com/public-ipv6"), None);

        let host_gw = wanted_by("host-gw");
        assert_eq!(host_gw["flannel.alpha.coreos.com/backend-data"].as_deref(), Some("null"));
        assert_eq!(wanted_by("gpe").len(), 1);
    }

    #[test]
    fn what_people_ask_of_flannel_is_heeded() {
        let annotations = json!({
            "flannel.alpha.coreos.com/public-ip-overwrite": "203.0.113.1",
            "flannel.alpha.coreos.com/public-ipv6-overwrite": "not an address",
            "flannel.alpha.coreos.com/node-public-ip": "192.0.2.77",
        });
        let object = object(&annotations, &json!(["10.244.1.0/24"]), &["192.0.2.1"]);
        let publication = publication("vxlan");
        let wanted = |flannel| wanted(&object, NONE, &publication, flannel).unwrap();
        let public_ip = "flannel.alpha.coreos.com/public-ip";
        assert_eq!(wanted(true)[public_ip].as_deref(), Some("203.0.113.1"));
        assert!(wanted(true)[ANNOTATION].as_ref().unwrap().contains("203.0.113.1"));
        assert!(wanted(false)[ANNOTATION].as_ref().unwrap().contains("192.0.2.1"));
        // No device of ours carries the address that others send to.
        let node = own(&object, NONE, &publication, true);
        assert_eq!(node.addresses.v4, Some("192.0.2.77".parse().unwrap()));
    }

    #[test]
    fn nodes_of_flannel_are_read() {
        let annotations = json!({
            "flannel.alpha.coreos.com/kube-subnet-manager": "true",
            "flannel.alpha.coreos.com/backend-type": "vxlan",
            "flannel.alpha.coreos.com/backend-data": r#"{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:f0"}"#,
            "flannel.alpha.coreos.com/backend-v6-data": "null",
            "flannel.alpha.coreos.com/public-ip": "192.0.2.1",
        });
        let flannel = object(&annotations, &json!(["10.244.1.0/24"]), &[]);
        let node = peer(&flannel, &name(), true).unwrap();
        assert_eq!(node.subnets.v4, Some("10.244.1.0/24".parse().unwrap()));
        assert_eq!(node.addresses.v4, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(node.mac(Family::V4).to_string(), "aa:bb:cc:dd:ee:f0");
        assert_eq!(peer(&flannel, &name(), false), None);

        let mut with_ours = annotations.clone();
        with_ours[ANNOTATION] =
            json!(r#"{"addresses":{"v4":"192.0.2.5"},"subnets":{"v4":"10.244.1.0/24"}}"#);
        let node = peer(&object(&with_ours, &json!([]), &[]), &name(), true).unwrap();
        assert_eq!(node.addresses.v4, Some("192.0.2.5".parse().unwrap()));

        let mut unmanaged = annotations;
        unmanaged["flannel.alpha.coreos.com/kube-subnet-manager"] = json!("false");
        assert_eq!(peer(&object(&unmanaged, &json!([]), &[]), &name(), true), None);
    }

    #[test]
    fn what_others_know_of_a_tunnel_end_goes_on() {
        let mac = |text: &str| text.parse::<Mac>().ok();
        let known = PerFamily { v4: mac("aa:bb:cc:dd:ee:f0"), v6: None };
        let flannels = json!({
            "flannel.alpha.coreos.com/kube-subnet-manager": "true",
            "flannel.alpha.coreos.com/backend-type": "vxlan",
            "flannel.alpha.coreos.com/backend-data": r#"{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:f0"}"#,
        });
        let left = object(&flannels, &json!(["10.244.1.0/24"]), &["192.0.2.1"]);
        assert_eq!(macs(&left, &name(), true), known);
        assert_eq!(macs(&left, &name(), false), NONE);
        // Both kinds of nodes are told it, and it is found again in what was published.
        let wanted = wanted(&left, known, &publication("vxlan"), true).unwrap();
        assert_eq!(
            wanted["flannel.alpha.coreos.com/backend-data"],
            left.annotation("flannel.alpha.coreos.com/backend-data").map(str::to_owned)
        );
        let ours = object(&json!({ ANNOTATION: wanted[ANNOTATION] }), &json!([]), &[]);
        assert_eq!(peer(&ours, &name(), false).unwrap().macs, known);
        assert_eq!(macs(&ours, &name(), false), known);
        // A group's is nobody's, and that of the name need not be said.
        for text in ["01:bb:cc:dd:ee:f0", "00:00:00:00:00:00", &name().mac().to_string()] {
            let text =
                json!({ "addresses": {}, "subnets": {}, "macs": { "v4": text } }).to_string();
            let object = object(&json!({ ANNOTATION: text }), &json!([]), &[]);
            assert_eq!(macs(&object, &name(), true), NONE, "{text}");
        }
    }
}
