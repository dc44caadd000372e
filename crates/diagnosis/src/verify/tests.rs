//! Plans and judgements on machines that are made up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use net::nft::{
    Base, Chain, ChainKind, Family, Field, Hook, Object, Policy, Rule as NftRule, Statement,
    TableId, Test, Verdict as NftVerdict,
};
use topology::dump::{Address, Dump, Link, OperState};
use topology::{Attachment, Machine, Namespace, NetnsId, Node, PodName, PortMapping, Role};

use super::*;
use crate::Reference;

const LAB: &str = "default";

fn id(number: usize) -> NetnsId {
    NetnsId { device: 4, inode: 1000 + number as u64 }
}

fn address(index: u32, text: &str) -> Address {
    Address {
        index,
        address: text.parse().unwrap(),
        broadcast: None,
        scope: net::Scope::Universe,
        nodad: false,
        tentative: false,
        dad_failed: false,
        dynamic: false,
        deprecated: false,
        peer: None,
        protocol: 0,
    }
}

fn namespace(number: usize, name: &str, role: Role, node: Option<&str>, own: &str) -> Namespace {
    let link = Link {
        index: 2,
        name: "eth0".to_owned(),
        kind: "veth".to_owned(),
        mtu: 1450,
        up: true,
        oper_state: OperState::Up,
        ..Link::default()
    };
    Namespace {
        name: name.to_owned(),
        role,
        node: node.map(ToOwned::to_owned),
        lab: Some(LAB.to_owned()),
        paths: vec![format!("/run/netns/{name}").into()],
        dump: Dump {
            links: [(2, link)].into(),
            addresses: vec![address(2, own)],
            ..Dump::default()
        },
        ..Namespace::new(id(number))
    }
}

/// A lab of so many nodes with so many pods each.
fn lab(nodes: usize, pods: usize) -> Machine {
    let mut machine = Machine::default();
    for node in 0..nodes {
        let name = format!("node{node}");
        let own = format!("192.0.2.{}/24", node + 1);
        let home = namespace(machine.namespaces.len(), &name, Role::Node, Some(&name), &own);
        machine.nodes.push(Node {
            name: name.clone(),
            lab: Some(LAB.to_owned()),
            namespace: Some(home.id),
            attachments: vec![],
            reservations: vec![],
            configurations: vec![],
        });
        machine.namespaces.push(home);
        for pod in 0..pods {
            let own = format!("10.244.{node}.{}/24", pod + 2);
            let pod = format!("pod{node}-{pod}");
            let number = machine.namespaces.len();
            machine.namespaces.push(namespace(number, &pod, Role::Pod, Some(&name), &own));
        }
    }
    machine
}

fn wanted(subjects: &[&str], pairs: Pairs) -> Wanted {
    Wanted {
        subjects: subjects.iter().map(|text| text.parse().unwrap()).collect(),
        rules: Rule::ALL.into(),
        protocols: [Protocol::Icmp, Protocol::Udp, Protocol::Tcp].into(),
        pairs,
    }
}

fn name<'m>(machine: &'m Machine, plan: &Plan, place: usize) -> &'m str {
    let id = plan.places[place].netns;
    &machine.namespaces.iter().find(|it| it.id == id).unwrap().name
}

fn asked(machine: &Machine, plan: &Plan, rule: Rule) -> BTreeSet<(String, String)> {
    let of_rule = plan.questions.iter().filter(|it| it.rule == rule);
    let ends = |place| name(machine, plan, place).to_owned();
    of_rule.map(|it| (ends(it.from), ends(it.to))).collect()
}

/// Everything is answered as it should be.
fn answers(plan: &Plan) -> Vec<Outcome> {
    let answer = |question: &Question| Outcome::Answered {
        seen: Some(plan.places[question.from].address),
        from: Some(plan.places[question.to].address),
    };
    plan.questions.iter().map(answer).collect()
}

fn judged(machine: &Machine, plan: &Plan, profile: Profile, questions: &[Outcome]) -> Report {
    let calls = vec![Outcome::Answered { seen: None, from: None }; plan.calls.len()];
    let outcomes = Outcomes { questions, calls: &calls, searches: &[], late: 0 };
    Report::new(machine, plan, profile, outcomes)
}

