//! What the machine can do, against what the system's own tools can do on it.

use diagnosis::doctor::{Group, State, abilities};
use testbed::{isolated, sh};

#[test]
fn abilities_are_those_that_ip_has() {
    isolated!();
    let abilities = abilities();
    let mut tried = 0;
    for ability in abilities.iter().filter(|it| it.group == Group::Devices) {
        // What needs more than its name is made with it.
        let rest = match ability.name.as_str() {
            "bridge" | "veth" | "dummy" | "ifb" | "bond" | "wireguard" => "",
            "vrf" => "table 10",
            "vxlan" => "id 1 dstport 8472",
            "macvlan" | "ipvlan" => "link base",
            "vlan" => "link base id 5",
            // ip has no such word, or devices of the kind are there by themselves.
            _ => continue,
        };
        let (link, rest) = match rest.strip_prefix("link base") {
            Some(rest) => ("link base", rest),
            None => ("", rest),
        };
        let kind = &ability.name;
        let made = sh(&format!(
            "ip link add base type veth peer name far
             if ip link add {link} name made type {kind} {rest} 2>/dev/null; then echo made; fi
             ip link del base; ip link del made 2>/dev/null || true"
        ));
        let expected = if made.contains("made") { State::Yes } else { State::No };
        assert_eq!(ability.state, expected, "{ability:?}");
        assert_eq!(ability.state == State::Yes, ability.consequence.is_empty(), "{ability:?}");
        tried += 1;
    }
    assert_eq!(tried, 11);
    let mut others = abilities.iter().filter(|it| it.group != Group::Devices);
    assert!(others.all(|it| it.state == State::Yes), "{abilities:#?}");
    // Nothing of it is left here.
    assert_eq!(sh("ip -o link | wc -l; nft list tables").trim(), "1");
}
