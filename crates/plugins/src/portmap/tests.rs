//! What is asked for, and the plans that make it, against a real kernel.

use cni::Request;
use kernel::{Kernel, OnError};
use net::{Change, Plan, script};
use testbed::{Namespace, assert_same_state, state};

use super::*;
use crate::proof;

fn request(keys: &str) -> Request {
    proof::request("portmap", keys)
}

fn parse(keys: &str) -> Result<Config, (String, String)> {
    Config::parse(&request(keys)).map_err(|error| (error.msg, error.details))
}

fn mappings(list: &str) -> String {
    format!(r#","runtimeConfig":{{"portMappings":[{list}]}}"#)
}

/// The configuration, and what it needs for a container with these addresses.
fn needed(keys: &str, addresses: &[&str]) -> (Config, Needs) {
    let config = parse(keys).unwrap();
    let containers: Vec<IpNet> = addresses.iter().map(|it| it.parse().unwrap()).collect();
    let ports = rules::ports(&config.mappings, &containers).unwrap();
    let needs = rules::needs(&config, &Attachment::of(&request(keys)), &ports, &containers);
    (config, needs)
}

const WEB: &str = r#"{"hostPort":8080,"containerPort":80,"protocol":"tcp"}"#;

#[test]
fn what_runtimes_write_is_understood() {
    let config = parse(&mappings(
        r#"{"HostPort":18081,"ContainerPort":80,"Protocol":"TCP","HostIP":""},
           {"hostPort":53,"containerPort":5353,"protocol":"udp","hostIP":"0.0.0.0"},
           {"hostPort":53,"containerPort":5353,"protocol":"sctp","hostIP":"2001:db8::1"},
           {"hostPort":53,"containerPort":5353,"protocol":"tcp","hostIP":"192.0.2.7/24"}"#,
    ))
    .unwrap();
    let hosts: Vec<_> =
        config.mappings.iter().map(|it| it.host.map(|net| net.to_string())).collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(hosts, [None, some("0.0.0.0/0"), some("2001:db8::1/128"), some("192.0.2.0/24")]);
    assert_eq!((config.snat, config.mark), (Snat::Hairpin, 0x2000));
    let all = parse(r#","masqAll":true,"markMasqBit":5,"backend":"iptables""#).unwrap();
    assert_eq!((all.snat, all.mark), (Snat::All, 0x20));
    assert_eq!(parse(r#","snat":false,"masqAll":true"#).unwrap().snat, Snat::Never);
    assert!(parse(r#","externalSetMarkChain":"KUBE-MARK-MASQ""#).is_ok());
}

#[test]
fn what_cannot_be_is_refused_with_the_references_words() {
    for (keys, text) in [
        (r#","backend":"ebtables""#, "unrecognized backend \"ebtables\""),
        (r#","markMasqBit":32"#, "MasqMarkBit must be between 0 and 31"),
        (r#","markMasqBit":-1"#, "MasqMarkBit must be between 0 and 31"),
        (
            r#","markMasqBit":3,"externalSetMarkChain":"KUBE-MARK-MASQ""#,
            "Cannot specify externalSetMarkChain and markMasqBit",
        ),
        (
            r#","backend":"iptables","conditionsV4":["ip"],"conditionsV6":["ip6"]"#,
            "iptables backend was requested but configuration contains nftables-specific options [conditionsV4 conditionsV6]",
        ),
        (
            r#","backend":"nftables","externalSetMarkChain":"X","conditionsV4":["-s"],"conditionsV6":["ip6 saddr ::1"]"#,
            "nftables backend was requested but configuration contains iptables-specific options [externalSetMarkChain conditionsV4]",
        ),
        (
            r#","externalSetMarkChain":"MINE""#,
            "externalSetMarkChain: invalid value \"MINE\": podwire enters no iptables chain",
        ),
        (r#","conditionsV6":["tcp dport 80"]"#, "conditionsV6: \"tcp\" is not understood"),
        (
            &mappings(r#"{"hostPort":0,"containerPort":80,"protocol":"tcp"}"#),
            "Invalid host port number: 0",
        ),
        (
            &mappings(r#"{"hostPort":65536,"containerPort":80,"protocol":"tcp"}"#),
            "Invalid host port number: 65536",
        ),
        (&mappings(r#"{"hostPort":80,"protocol":"tcp"}"#), "Invalid container port number: 0"),
        (&mappings(r#"{"hostPort":80,"containerPort":80}"#), "Invalid protocol: \"\""),
        (
            &mappings(r#"{"hostPort":80,"containerPort":80,"protocol":"icmp"}"#),
            "Invalid protocol: \"icmp\"",
        ),
        (
            &mappings(r#"{"hostPort":80,"containerPort":80,"protocol":"tcp","hostIP":"host"}"#),
            "Invalid host IP: \"host\"",
        ),
    ] {
        assert_eq!(parse(keys).unwrap_err().0, format!("failed to parse config: {text}"), "{keys}");
    }
    let list = format!("{WEB},{}", r#"{"hostPort":80,"containerPort":80,"protocol":"x"}"#);
    let (_, details) = parse(&mappings(&list)).unwrap_err();
    let place = "runtimeConfig.portMappings[1].protocol: must be tcp, udp, sctp, dccp or udplite";
    assert_eq!(details, place);
}

#[test]
fn ports_are_those_of_the_container_s_families() {
    let list = format!(
        "{WEB},{WEB},{}",
        r#"{"hostPort":53,"containerPort":53,"protocol":"udp","hostIP":"::"}"#
    );
    let ports = |addresses: &[&str]| -> Vec<String> {
        let (_, needs) = needed(&mappings(&list), addresses);
        needs.ports.iter().map(|(port, it)| format!("{port} {} {}", it.set, port.target)).collect()
    };
    assert_eq!(ports(&["10.1.0.2/24"]), ["8080/tcp hostports4 10.1.0.2:80"]);
    assert_eq!(
        ports(&["10.1.0.2/24", "fd00::2/64"]),
        [
            "8080/tcp hostports4 10.1.0.2:80",
            "8080/tcp hostports6 [fd00::2]:80",
            "53/udp hostports6 [fd00::2]:53"
        ]
    );
    let twice = format!("{WEB},{}", r#"{"hostPort":8080,"containerPort":81,"protocol":"tcp"}"#);
    let config = parse(&mappings(&twice)).unwrap();
    assert!(rules::ports(&config.mappings, &["10.1.0.2/24".parse().unwrap()]).is_err());
}

#[test]
fn of_networks_within_each_other_the_most_special_one_counts() {
    let at = |net: &str, port: u16| {
        format!(r#"{{"hostPort":7,"containerPort":{port},"protocol":"tcp","hostIP":"{net}"}}"#)
    };
    let list = [at("192.0.0.0/16", 1), at("192.0.0.1", 2), at("192.0.0.0/24", 3)].join(",");
    let keys = mappings(&list) + r#","conditionsV4":["-i","eth0"]"#;
    let (_, needs) = needed(&keys, &["10.1.0.2/24"]);
    let ports: Vec<String> = needs.ports.iter().map(|(port, _)| port.to_string()).collect();
    assert_eq!(ports, ["192.0.0.0/16 port 7/tcp"]);
    let targets = |rule: &net::nft::Rule| rule.to_string().rsplit(':').next().unwrap().to_owned();
    assert_eq!(needs.chains[0].rules.iter().map(targets).collect::<Vec<_>>(), ["2", "3", "1"]);
}

#[test]
fn a_chain_goes_with_the_last_port_that_leads_to_it() {
    let list = format!("{WEB},{}", r#"{"hostPort":8081,"containerPort":80,"protocol":"tcp"}"#);
    let keys = mappings(&list) + r#","conditionsV4":["-i","eth0"]"#;
    let (_, mut needs) = needed(&keys, &["10.1.0.2/24"]);
    let ports: Vec<_> = needs.ports.iter().map(|(port, _)| *port).collect();
    let names = |needs: &rules::Needs| -> Vec<String> {
        needs.chains.iter().map(|chain| chain.name.clone()).collect()
    };
    let all = names(&needs);
    needs.leave(&ports[..1]);
    assert_eq!((needs.ports.len(), names(&needs)), (1, all));
    needs.leave(&ports);
    assert_eq!(names(&needs), ["hairpin-10.1.0.0/24"]);
}

#[test]
fn flows_are_read_from_elements_as_they_were_written() {
    let list = r#"{"hostPort":53,"containerPort":5353,"protocol":"udp"},
        {"hostPort":53,"containerPort":5353,"protocol":"udp","hostIP":"192.0.2.1"},
        {"hostPort":53,"containerPort":5353,"protocol":"udp","hostIP":"198.51.100.0/24"}"#;
    for conditions in ["", r#","conditionsV4":["-i","eth0"]"#] {
        let (_, needs) = needed(&(mappings(list) + conditions), &["10.1.0.2/24", "fd00::2/64"]);
        for (port, element) in &needs.ports {
            let flow = rules::flow_of(element).unwrap();
            assert_eq!(flow, port.flow());
        }
        assert!(needs.hairpins.iter().all(|it| rules::flow_of(it).is_none()));
    }
}

/// The keys of configurations that differ in what they make, each with the container's addresses.
fn variants() -> Vec<(String, Vec<&'static str>)> {
    let list = format!(
        "{WEB},{}",
        r#"{"hostPort":53,"containerPort":5353,"protocol":"udp","hostIP":"192.0.2.1"},
           {"hostPort":54,"containerPort":5353,"protocol":"sctp","hostIP":"198.51.100.0/24"},
           {"hostPort":54,"containerPort":5354,"protocol":"sctp","hostIP":"198.51.100.0/23"},
           {"hostPort":54,"containerPort":5353,"protocol":"tcp","hostIP":"2001:db8::/64"}"#
    );
    let both = vec!["10.1.0.2/24", "fd00:1::2/64"];
    vec![
        (mappings(WEB), vec!["10.1.0.2/24"]),
        (mappings(&list), both.clone()),
        (mappings(&list) + r#","snat":false"#, both.clone()),
        (mappings(&list) + r#","masqAll":true,"markMasqBit":31"#, both.clone()),
        (mappings(&list), vec!["10.1.0.2/32", "fd00:1::2/128"]),
        (
            mappings(&list)
                + r#","conditionsV4":["!","-d","192.0.2.0/24"],"conditionsV6":["-i","eth+"]"#,
            both,
        ),
    ]
}

fn whole_plan(keys: &str, addresses: &[&str]) -> Plan {
    let (config, needs) = needed(keys, addresses);
    let seen =
        Seen { local_routes: vec!["net/ipv4/conf/lo/route_localnet".into()], ..Seen::default() };
    plan::plan(&needs, config.mark, &seen)
}

/// Runs `work` with a kernel whose "here" is `host`.
fn on<T>(host: &Namespace, work: impl FnOnce(&mut Kernel) -> T) -> T {
    host.netns().enter(|| work(&mut Kernel::new().unwrap())).unwrap()
}

#[test]
fn the_plan_and_its_shell_text_do_the_same() {
    testbed::isolated!();
    testbed::need("sysctl", "procps");
    for (keys, addresses) in variants() {
        println!("{keys}");
        let (host, host2) = (Namespace::new("host1"), Namespace::new("host2"));
        let plan = whole_plan(&keys, &addresses);
        on(&host, |kernel| kernel.apply(&plan, OnError::Stop)).into_result().unwrap();
        host2.sh(&script(&plan));
        assert_same_state(&state(&host), &state(&host2));
    }
}

#[test]
fn what_is_made_is_seen_as_it_was_asked_for_and_goes_as_a_whole() {
    testbed::isolated!();
    for (keys, addresses) in variants() {
        println!("{keys}");
        let host = Namespace::new("host");
        let (config, mut needs) = needed(&keys, &addresses);
        let plan = whole_plan(&keys, &addresses);
        on(&host, |kernel| {
            // A failure before the rules leaves none.
            kernel.fail_after(1);
            assert_eq!(kernel.apply(&plan, OnError::Stop).failed.len(), 1);
            assert!(!state(&host).contains("hostports"));
            kernel.apply(&plan, OnError::Stop).into_result().unwrap();
            let seen = look(kernel, &config, &Attachment::of(&request(&keys)), &mut needs).unwrap();
            let wanted: Vec<Element> = needs.elements().cloned().collect();
            assert!(wanted.iter().all(|element| seen.replaced.contains(element)));
            assert_eq!(seen.replaced.len(), wanted.len());
            assert_eq!(seen.stale, []);
            for chain in rules::shared(config.mark).iter().chain(&needs.chains) {
                assert!(kernel.nft_chain_holds(&HOST, chain).unwrap(), "{}", chain.name);
            }
            teardown::remove(kernel, &wanted).unwrap();
        });
        let rules = state(&host);
        assert!(!rules.contains("id: one"), "{rules}");
        // Only what pods share is left.
        assert!(!rules.contains("veth") && !rules.contains("/32 {") && !rules.contains("/128 {"));
    }
}

#[test]
fn a_second_add_leaves_nothing_of_the_first() {
    testbed::isolated!();
    let host = Namespace::new("host");
    let addresses = ["10.1.0.2/24"];
    let other = r#"{"hostPort":8081,"containerPort":80,"protocol":"tcp","hostIP":"192.0.2.0/24"}"#;
    for (number, list) in [WEB, other, WEB].into_iter().enumerate() {
        let keys = mappings(list);
        let (config, mut needs) = needed(&keys, &addresses);
        on(&host, |kernel| {
            let seen = look(kernel, &config, &Attachment::of(&request(&keys)), &mut needs).unwrap();
            assert_eq!(seen.stale.len(), usize::from(number > 0));
            let plan = plan::plan(&needs, config.mark, &seen);
            assert!(plan.iter().all(|step| !matches!(step.change, Change::Replace { .. })));
            kernel.apply(&plan, OnError::Stop).into_result().unwrap();
            let all = elements::find(kernel, &masquerade::table(), &rules::MAPS, |_| true).unwrap();
            assert_eq!(all, needs.elements().cloned().collect::<Vec<_>>());
        });
    }
}