/// That something was answered only when it was asked again is no fault, and told.
#[test]
fn what_was_answered_late_is_told_once() {
    let machine = lab(2, 2);
    let plan = Plan::new(&machine, &wanted(&[], Pairs::Usual)).unwrap();
    let questions = answers(&plan);
    let outcomes = Outcomes { questions: &questions, calls: &[], searches: &[], late: 3 };
    let report = Report::new(&machine, &plan, Profile::Strict, outcomes);
    assert_eq!(report.verdict, Verdict::Pass);
    let all = plan.questions.len();
    let told = format!("answered only when asked again: 3 of {all} questions");
    assert!(report.notes[0].starts_with(&told), "{:?}", report.notes);
}

fn rule(report: &Report, rule: Rule) -> &RuleReport {
    report.rules.iter().find(|it| it.rule == rule).unwrap()
}

#[test]
fn all_pairs_are_asked_in_both_directions() {
    let machine = lab(2, 2);
    let plan = Plan::new(&machine, &wanted(&[], Pairs::Usual)).unwrap();
    assert_eq!(asked(&machine, &plan, Rule::PodToPod).len(), 4 * 3);
    assert_eq!(asked(&machine, &plan, Rule::NodeToPod).len(), 2 * 4);
    assert_eq!(asked(&machine, &plan, Rule::PodToNode).len(), 4 * 2);
    assert_eq!(plan.sample, None);
    let report = judged(&machine, &plan, Profile::Strict, &answers(&plan));
    assert_eq!(report.verdict, Verdict::Pass);
    assert_eq!(rule(&report, Rule::SelfView).pass, 4);
}

#[test]
fn a_subject_narrows_what_is_asked() {
    let machine = lab(2, 2);
    let of = |subjects: &[&str]| Plan::new(&machine, &wanted(subjects, Pairs::Usual)).unwrap();
    let pod = of(&["pod/pod0-1"]);
    let pairs = asked(&machine, &pod, Rule::PodToPod);
    assert_eq!(pairs.len(), 6);
    assert!(pairs.iter().all(|(from, to)| from == "pod0-1" || to == "pod0-1"));
    // Two nodes that do not carry it are none of its business.
    assert_eq!(asked(&machine, &of(&["node/node1"]), Rule::PodToPod).len(), 12 - 2);
    assert_eq!(asked(&machine, &of(&["lab/default"]), Rule::PodToPod).len(), 12);
    for (subject, is_lookup) in [("pod/x", true), ("lab/x", true), ("link/node0:eth0", false)] {
        let error = Plan::new(&machine, &wanted(&[subject], Pairs::Usual)).unwrap_err();
        assert_eq!(matches!(error, PlanError::Lookup(_)), is_lookup, "{subject}");
    }
    // Pods of another lab are never asked.
    let mut two = lab(1, 2);
    two.namespaces[2].lab = Some("other".to_owned());
    two.namespaces[2].node = None;
    let plan = Plan::new(&two, &wanted(&[], Pairs::Usual)).unwrap();
    assert_eq!(asked(&two, &plan, Rule::PodToPod).len(), 0);
}

/// A thousand pods: far fewer pairs, and yet each pod in both directions and each two nodes.
#[test]
fn a_sample_leaves_out_no_pod_and_no_two_nodes() {
    for (nodes, pods, pairs) in
        [(20, 50, Pairs::Usual), (3, 4, Pairs::Sample(1)), (1, 5, Pairs::Sample(3))]
    {
        let machine = lab(nodes, pods);
        let plan = Plan::new(&machine, &wanted(&[], pairs)).unwrap();
        let asked = asked(&machine, &plan, Rule::PodToPod);
        let sample = plan.sample.unwrap();
        assert_eq!(sample.asked, asked.len());
        assert_eq!(sample.all, nodes * pods * (nodes * pods - 1));
        assert!(asked.len() <= 2_000.max(nodes * (nodes + pods)), "{}", asked.len());
        let all = nodes * pods;
        assert_eq!(asked.iter().map(|(from, _)| from).collect::<BTreeSet<_>>().len(), all);
        assert_eq!(asked.iter().map(|(_, to)| to).collect::<BTreeSet<_>>().len(), all);
        let node = |pod: &str| pod.split('-').next().unwrap().to_owned();
        let two: BTreeSet<_> = asked.iter().map(|(a, b)| (node(a), node(b))).collect();
        assert_eq!(two.len(), nodes * nodes);
        // The same every time.
        let again = Plan::new(&machine, &wanted(&[], pairs)).unwrap();
        assert_eq!(plan.questions, again.questions);
    }
}

