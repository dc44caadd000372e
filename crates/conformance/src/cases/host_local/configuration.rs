//! What host-local refuses.

use serde_json::{Value, json};

use super::{HOST_LOCAL, README, network, refused, somebody};
use crate::case::{Case, case};
use crate::node::{Network, Node};

pub(in crate::cases) const CASES: &[Case] = &[
    case!(
        invalid_ranges,
        HOST_LOCAL,
        README,
        "ranges that cannot be are refused, and the text says what is wrong with which"
    ),
    case!(
        no_ranges,
        HOST_LOCAL,
        README,
        "a configuration without ipam, or without ranges, is refused"
    ),
    case!(
        addresses_of_old_versions,
        HOST_LOCAL,
        "CNI spec 0.2.0, Result",
        "before 0.3.0 there is one address a family"
    ),
];

fn invalid_ranges(node: &Node) {
    let pod = somebody(node);
    let set = |ranges: Value| json!([ranges]);
    let range = |range: Value| json!([[range]]);
    for (ranges, said) in [
        (set(json!([])), "invalid range set 0: empty range set"),
        (
            range(json!({ "subnet": "10.1.2.0/31" })),
            "invalid range set 0: Network 10.1.2.0/31 too small to allocate from",
        ),
        (
            range(json!({ "subnet": "10.1.2.5/24" })),
            "invalid range set 0: Network has host bits set. For a subnet mask of length 24 the \
             network address is 10.1.2.0",
        ),
        (
            range(json!({ "subnet": "2001:db8:1::5/64" })),
            "invalid range set 0: Network has host bits set. For a subnet mask of length 64 the \
             network address is 2001:db8:1::",
        ),
        (
            range(json!({ "subnet": "10.1.2.0/24", "rangeStart": "10.1.3.1" })),
            "invalid range set 0: RangeStart 10.1.3.1 not in network 10.1.2.0/24",
        ),
        (
            range(json!({ "subnet": "10.1.2.0/24", "rangeEnd": "10.1.3.1" })),
            "invalid range set 0: RangeEnd 10.1.3.1 not in network 10.1.2.0/24",
        ),
        (
            range(json!({
                "subnet": "10.1.2.0/24", "rangeStart": "10.1.2.9", "rangeEnd": "10.1.2.5",
            })),
            "invalid range set 0: RangeStart 10.1.2.9 not in network 10.1.2.0/24",
        ),
        (
            set(json!([{ "subnet": "10.1.2.0/24" }, { "subnet": "2001:db8:1::/64" }])),
            "invalid range set 0: mixed address families",
        ),
        (
            set(json!([{ "subnet": "10.1.2.0/24" }, { "subnet": "10.1.2.0/25" }])),
            "invalid range set 0: subnets 10.1.2.1-10.1.2.254 and 10.1.2.1-10.1.2.126 overlap",
        ),
        (
            json!([[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "10.1.2.0/25" }]]),
            "range set 0 overlaps with 1",
        ),
    ] {
        let network = network(node, &json!({ "ranges": ranges }));
        assert_eq!(refused(node, "ADD", &pod, &network), said);
    }
    assert!(node.reservations().is_empty());
}

fn no_ranges(node: &Node) {
    let pod = somebody(node);
    let none = Network::of(vec![json!({ "type": "host-local" })]);
    assert_eq!(refused(node, "ADD", &pod, &none), "IPAM config missing 'ipam' key");
    for ranges in [json!({}), json!({ "ranges": [] }), json!({ "ranges": null })] {
        assert_eq!(refused(node, "ADD", &pod, &network(node, &ranges)), "no IP ranges specified");
    }
}

fn addresses_of_old_versions(node: &Node) {
    let pod = somebody(node);
    let sets = json!({ "ranges": [
        [{ "subnet": "10.1.2.0/24" }], [{ "subnet": "2001:db8:1::/64" }],
    ] });
    let network = network(node, &sets);
    for version in ["0.1.0", "0.2.0"] {
        let old = network.clone().version(version);
        let result = node.add(&pod, &old);
        assert_eq!(result["ip4"]["gateway"], "10.1.2.1");
        assert_eq!(result["ip6"]["gateway"], "2001:db8:1::1");
        node.del(&pod, &old, &Value::Null);
        let more = super::network(
            node,
            &json!({ "ranges": [
            [{ "subnet": "10.1.2.0/24" }], [{ "subnet": "10.3.0.0/24" }],
        ] }),
        )
        .version(version);
        let said = refused(node, "ADD", &pod, &more);
        let expected =
            format!("CNI version {version} does not support more than 1 address per family");
        assert_eq!(said, expected);
    }
}
