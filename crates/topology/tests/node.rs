//! That pods are known by what runtimes and plugins leave in files, whoever wired them.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cni::Attachment;
use cni::exec::Patience;
use cni::runtime::{Cache, NetworkList, Parameters, Runtime};
use serde_json::json;
use testbed::{Namespace, isolated, need, sh};
use topology::origin::{self, Origin};
use topology::{Files, Machine, PodName, Role, Runtimes, Sources, Whole};

/// A machine whose files are below a directory.
fn sources(root: &Path) -> Sources {
    let files = Files {
        cache: root.join("cache"),
        reservations: vec![root.join("networks")],
        configurations: vec![root.join("net.d")],
    };
    let runtimes = Runtimes {
        containerd: vec![root.join("containerd")],
        containers: vec![root.join("containers")],
        lists: vec![root.join("containers.json")],
        docker: vec![root.join("docker")],
    };
    Sources { whole: Some(Whole { files, runtimes }), ..Sources::default() }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("it is in a directory")).expect("make a directory");
    fs::write(path, text).expect("write a file");
}

#[test]
fn what_the_reference_plugins_wired_is_told_whole() {
    isolated!();
    need("/usr/lib/cni/bridge", "containernetworking-plugins");
    let root = testbed::directory();
    let pod = Namespace::new("cni-1234");
    let configuration = json!({
        "cniVersion": "0.4.0", "name": "net1",
        "plugins": [{
            "type": "bridge", "bridge": "br1", "isGateway": true, "ipMasq": true,
            "ipam": {
                "type": "host-local", "subnet": "10.1.0.0/24",
                "dataDir": root.path().join("elsewhere"), "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    });
    write(&root.path().join("net.d/10-net1.conflist"), &configuration.to_string());
    write(&root.path().join("net.d/99-broken.conflist"), "{");
    let network = NetworkList::parse(configuration.to_string().as_bytes()).unwrap();
    let runtime = Runtime {
        plugin_dirs: vec!["/usr/lib/cni".into()],
        cache: Cache::new(root.path().join("cache")),
        patience: Patience { limit: Duration::from_secs(20), interrupted: &|| false },
    };
    let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let parameters = Parameters {
        attachment: Attachment { container_id: id.to_owned(), ifname: "eth0".to_owned() },
        netns: Some(pod.path()),
        args: vec![
            ("IgnoreUnknown".to_owned(), "1".to_owned()),
            ("K8S_POD_NAMESPACE".to_owned(), "default".to_owned()),
            ("K8S_POD_NAME".to_owned(), "nginx".to_owned()),
        ],
        ..Parameters::default()
    };
    runtime.add(&network, &parameters).unwrap();
    // One whose namespace is gone.
    let gone = Namespace::new("cni-5678");
    let attachment =
        Attachment { container_id: "lost".to_owned(), ..parameters.attachment.clone() };
    let lost = Parameters { attachment, netns: Some(gone.path()), ..parameters };
    runtime.add(&network, &lost).unwrap();
    drop(gone);

    let machine = Machine::collect(&sources(root.path())).unwrap();
    let seen = machine.namespaces.iter().find(|it| it.name == "default/nginx").unwrap();
    assert_eq!((seen.role, seen.path()), (Role::Pod, Some(&*pod.path())));
    assert_eq!(seen.node, Some(machine.host.name.clone()));
    assert_eq!(seen.containers[0].id, id);
    let [node] = &machine.nodes[..] else { panic!("{:?}", machine.nodes) };
    assert_eq!(node.namespace, Some(machine.namespaces[0].id));
    let [ours, theirs] = &node.attachments[..] else { panic!("{:?}", node.attachments) };
    assert_eq!((ours.namespace, theirs.namespace), (Some(seen.id), None));
    assert_eq!(ours.addresses, ["10.1.0.2/24".parse().unwrap()]);
    let [reserved] = &node.reservations[..] else { panic!("{:?}", node.reservations) };
    assert_eq!(reserved.network, "net1");
    assert_eq!(reserved.subnets, ["10.1.0.0/24".parse().unwrap()]);
    assert_eq!(reserved.last[&0], "10.1.0.3".parse::<std::net::IpAddr>().unwrap());
    let holders: Vec<_> = reserved.entries.iter().map(|it| it.container_id.as_str()).collect();
    assert_eq!(holders, [id, "lost"]);
    let [configured] = &node.configurations[..] else { panic!("{:?}", node.configurations) };
    assert_eq!(configured.content["plugins"][0]["type"], "bridge");
    assert!(machine.gaps.iter().any(|gap| gap.why.contains("99-broken")), "{:?}", machine.gaps);

    // Who made what: the cable, the chain of the masquerade, the pod's route.
    let host = &machine.namespaces[0];
    let cable = host.ports(host.bridges().next().unwrap()).next().unwrap();
    assert_eq!(origin::of_link(host, cable), Origin::GoPlugins);
    let chains = host.dump.nft.iter().filter(|it| origin::of_object(it) == Origin::GoPlugins);
    assert!(chains.count() > 0 || !host.legacy_tables.is_empty(), "{:#?}", host.dump.nft);
}

#[test]
fn runtimes_name_their_containers() {
    isolated!();
    let root = testbed::directory();
    let (a, b, c, d) = (
        Namespace::new("cni-a"),
        Namespace::new("cni-b"),
        Namespace::new("netns-c"),
        Namespace::new("d"),
    );
    let specification = |annotations: serde_json::Value, netns: &Namespace| {
        let namespaces = json!([{ "type": "pid" }, { "type": "network", "path": netns.path() }]);
        json!({ "annotations": annotations, "linux": { "namespaces": namespaces } }).to_string()
    };
    let annotations = json!({
        "io.kubernetes.cri.sandbox-name": "web", "io.kubernetes.cri.sandbox-namespace": "shop",
    });
    let file = root.path().join("containerd/k8s.io/one/config.json");
    write(&file, &specification(annotations, &a));
    let annotations = json!({
        "io.kubernetes.cri-o.ContainerType": "sandbox", "io.kubernetes.pod.name": "db",
        "io.kubernetes.pod.namespace": "shop",
    });
    let file = root.path().join("containers/two/userdata/config.json");
    write(&file, &specification(annotations, &b));
    let file = root.path().join("containers/three/userdata/config.json");
    write(&file, &specification(json!({}), &c));
    write(&root.path().join("containers.json"), r#"[{ "id": "three", "names": ["cache"] }]"#);
    let state = json!({ "Name": "/mail\u{1b}[31m", "NetworkSettings": { "SandboxKey": d.path() } });
    write(&root.path().join("docker/four/config.v2.json"), &state.to_string());
    // Rubbish is passed over.
    write(&root.path().join("containerd/k8s.io/five/config.json"), "[3]");
    write(&root.path().join("docker/six/config.v2.json"), "");

    let machine = Machine::collect(&sources(root.path())).unwrap();
    let find = |space: &Namespace| {
        let id = space.netns().id().unwrap();
        machine.namespaces.iter().find(|it| it.id == id).unwrap()
    };
    let pod = |name: &str| Some(PodName { namespace: "shop".to_owned(), name: name.to_owned() });
    assert_eq!((find(&a).name.as_str(), find(&a).role), ("shop/web", Role::Pod));
    assert_eq!(find(&a).containers[0].pod, pod("web"));
    assert_eq!(find(&a).containers[0].runtime, "containerd");
    assert_eq!(
        (find(&b).name.as_str(), find(&b).containers[0].runtime.as_str()),
        ("shop/db", "cri-o")
    );
    assert_eq!((find(&c).name.as_str(), find(&c).role), ("cache", Role::Other));
    // Whoever gave it a name in /run/netns means something by it. What is hostile stays as it is.
    assert_eq!(find(&d).name, "d");
    assert_eq!(find(&d).containers[0].name.as_deref(), Some("mail\u{1b}[31m"));
}

#[test]
fn namespaces_that_vanish_meanwhile_are_left_out() {
    isolated!();
    let stays: Vec<Namespace> = (0..8).map(|it| Namespace::new(&format!("stays{it}"))).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let comes_and_goes = |name: &'static str| {
            while !done.load(Ordering::Relaxed) {
                let path = Path::new("/run/netns").join(name);
                kernel::Netns::create(&path).unwrap();
                sh(&format!("ip -n {name} link add a0 type veth peer name b0 || true"));
                kernel::Netns::remove(&path).unwrap();
            }
        };
        scope.spawn(move || comes_and_goes("goes1"));
        scope.spawn(move || comes_and_goes("goes2"));
        for _ in 0..20 {
            let machine = Machine::collect(&Sources::machine()).unwrap();
            for space in &stays {
                let id = space.netns().id().unwrap();
                assert!(machine.namespaces.iter().any(|it| it.id == id));
            }
            let is_about_one = |gap: &&topology::Gap| gap.what.contains("goes");
            assert_eq!(machine.gaps.iter().find(is_about_one), None);
        }
        done.store(true, Ordering::Relaxed);
    });
}