fn attachment(machine: &mut Machine, pod: usize, change: impl FnOnce(&mut Attachment)) {
    let namespace = &machine.namespaces[pod];
    let mut attachment = Attachment {
        file: "/f".into(),
        network: "n".to_owned(),
        container_id: format!("c{pod}"),
        ifname: "eth0".to_owned(),
        pod: Some(PodName { namespace: "shop".to_owned(), name: namespace.name.clone() }),
        netns: None,
        namespace: Some(namespace.id),
        addresses: namespace.dump.addresses.iter().map(|it| it.address).collect(),
        ports: vec![],
        nameservers: vec![],
    };
    change(&mut attachment);
    machine.nodes[0].attachments.push(attachment);
}

/// Port 8080 of a node, which leads to port 80 of a pod.
fn web() -> PortMapping {
    PortMapping { protocol: "tcp".to_owned(), host_ip: None, host_port: 8080, container_port: 80 }
}

#[test]
fn resolvers_and_ports_are_called_where_there_are_any() {
    let mut machine = lab(2, 2);
    attachment(&mut machine, 1, |it| {
        // Nobody public is ever asked.
        it.nameservers = ["8.8.8.8", "10.96.0.10", "2606:4700::1111"]
            .map(|address| address.parse().unwrap())
            .to_vec();
        it.ports = vec![web()];
    });
    let plan = Plan::new(&machine, &wanted(&[], Pairs::Usual)).unwrap();
    let calls: Vec<(Rule, &str, String)> = plan
        .calls
        .iter()
        .map(|it| (it.rule, name(&machine, &plan, it.from), it.to.to_string()))
        .collect();
    let node = "192.0.2.1:8080".to_owned();
    assert_eq!(
        calls,
        [
            (Rule::Dns, "pod0-0", "10.96.0.10:53".to_owned()),
            (Rule::Dns, "pod0-0", "10.96.0.10:53".to_owned()),
            (Rule::HostPort, "node1", node.clone()),
            (Rule::HostPort, "pod1-0", node.clone()),
            (Rule::Hairpin, "pod0-0", node),
        ]
    );
    let report = judged(&machine, &plan, Profile::Strict, &answers(&plan));
    assert!(report.has_skipped(), "there is no host beyond");
    assert_eq!(rule(&report, Rule::HostPort).pass, 2);
    assert_eq!(report.hosts.iter().find(|it| it.object == "pod/shop/pod0-0").map(|_| ()), Some(()));
}

/// What a report says of the ports of node 0, where each call from another node and its pods came to this.
fn ported(profile: Profile, outcome: &Outcome) -> Report {
    let mut machine = lab(2, 1);
    attachment(&mut machine, 1, |it| it.ports = vec![web()]);
    let plan = Plan::new(&machine, &wanted(&[], Pairs::Usual)).unwrap();
    let questions = answers(&plan);
    let calls = vec![outcome.clone(); plan.calls.len()];
    let outcomes = Outcomes { questions: &questions, calls: &calls, searches: &[], late: 0 };
    Report::new(&machine, &plan, profile, outcomes)
}

