//! The files, which both implementations and administrators share.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use testbed::look::files;

use super::{HOST_LOCAL, README, called, given, network, ranged, refused, somebody};
use crate::case::{By, Case, Known, case};
use crate::node::Node;

const STORE: &str = "reference, host-local's store";

pub(in crate::cases) const CASES: &[Case] = &[
    case!(
        file_format,
        HOST_LOCAL,
        STORE,
        "an address is a file of its name, with container and interface in it, and the last one \
         is remembered"
    ),
    case!(
        file_modes,
        HOST_LOCAL,
        STORE,
        "the directory is for everybody to read, the files for their owner only"
    )
    .known(&[Known::new(
        By::OldReference,
        "pods/10.1.2.2",
        "host-local lets everybody read its files",
    )]),
    case!(
        default_directory,
        HOST_LOCAL,
        README,
        "without dataDir the files are in /var/lib/cni/networks"
    ),
    case!(
        release_by_content,
        HOST_LOCAL,
        STORE,
        "DEL frees the files of its attachment, whatever range they are of, and no others"
    ),
    case!(
        old_file_format,
        HOST_LOCAL,
        STORE,
        "a file with a container's id alone is freed, and white space does not matter"
    ),
    case!(
        files_of_others,
        HOST_LOCAL,
        STORE,
        "an address whose file somebody else has made is not given"
    ),
    case!(unknown_files, HOST_LOCAL, STORE, "files of other names are left alone"),
    case!(
        cursor_is_rubbish,
        HOST_LOCAL,
        STORE,
        "a last address that cannot be read, or is of no range, is no matter"
    ),
    case!(
        empty_file_is_no_reservation_for_ever,
        HOST_LOCAL,
        README,
        "a file that a power loss left empty does not block its address for ever"
    )
    .known(&[Known::new(
        By::Reference,
        "no IP addresses available",
        "host-local takes the address of an empty file for given, for ever",
    )]),
    case!(
        del_with_ranges_that_became_invalid,
        HOST_LOCAL,
        "CNI spec, section 2, DEL",
        "DEL frees the address though the ranges have become invalid"
    )
    .known(&[Known::new(
        By::Reference,
        "invalid range set 0",
        "host-local validates the ranges before it frees",
    )]),
    case!(
        del_before_any_add,
        HOST_LOCAL,
        "CNI spec, section 2, DEL",
        "DEL where nothing was ever given succeeds"
    ),
    case!(
        host_local_check,
        HOST_LOCAL,
        "CNI spec, section 2, CHECK",
        "CHECK sees whether the attachment has an address"
    ),
];

const ADDRESSES: &str = "10.1.2.0/24";

fn file_format(node: &Node) {
    let pod = called(somebody(node), "dummy");
    let ranges =
        json!({ "ranges": [[{ "subnet": ADDRESSES }], [{ "subnet": "2001:DB8:1::/64" }]] });
    let network = network(node, &ranges);
    assert_eq!(given(node, &pod, &network), ["10.1.2.2/24", "2001:db8:1::2/64"]);
    let mut there = files(&node.data());
    assert!(there.remove("pods/lock").is_some(), "{there:?}");
    assert!(there.remove("pods/").is_some(), "{there:?}");
    let expected = [
        ("pods/10.1.2.2", "dummy\r\neth0"),
        ("pods/2001:db8:1::2", "dummy\r\neth0"),
        ("pods/last_reserved_ip.0", "10.1.2.2"),
        ("pods/last_reserved_ip.1", "2001:db8:1::2"),
    ]
    .map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!(there, expected.into());
    node.del(&pod, &network, &Value::Null);
    let mut left: Vec<_> = files(&node.data().join("pods")).into_keys().collect();
    left.retain(|name| name != "lock");
    assert_eq!(left, ["last_reserved_ip.0", "last_reserved_ip.1"]);
}

