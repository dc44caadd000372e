//! What a person would type, for a step, a plan, and for names and words of every kind.

use super::*;

fn lines(space: &Space, change: Change) -> Vec<String> {
    shell(&Step::new(space, change, ""))
}

#[test]
fn a_pod_is_wired_as_a_person_would_do_it() {
    let pod = Space::named("blue");
    let peer =
        Peer { space: pod.clone(), name: "eth0".parse().unwrap(), mac: None, mtu: Some(1400) };
    let veth = Link {
        master: Some("cni0".parse().unwrap()),
        mtu: Some(1400),
        ..Link::veth("veth1".parse().unwrap(), peer).up()
    };
    assert_eq!(
        lines(&Space::Here, Change::Create(veth.into())),
        [
            "ip link add veth1 mtu 1400 type veth peer name eth0 mtu 1400 netns blue",
            "ip link set veth1 master cni0",
            "ip link set veth1 up",
        ]
    );
    let eth0 = Address::new("eth0".parse().unwrap(), "10.1.0.2/24".parse().unwrap());
    assert_eq!(
        lines(&pod, Change::Create(eth0.into())),
        ["ip -n blue address add 10.1.0.2/24 broadcast 10.1.0.255 dev eth0"]
    );
    let mut out = Route::new("0.0.0.0/0".parse().unwrap());
    out.gateway = Some("10.1.0.1".parse().unwrap());
    assert_eq!(
        lines(&pod, Change::Create(out.into())),
        ["ip -n blue route add default via 10.1.0.1"]
    );
}

#[test]
fn tunnels_are_told_as_ip_takes_them() {
    let here = Space::Here;
    let link: LinkName = "podwire0".parse().unwrap();
    let local = Some("192.0.2.1".parse().unwrap());
    let form = VxlanForm::Classic { vni: 1, underlay: "eth0".parse().ok(), local };
    let classic = Link::vxlan(link.clone(), Vxlan { port: 8472, form });
    let classic = Link { tx_checksum: Some(false), ..classic };
    assert_eq!(
        lines(&here, Change::Create(classic.into())),
        [
            "ip link add podwire0 type vxlan id 1 local 192.0.2.1 dev eth0 nolearning dstport 8472",
            "ethtool -K podwire0 tx off",
        ]
    );
    let form = VxlanForm::External { gpe: true, filtered: true };
    let gpe = Link::vxlan(link.clone(), Vxlan { port: 4790, form });
    assert_eq!(
        lines(&here, Change::Create(gpe.into())),
        ["ip link add podwire0 type vxlan external vnifilter gpe dstport 4790"]
    );
    let vni = Vni { link: link.clone(), vni: 1 };
    assert_eq!(lines(&here, Change::Create(vni.into())), ["bridge vni add dev podwire0 vni 1"]);
    let to = "fd00::2".parse().unwrap();
    let route = Route {
        encap: Some(Encap { vni: 1, to, checksum: true }),
        gateway: Some("10.1.2.0".parse().unwrap()),
        link: Some(link),
        onlink: true,
        protocol: 112,
        ..Route::new("10.1.2.0/24".parse().unwrap())
    };
    assert_eq!(
        lines(&here, Change::Create(route.into())),
        ["ip route add 10.1.2.0/24 encap ip6 id 1 dst fd00::2 csum via 10.1.2.0 dev podwire0 \
          onlink proto 112"]
    );
}

#[test]
fn spaces_choose_the_tool() {
    let forward = Change::Ensure(Sysctl::new("net/ipv4/ip_forward", "1").into());
    assert_eq!(
        lines(&Space::named("n1"), forward.clone()),
        ["ip netns exec n1 sysctl -qw net/ipv4/ip_forward=1"]
    );
    assert_eq!(
        lines(&Space::At("/proc/7/ns/net".into()), forward),
        ["nsenter --net=/proc/7/ns/net sysctl -qw net/ipv4/ip_forward=1"]
    );
}

#[test]
fn a_script_can_be_run_twice_over_what_is_shared() {
    let bridge = Link::bridge("cni0".parse().unwrap()).up();
    let plan = vec![Step::new(&Space::Here, Change::Ensure(bridge.into()), "joins the pods")];
    assert_eq!(
        script(&plan),
        "#!/bin/sh\nset -eu\n\n# joins the pods\n\
         ip link show dev cni0 >/dev/null 2>&1 || ip link add cni0 type bridge\n\
         ip link set cni0 up\n"
    );
}

#[test]
fn names_are_words_whatever_is_in_them() {
    let odd: LinkName = "e$(id)'`;".parse().unwrap();
    let here = Space::named("n $(id)");
    let peer = Peer { space: here.clone(), name: odd.clone(), mac: None, mtu: None };
    let link = Link {
        master: Some(odd.clone()),
        port: crate::Port { hairpin: Some(true), isolated: None },
        ..Link::veth(odd.clone(), peer).up()
    };
    let mut route = Route::new("10.0.0.0/8".parse().unwrap());
    route.link = Some(odd.clone());
    let mac = Mac([2; 6]);
    let address: std::net::IpAddr = "10.0.0.1".parse().unwrap();
    let objects: Vec<Object> = vec![
        link.into(),
        route.into(),
        Address::new(odd.clone(), "10.0.0.1/8".parse().unwrap()).into(),
        Neighbour { link: odd.clone(), address, mac, protocol: 0 }.into(),
        Fdb { link: odd.clone(), mac, to: None }.into(),
        Vni { link: odd.clone(), vni: 1 }.into(),
        Qdisc { link: odd.clone(), kind: QdiscKind::Tbf { rate: 1, burst: 1, limit: 1 } }.into(),
    ];
    let acts = vec![
        Change::Act(Action::WaitUp { link: odd.clone(), millis: 1 }),
        Change::Act(Action::WaitAddresses { link: odd.clone(), addresses: vec![], millis: 1 }),
        Change::Act(Action::Announce { link: odd, mac }),
    ];
    let deletions = objects.iter().cloned().map(Change::Delete);
    let changes = objects.iter().cloned().map(Change::Create).chain(deletions).chain(acts);
    for change in changes {
        for line in lines(&here, change) {
            // Outside of quotes nothing of a name is left that a shell would act on.
            let outside: String = line.replace(r"'\''", "").split('\'').step_by(2).collect();
            assert!(!outside.contains("$(id)") && !outside.contains('`'), "{line}");
        }
    }
}

#[test]
fn words_are_quoted() {
    assert_eq!(quote("a b'c"), r"'a b'\''c'");
    assert_eq!(quote("net/ipv4/ip_forward=1"), "net/ipv4/ip_forward=1");
}