#[test]
fn who_asks_for_a_port_of_another_node_is_seen_by_the_pod() {
    let [node, other]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.99"].map(|it| it.parse().unwrap());
    let seen = Outcome::Answered { seen: Some(other), from: Some(node) };
    let report = ported(Profile::Strict, &seen);
    assert_eq!(rule(&report, Rule::HostPort).fail, 2);
    let text = "only host-port: the source address is changed (NAT); others see 192.0.2.99";
    assert!(report.causes[0].text.contains(text), "{report:#?}");
    // A pod that asks itself would not get its own answer without another source.
    assert_eq!(rule(&report, Rule::Hairpin).pass, 1);
    let report = ported(Profile::Current, &seen);
    assert_eq!(rule(&report, Rule::HostPort).pass, 2);
    // What does not come back, or from somebody else, breaks both.
    for (outcome, why) in [
        (Outcome::Unanswered { seen: other }, "but seen as from 192.0.2.99, and no answer"),
        (Outcome::Answered { seen: None, from: Some(other) }, "192.0.2.99 answered"),
    ] {
        let report = ported(Profile::Current, &outcome);
        assert_eq!(rule(&report, Rule::HostPort).fail, 2);
        assert!(report.causes[0].text.contains("the node's port does not lead to the pod"));
        assert!(report.causes[0].evidence[0].contains(why), "{report:#?}");
    }
}

#[test]
fn interfaces_beside_the_first_and_link_local_addresses_are_left_out() {
    let mut machine = lab(1, 2);
    let pod = &mut machine.namespaces[1];
    let second = Link { index: 3, name: "net1".to_owned(), ..pod.dump.links[&2].clone() };
    pod.dump.links.insert(3, second);
    let link_local = Address { scope: net::Scope::Link, ..address(2, "fe80::1/64") };
    pod.dump.addresses.extend([address(3, "172.30.0.2/24"), link_local]);
    attachment(&mut machine, 1, |it| it.addresses.truncate(1));
    let plan = Plan::new(&machine, &wanted(&[], Pairs::Usual)).unwrap();
    let addresses: BTreeSet<IpAddr> = plan.places.iter().map(|it| it.address).collect();
    let expected = ["10.244.0.2", "10.244.0.3", "192.0.2.1"].map(|it| it.parse().unwrap());
    assert_eq!(addresses, expected.into());
    let report = judged(&machine, &plan, Profile::Strict, &answers(&plan));
    assert!(report.notes.iter().any(|it| it.starts_with("1 interface beside")), "{report:?}");
}

/// What a pod was given and does not have any more fails; what nobody could ask is not known.
#[test]
fn what_cannot_be_told_is_not_passed() {
    let machine = lab(1, 2);
    let plan = Plan::new(&machine, &wanted(&[], Pairs::Usual)).unwrap();
    for (outcome, verdict) in [
        (Outcome::Unknown("no right".to_owned()), Verdict::Unknown),
        (Outcome::Gone(0), Verdict::Unknown),
        (Outcome::Silent(3000), Verdict::Fail),
        (Outcome::Refused("connection refused".to_owned()), Verdict::Fail),
        (
            Outcome::NoAddress { address: "10.1.0.2".parse().unwrap(), why: "x".to_owned() },
            Verdict::Fail,
        ),
    ] {
        let outcomes = vec![outcome.clone(); plan.questions.len()];
        let report = judged(&machine, &plan, Profile::Strict, &outcomes);
        assert_eq!(report.verdict, verdict, "{outcome:?}");
        assert_eq!(rule(&report, Rule::PodToPod).pass, 0);
        // Large packets say nothing where small ones do not pass.
        assert_eq!(rule(&report, Rule::Mtu).unknown, 2, "{outcome:?}");
        assert_eq!(rule(&report, Rule::SelfView).pass, 0);
    }
    let nobody = Machine::default();
    let plan = Plan::new(&nobody, &wanted(&[], Pairs::Usual)).unwrap();
    let report = judged(&nobody, &plan, Profile::Strict, &[]);
    assert_eq!(report.verdict, Verdict::Unknown);
}