fn file_modes(node: &Node) {
    node.add(&somebody(node), &ranged(node, &json!({ "subnet": ADDRESSES })));
    let mode =
        |name: &str| fs::metadata(node.data().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("pods"), 0o755);
    for name in ["pods/10.1.2.2", "pods/last_reserved_ip.0"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
}

fn default_directory(node: &Node) {
    // The case's own, whatever the machine has, and whatever else a plugin writes there.
    testbed::sh("mount -t tmpfs tmpfs /var/lib");
    let pod = somebody(node);
    let mut network = json!({ "ranges": [[{ "subnet": ADDRESSES }]], "dataDir": null });
    network["type"] = "host-local".into();
    let network = crate::node::Network::of(vec![json!({ "type": "host-local", "ipam": network })]);
    node.add(&pod, &network);
    assert!(fs::exists("/var/lib/cni/networks/pods/10.1.2.2").unwrap());
    node.del(&pod, &network, &Value::Null);
    assert!(!fs::exists("/var/lib/cni/networks/pods/10.1.2.2").unwrap());
}

fn release_by_content(node: &Node) {
    let mut pod = somebody(node);
    let first = ranged(node, &json!({ "subnet": ADDRESSES }));
    let second = ranged(node, &json!({ "subnet": "10.9.0.0/24" }));
    node.add(&pod, &first);
    pod.ifname = "eth1".to_owned();
    node.add(&pod, &first);
    let other = called(node.pod("other"), "pod2");
    node.add(&other, &first);
    // The ranges have changed since.
    node.del(&pod, &second, &Value::Null);
    let left = node.reservations();
    assert_eq!(left.keys().collect::<Vec<_>>(), ["10.1.2.2", "10.1.2.4"]);
    assert_eq!(left["10.1.2.2"], "pod\r\neth0");
    assert_eq!(left["10.1.2.4"], "pod2\r\neth0");
}

fn old_file_format(node: &Node) {
    let directory = node.data().join("pods");
    fs::create_dir_all(&directory).unwrap();
    let network = ranged(node, &json!({ "subnet": ADDRESSES }));
    for (id, text) in [("a", "a"), ("b", " b\n"), ("c", "c\r\neth0\n"), ("d", "  d\r\neth0  ")] {
        fs::write(directory.join("10.1.2.77"), text).unwrap();
        node.del(&called(node.pod(id), id), &network, &Value::Null);
        assert!(node.reservations().is_empty(), "{text:?}");
    }
}

fn files_of_others(node: &Node) {
    let directory = node.data().join("pods");
    fs::create_dir_all(&directory).unwrap();
    for name in ["10.1.2.2", "10.1.2.3"] {
        fs::write(directory.join(name), "somebody\r\neth0").unwrap();
    }
    let network = ranged(node, &json!({ "subnet": ADDRESSES }));
    assert_eq!(given(node, &somebody(node), &network), ["10.1.2.4/24"]);
}

fn unknown_files(node: &Node) {
    let directory = node.data().join("pods");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("README"), "of an administrator").unwrap();
    fs::write(directory.join("10.1.2.300"), "no address").unwrap();
    let (pod, network) = (somebody(node), ranged(node, &json!({ "subnet": ADDRESSES })));
    assert_eq!(given(node, &pod, &network), ["10.1.2.2/24"]);
    node.check(&pod, &network, &Value::Null);
    node.del(&pod, &network, &Value::Null);
    let left = files(&directory);
    assert_eq!(left["README"], "of an administrator");
    assert_eq!(left["10.1.2.300"], "no address");
}

fn cursor_is_rubbish(node: &Node) {
    let directory = node.data().join("pods");
    fs::create_dir_all(&directory).unwrap();
    let network = ranged(node, &json!({ "subnet": ADDRESSES }));
    for (number, text) in ["", "kaput", "10.9.9.9", "2001:db8::1"].into_iter().enumerate() {
        fs::write(directory.join("last_reserved_ip.0"), text).unwrap();
        let pod = node.pod(&format!("pod{number}"));
        let address = given(node, &pod, &network);
        assert_eq!(address, [format!("10.1.2.{}/24", number + 2)], "{text:?}");
    }
}

fn empty_file_is_no_reservation_for_ever(node: &Node) {
    let directory = node.data().join("pods");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("10.1.2.2"), "").unwrap();
    let network = ranged(node, &json!({ "subnet": "10.1.2.0/30" }));
    let answer = node.attempt("ADD", &somebody(node), &network, &Value::Null);
    assert!(answer.is_ok(), "{answer:?}");
}

fn del_with_ranges_that_became_invalid(node: &Node) {
    let pod = somebody(node);
    node.add(&pod, &ranged(node, &json!({ "subnet": ADDRESSES })));
    let invalid = ranged(node, &json!({ "subnet": "10.1.2.5/24" }));
    node.del(&pod, &invalid, &Value::Null);
    assert!(node.reservations().is_empty());
}

fn del_before_any_add(node: &Node) {
    let network = ranged(node, &json!({ "subnet": ADDRESSES }));
    node.del(&somebody(node), &network, &Value::Null);
}

fn host_local_check(node: &Node) {
    let mut pod = somebody(node);
    let network = ranged(node, &json!({ "subnet": ADDRESSES }));
    node.add(&pod, &network);
    node.check(&pod, &network, &Value::Null);
    pod.ifname = "eth1".to_owned();
    let said = refused(node, "CHECK", &pod, &network);
    let expected = "host-local: Failed to find address added by container pod";
    assert_eq!(said, expected);
    pod.ifname = "eth0".to_owned();
    node.del(&pod, &network, &Value::Null);
    assert_eq!(refused(node, "CHECK", &pod, &network), expected);
}
