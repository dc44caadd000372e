use super::super::wire::{Bytes, Int};
use super::*;

const KEYS: &str = "/coreos.com/network/";

fn keys() -> Keys {
    Keys::below(KEYS)
}

fn kv(key: &str, value: &str, revision: i64) -> KeyValue {
    KeyValue {
        key: Bytes(format!("{}{key}", keys().leases).into_bytes()),
        value: Bytes(value.as_bytes().to_vec()),
        create_revision: Int(revision),
        mod_revision: Int(revision),
        lease: Int(7),
    }
}

fn picture(all: &[(&str, &str)]) -> Picture {
    let all = all.iter().zip(1..).map(|((key, value), revision)| kv(key, value, revision));
    Picture::of(&keys(), 100, all)
}

fn lease(name: &str, address: &str) -> String {
    let name = if name.is_empty() { String::new() } else { format!(r#""NodeName":"{name}","#) };
    format!(r#"{{{name}"PublicIP":"{address}","BackendType":"vxlan"}}"#)
}

fn me() -> Publication {
    let v4 = Some("192.0.2.1".parse().unwrap());
    let addresses = PerFamily { v4, v6: Some("2001:db8::1".parse().unwrap()) };
    Publication { name: "n1".parse().unwrap(), addresses, backend: "vxlan".to_owned(), vni: 1 }
}

fn names(picture: &Picture, own: &str) -> Vec<String> {
    let own = format!("{}{own}", keys().leases);
    let nodes = picture.nodes(&keys(), &me(), &own);
    nodes.iter().map(|node| format!("{} {:?}", node.name, node.subnets.v4)).collect()
}

#[test]
fn keys_are_flannels() {
    assert_eq!(keys().config, "/coreos.com/network/config");
    let of = |v4: &str, v6: &str| {
        let parse = |text: &str| text.parse().ok();
        keys().of(&PerFamily { v4: parse(v4), v6: parse(v6) })
    };
    assert_eq!(of("10.5.52.0/24", ""), "/coreos.com/network/subnets/10.5.52.0-24");
    assert_eq!(
        of("10.5.52.0/24", "fc00::/64"),
        "/coreos.com/network/subnets/10.5.52.0-24&fc00::-64"
    );
    assert_eq!(of("", "fc00::/64"), "/coreos.com/network/subnets/0.0.0.0-0&fc00::-64");
    let subnets = subnets_of("0.0.0.0-0&fc00::-64").unwrap();
    assert_eq!((subnets.v4, subnets.v6), (None, "fc00::/64".parse().ok()));
    for key in ["0.0.0.0-0", "", "x", "10.5.52.0-33", "10.5.52.0-24/more"] {
        assert_eq!(subnets_of(key), None, "{key}");
    }
}

#[test]
fn nodes_without_a_name_are_called_by_their_key() {
    for (key, name) in [
        ("10.5.52.0-24", "10.5.52.0-24"),
        ("10.5.52.0-24&FC00::-64", "10.5.52.0-24.fc00---64"),
        ("::1:0-112", "1-0-112"),
    ] {
        assert_eq!(name_of(key).unwrap().as_str(), name);
    }
}

#[test]
fn odd_leases_are_passed_over_and_their_subnets_kept() {
    let long = format!(r#"{{"PublicIP":"192.0.2.3","BackendType":"{}"}}"#, "x".repeat(LARGEST));
    let picture = picture(&[
        ("10.5.1.0-24", &lease("n1", "192.0.2.1")),
        ("10.5.2.0-24", "{"),
        ("10.5.3.0-24", &long),
        ("10.5.4.0-24", r#"{"PublicIP":"192.0.2.4"}"#),
        ("10.5.5.0-24", r#"{"PublicIP":"192.0.2.5","BackendType":"host-gw","BackendData":null}"#),
        ("10.5.6.0-24", r#"{"NodeName":"A B","PublicIP":"192.0.2.6","BackendType":"vxlan"}"#),
        ("junk", &lease("n9", "192.0.2.9")),
        ("0.0.0.0-0", &lease("n10", "192.0.2.10")),
    ]);
    assert_eq!(
        names(&picture, "10.5.1.0-24"),
        ["n1 Some(10.5.1.0/24)", "10.5.5.0-24 Some(10.5.5.0/24)"]
    );
    assert_eq!(picture.taken(None).len(), 6);
    assert_eq!(picture.taken(Some("/coreos.com/network/subnets/10.5.1.0-24")).len(), 5);
}

#[test]
fn one_name_is_one_node() {
    let picture = picture(&[
        ("10.5.9.0-24", &lease("n1", "192.0.2.1")),
        ("10.5.2.0-24", &lease("n2", "192.0.2.2")),
        ("10.5.1.0-24", &lease("n1", "192.0.2.1")),
        ("10.5.3.0-24", &lease("n2", "192.0.2.2")),
        ("10.5.4.0-24", &lease("", "192.0.2.1")),
    ]);
    let here = "10.5.9.0-24";
    assert_eq!(names(&picture, here), ["n2 Some(10.5.3.0/24)", "n1 Some(10.5.9.0/24)"]);
    assert_eq!(names(&picture, ""), ["n2 Some(10.5.3.0/24)"]);
}

#[test]
fn ours_is_what_names_us_or_has_our_address() {
    let both = picture(&[
        ("10.5.1.0-24", &lease("n1", "192.0.2.77")),
        ("10.5.2.0-24", &lease("", "192.0.2.1")),
        ("10.5.3.0-24", &lease("n3", "192.0.2.1")),
    ]);
    let own = |fits: &str| {
        let own = both.own(&me(), |entry| entry.subnets.v4 == fits.parse().ok());
        own.map(|(key, _)| key.rsplit('/').next().unwrap().to_owned())
    };
    assert_eq!(own("").unwrap(), "10.5.1.0-24");
    assert_eq!(own("10.5.2.0/24").unwrap(), "10.5.2.0-24");
    assert_eq!(own("10.5.3.0/24").unwrap(), "10.5.1.0-24");

    let owners = both.entries.values().map(|entry| entry.owner_now(&me()));
    assert_eq!(owners.collect::<Vec<_>>(), [Owner::Namesake, Owner::We, Owner::Other]);
}

#[test]
fn the_older_of_two_that_overlap_is_right() {
    let picture = picture(&[
        ("10.5.1.0-24&fc00:0:0:1::-64", &lease("n2", "192.0.2.2")),
        ("10.5.1.0-24&fc00:0:0:2::-64", &lease("n1", "192.0.2.1")),
    ]);
    let rival = |key: &str| {
        let full = format!("{}{key}", keys().leases);
        let subnets = subnets_of(key).unwrap();
        picture
            .rival(&me(), &full, &subnets)
            .map(|(_, entry)| entry.holder().0.unwrap().to_string())
    };
    assert_eq!(rival("10.5.1.0-24&fc00:0:0:2::-64").as_deref(), Some("n2"));
    assert_eq!(rival("10.5.1.0-24&fc00:0:0:1::-64"), None);
    assert_eq!(rival("10.5.1.128-25").as_deref(), Some("n2"));
    assert_eq!(rival("10.5.3.0-24"), None);
}

#[test]
fn changes_are_taken_in() {
    let mut it = picture(&[("10.5.1.0-24", &lease("n1", "192.0.2.1"))]);
    let event = |kind: &str, kv: &KeyValue| -> Event {
        let mut event: Event = serde_json::from_str(&format!(r#"{{"type":"{kind}"}}"#)).unwrap();
        event.kv = kv.clone();
        event
    };
    it.apply(&keys(), event("PUT", &kv("10.5.2.0-24", &lease("n2", "192.0.2.2"), 101)));
    assert_eq!(names(&it, "10.5.1.0-24").len(), 2);
    it.apply(&keys(), event("DELETE", &kv("10.5.1.0-24", "", 103)));
    assert_eq!(names(&it, ""), ["n2 Some(10.5.2.0/24)"]);
    assert_eq!(it.next, (101, 104));
    let config = KeyValue { key: Bytes(keys().config.into_bytes()), ..kv("", "{}", 102) };
    it.apply(&keys(), event("PUT", &config));
    assert_eq!((it.config.as_deref(), it.next), (Some(&b"{}"[..]), (103, 104)));
    it.apply(&keys(), event("DELETE", &config));
    assert_eq!(it.config, None);
}