#[test]
fn today_allows_what_the_three_promises_do_not() {
    let machine = lab(2, 1);
    let plan = Plan::new(&machine, &wanted(&[], Pairs::Usual)).unwrap();
    let node: IpAddr = "192.0.2.9".parse().unwrap();
    let mut outcomes = answers(&plan);
    for (question, outcome) in plan.questions.iter().zip(&mut outcomes) {
        if question.rule == Rule::PodToNode {
            let from = Some(plan.places[question.to].address);
            *outcome = Outcome::Answered { seen: Some(node), from };
        }
        // An agent does not reach the pods of another node.
        let ends = [question.from, question.to].map(|it| name(&machine, &plan, it));
        if question.rule == Rule::NodeToPod && ends[0][4..] != ends[1][3..4] {
            *outcome = Outcome::Silent(3000);
        }
    }
    let strict = judged(&machine, &plan, Profile::Strict, &outcomes);
    assert_eq!(strict.verdict, Verdict::Fail);
    assert_eq!(rule(&strict, Rule::PodToNode).fail, 4);
    assert_eq!(rule(&strict, Rule::SelfView).fail, 2);
    assert_eq!(rule(&strict, Rule::NodeToPod).fail, 2);
    let current = judged(&machine, &plan, Profile::Current, &outcomes);
    assert_eq!(current.verdict, Verdict::Pass);
    assert_eq!(rule(&current, Rule::PodToNode).allowed, 4);
    assert_eq!(rule(&current, Rule::SelfView).allowed, 2);
    assert_eq!(rule(&current, Rule::NodeToPod).allowed, 2);
    assert!(current.causes.is_empty());
}

#[test]
fn two_with_one_address_are_named() {
    let mut machine = lab(2, 1);
    machine.namespaces[3].dump.addresses = vec![address(2, "10.244.0.2/24")];
    let plan = Plan::new(&machine, &wanted(&[], Pairs::Usual)).unwrap();
    let report = judged(&machine, &plan, Profile::Current, &answers(&plan));
    assert_eq!(rule(&report, Rule::UniqueAddress).fail, 2);
    let texts: Vec<&str> = report.causes.iter().map(|it| it.text.as_str()).collect();
    assert!(texts.iter().any(|it| it.contains("has 10.244.0.2, too")), "{texts:?}");
}

/// A chain of some table that drops what goes to an address, at a hook and perhaps of a device.
fn drops(table: TableId, hook: Hook, device: Option<&str>, to: &str) -> Object {
    let found = Statement::Match {
        field: Field::IpDestination,
        negated: false,
        test: Test::Within(to.parse().unwrap()),
    };
    Object::Chain(Chain {
        table,
        name: "drops".to_owned(),
        base: Some(Base {
            kind: ChainKind::Filter,
            hook,
            devices: device.map(|name| name.parse().unwrap()).into_iter().collect(),
            priority: 0,
            policy: Policy::Accept,
        }),
        rules: vec![NftRule::new([found, Statement::Verdict(NftVerdict::Drop)])],
    })
}

#[test]
fn a_policys_drop_is_no_violation() {
    for (table, verdict) in
        [("kube-router", Verdict::Blocked), ("calico", Verdict::Blocked), ("mine", Verdict::Fail)]
    {
        let mut machine = lab(2, 1);
        let id = TableId::new(Family::Inet, table);
        machine.namespaces[2].dump.nft = vec![drops(id, Hook::Forward, None, "10.244.1.2/32")];
        let plan = Plan::new(&machine, &wanted(&[], Pairs::Usual)).unwrap();
        let mut outcomes = answers(&plan);
        for (question, outcome) in plan.questions.iter().zip(&mut outcomes) {
            let ends = [question.from, question.to].map(|it| name(&machine, &plan, it));
            if ends == ["pod0-0", "pod1-0"] {
                *outcome = Outcome::Silent(3000);
            }
        }
        let report = judged(&machine, &plan, Profile::Strict, &outcomes);
        let pair = report.results.iter().find(|it| {
            let ends = [it.from, it.to].map(|it| report.hosts[it].name.as_str());
            it.rule == Rule::PodToPod && ends == ["pod0-0", "pod1-0"]
        });
        let pair = pair.unwrap();
        assert_eq!(pair.verdict, verdict, "{table}: {pair:?}");
        assert!(pair.questions[0].why.contains(&format!("nft table inet {table}")), "{pair:?}");
    }
}

/// A node with a bridge and two pods on it.
fn bridged() -> Machine {
    let mut machine = lab(1, 2);
    let ids: Vec<NetnsId> = machine.namespaces.iter().map(|it| it.id).collect();
    let link = machine.namespaces[0].dump.links[&2].clone();
    let named = |index: u32, name: &str| Link { index, name: name.to_owned(), ..link.clone() };
    let bridge = Link { kind: "bridge".to_owned(), ..named(9, "cni0") };
    machine.namespaces[0].dump.links.insert(9, bridge);
    for pod in 1..=2_u32 {
        let (near, number) = (10 + pod, pod as i32);
        let port = named(near, &format!("veth{pod}"));
        let port = Link { master: Some(9), parent: Some(2), parent_netns: Some(number), ..port };
        machine.namespaces[0].dump.links.insert(near, port);
        machine.namespaces[0].known.insert(number, ids[pod as usize]);
        let namespace = &mut machine.namespaces[pod as usize];
        namespace.known.insert(0, ids[0]);
        let far = Link { parent: Some(near), parent_netns: Some(0), ..named(2, "eth0") };
        namespace.dump.links.insert(2, far);
    }
    machine
}

#[test]
fn what_drops_frames_is_named() {
    for (at, family, hook, device, is_seen) in [
        (0, Family::Bridge, Hook::Forward, None, true),
        (0, Family::Bridge, Hook::Prerouting, None, true),
        (0, Family::Bridge, Hook::Output, None, false),
        (0, Family::Netdev, Hook::Ingress, Some("veth1"), true),
        (0, Family::Netdev, Hook::Ingress, Some("veth2"), false),
        (0, Family::Netdev, Hook::Egress, Some("veth2"), true),
        (0, Family::Inet, Hook::Ingress, Some("veth1"), true),
        (0, Family::Inet, Hook::Forward, None, false),
        (1, Family::Inet, Hook::Output, None, true),
        (2, Family::Inet, Hook::Input, None, true),
    ] {
        let mut machine = bridged();
        let id = TableId::new(family, "mine");
        machine.namespaces[at].dump.nft = vec![drops(id, hook, device, "10.244.0.3/32")];
        let plan = Plan::new(&machine, &wanted(&[], Pairs::Usual)).unwrap();
        let mut outcomes = answers(&plan);
        for (question, outcome) in plan.questions.iter().zip(&mut outcomes) {
            let ends = [question.from, question.to].map(|it| name(&machine, &plan, it));
            if ends == ["pod0-0", "pod0-1"] {
                *outcome = Outcome::Silent(3000);
            }
        }
        let report = judged(&machine, &plan, Profile::Strict, &outcomes);
        let pair = report.results.iter().find(|it| {
            let ends = [it.from, it.to].map(|it| report.hosts[it].name.as_str());
            it.rule == Rule::PodToPod && ends == ["pod0-0", "pod0-1"]
        });
        let why = &pair.unwrap().questions[0].why;
        let is_named = why.contains(&format!("nft table {family} mine"));
        assert_eq!(is_named, is_seen, "{family} {hook:?} {device:?}: {why}");
    }
}

#[test]
fn each_rule_has_its_words() {
    let mut texts: BTreeMap<&str, Rule> = BTreeMap::new();
    for rule in Rule::ALL {
        assert_eq!(rule.name().parse(), Ok(rule));
        assert_eq!(serde_json::to_value(rule).unwrap(), rule.name());
        for profile in [Profile::Strict, Profile::Current] {
            assert!(!rule.source(profile).is_empty());
            texts.insert(rule.text(profile), rule);
        }
    }
    assert!(texts.len() > Rule::ALL.len());
    let error = "nat".parse::<Rule>().unwrap_err();
    assert!(error.to_string().contains("pod-to-pod"), "{error}");
    assert_eq!("lab/a".parse::<Reference>().unwrap().to_string(), "lab/a");
}
