//! From flannel to podwire under running pods, node by node.
//!
//! No package has flanneld, so what it and its CNI plugin leave on a node is written here by the
//! system's own tools: its device with neighbours, forwarding entries and routes, its rules in
//! nftables mode, the bridge and the pods by the reference's plugins, and its files.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testbed::Namespace;
use testbed::call::Call;
use testbed::kubernetes::{Server, kubeconfig, registered};
use testbed::look::{eventually, source_seen};

use super::cluster::{Cluster, DUAL, Families, Node, V4};
use super::etcd::Etcd;
use super::faults::{assert_unnoticed, during};
use crate::go_plugins;

/// What flanneld is replaced by, as docs/agent.md says.
const SETTINGS: &str = "tunnel: {device: flannel.1, form: classic}
podNetworks: [10.244.0.0/16, 'fd00:10:244::/48']";

/// One family as flanneld has it.
struct Flannel {
    v6: bool,
    device: &'static str,
    cluster: &'static str,
}

impl Flannel {
    fn of(families: Families) -> impl Iterator<Item = Self> {
        let v4 = Self { v6: false, device: "flannel.1", cluster: "10.244.0.0/16" };
        let v6 = Self { v6: true, device: "flannel-v6.1", cluster: "fd00:10:244::/48" };
        [families.v4.then_some(v4), families.v6.then_some(v6)].into_iter().flatten()
    }

    fn node(&self, n: usize) -> String {
        if self.v6 { format!("2001:db8::{n}") } else { format!("192.0.2.{n}") }
    }

    /// The network of a node's pods, without its length.
    fn network(&self, n: usize) -> String {
        if self.v6 { format!("fd00:10:244:{n}::") } else { format!("10.244.{n}.0") }
    }

    /// The first pod of a node: what comes after the bridge.
    fn pod(&self, n: usize) -> String {
        format!("{}2", self.network(n).trim_end_matches('0'))
    }

    fn subnet(&self, n: usize) -> String {
        format!("{}/{}", self.network(n), if self.v6 { 64 } else { 24 })
    }

    /// Chosen by chance and published by flanneld.
    fn mac(&self, n: usize) -> String {
        format!("{}:5d:00:c1:00:{n:02x}", if self.v6 { "76" } else { "72" })
    }

    /// What flanneld has made on the node `n` of so many.
    fn script(&self, n: usize, count: usize) -> String {
        let Self { v6, device, cluster } = self;
        let (ip, table, single) = if *v6 { ("ip -6", "ip6", 128) } else { ("ip", "ip", 32) };
        let everybody = if *v6 { "ff00::/8" } else { "224.0.0.0/4" };
        let (node, network, subnet, mac) =
            (self.node(n), self.network(n), self.subnet(n), self.mac(n));
        let mut script = format!(
            "ip link add {device} address {mac} mtu 1450 type vxlan id 1 dev eth0 local {node} \
                dstport 8472 nolearning
            echo 0 > /proc/sys/net/ipv6/conf/{device}/accept_ra
            ip link set {device} up
            {ip} address add {network}/{single} dev {device} $nodad
            nft '
                table {table} flannel-ipv{v} {{
                    chain forward {{
                        type filter hook forward priority filter;
                        {table} saddr {cluster} accept
                        {table} daddr {cluster} accept
                    }}
                    chain postrtg {{
                        type nat hook postrouting priority srcnat;
                        meta mark 0x4000 return
                        {table} saddr {subnet} {table} daddr {cluster} return
                        {table} saddr {cluster} {table} daddr {subnet} return
                        {table} saddr != {subnet} {table} daddr {cluster} return
                        {table} saddr {cluster} {table} daddr != {everybody} masquerade fully-random
                    }}
                }}'\n",
            v = if *v6 { 6 } else { 4 },
        )
        .replace("$nodad", if *v6 { "nodad" } else { "" });
        for peer in (1..=count).filter(|peer| *peer != n) {
            let (to, mac, network, subnet) =
                (self.node(peer), self.mac(peer), self.network(peer), self.subnet(peer));
            script += &format!(
                "ip neighbour replace {network} lladdr {mac} dev {device} nud permanent
                bridge fdb append {mac} dev {device} dst {to} self permanent
                {ip} route replace {subnet} via {network} dev {device} onlink\n"
            );
        }
        script
    }
}

/// A node's directory of flannel's files and reservations.
fn home(cluster: &Cluster, n: usize) -> PathBuf {
    cluster.directory.path().join(format!("n{n}"))
}

/// What flannel's plugin has `bridge` do for a pod, and keeps below /var/lib/cni/flannel.
fn delegate(cluster: &Cluster, n: usize) -> Value {
    let flannels: Vec<Flannel> = Flannel::of(cluster.families).collect();
    let ranges: Vec<Value> =
        flannels.iter().map(|it| json!([{ "subnet": it.subnet(n) }])).collect();
    let routes: Vec<Value> = flannels.iter().map(|it| json!({ "dst": it.cluster })).collect();
    json!({
        "cniVersion": "0.3.1", "name": "cbr0", "type": "bridge",
        "hairpinMode": true, "ipMasq": false, "isDefaultGateway": true, "isGateway": true,
        "mtu": 1450,
        "ipam": {
            "type": "host-local", "ranges": ranges, "routes": routes,
            "dataDir": home(cluster, n).join("networks"),
        },
    })
}

/// Starts `bridge` of a directory of plugins, as a runtime does.
fn bridge(
    plugins: &Path,
    command: &str,
    node: &Node,
    id: &str,
    pod: &Path,
    config: &Value,
) -> Value {
    let variables = [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", id),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", pod.to_str().unwrap()),
        ("CNI_PATH", plugins.to_str().unwrap()),
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    ];
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let stdin = config.to_string().into_bytes();
    Call { program: plugins.join("bridge"), variables, stdin }.start(node.space.netns()).wait().ok()
}

/// Turns a cluster into one of flanneld, with a pod on each node by flannel's plugin.
fn flannel(cluster: &Cluster) {
    let count = cluster.nodes.len();
    for node in &cluster.nodes {
        let (n, home) = (node.number, home(cluster, node.number));
        node.space.sh("ip link delete veth0; ip link delete cni0");
        let mut environment = String::new();
        for it in Flannel::of(cluster.families) {
            node.space.sh(&it.script(n, count));
            let (infix, first) = if it.v6 { ("IPV6_", "1/64") } else { ("", "1/24") };
            let first = format!("{}{first}", it.network(n).trim_end_matches('0'));
            environment += &format!("FLANNEL_{infix}NETWORK={}\n", it.cluster);
            environment += &format!("FLANNEL_{infix}SUBNET={first}\n");
        }
        fs::create_dir_all(home.join("flannel")).unwrap();
        environment += "FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
        fs::write(home.join("subnet.env"), environment).unwrap();
        let (id, config) = (format!("old{n}"), delegate(cluster, n));
        fs::write(home.join("flannel").join(&id), config.to_string()).unwrap();
        bridge(Path::new(go_plugins()), "ADD", node, &id, &node.pod.path(), &config);
        // What agents are to keep of it.
        let config = cluster.directory.path().join(format!("n{n}.yaml"));
        let text = fs::read_to_string(&config).unwrap();
        let cni = format!(
            "cni: {{name: cbr0, file: 10-flannel.conflist, ipamOptions: {{dataDir: {}}}, ",
            home.join("networks").display()
        );
        fs::write(&config, text.replace("cni: {", &cni)).unwrap();
    }
    // The hardware addresses of tunnel ends are flanneld's, as its source has them.
    let entry = |n: usize| {
        let macs = Flannel::of(cluster.families)
            .map(|it| format!("{}: {:?}", if it.v6 { "v6" } else { "v4" }, it.mac(n)));
        let macs: Vec<String> = macs.collect();
        cluster.entry(n).replace('}', &format!(", macs: {{{}}}}}", macs.join(", ")))
    };
    let entries: Vec<String> = (1..=count).map(entry).collect();
    cluster.write(&format!("nodes: [{}]\n", entries.join(", ")));
}

fn is_joined(from: &Namespace, to: &Namespace, address: &str) -> bool {
    source_seen(from.netns(), to.netns(), address.parse().unwrap()).is_some()
}

/// Replaces flanneld node by node, and nobody notices.
fn replace(cluster: &mut Cluster, what: &str) {
    let families = cluster.families;
    let outcome = during(cluster, |cluster| {
        for n in 1..=cluster.nodes.len() {
            cluster.node(n).start();
            cluster.nodes[n - 1].wait_until_ready();
            for (from, to) in [(1, 2), (2, 3), (3, 1)] {
                for it in Flannel::of(families) {
                    let address = it.pod(to);
                    let (from, to) = (&cluster.nodes[from - 1].pod, &cluster.nodes[to - 1].pod);
                    assert!(is_joined(from, to, &address), "n{n} replaced: {address}");
                }
            }
        }
    });
    assert_unnoticed(&format!("{families:?}: {what}"), &outcome);
}

/// Nobody here follows what a node publishes anew, as flanneld would after a while: what is sent to
/// another hardware address than that of before would be lost for good.
#[track_caller]
fn assert_known_ends_stay(cluster: &mut Cluster) {
    let ends = |node: &Node| -> Vec<String> {
        let of = |it: Flannel| {
            let shown = node.space.sh(&format!("ip -o link show dev {}", it.device));
            shown
                .split_whitespace()
                .skip_while(|word| *word != "link/ether")
                .nth(1)
                .map(str::to_owned)
        };
        Flannel::of(DUAL).filter_map(of).collect()
    };
    let all = |cluster: &Cluster| cluster.nodes.iter().map(ends).collect::<Vec<_>>();
    let known: Vec<Vec<String>> =
        (1..=3).map(|n| Flannel::of(DUAL).map(|it| it.mac(n)).collect()).collect();
    assert_eq!(all(cluster), known);
    // Also after a restart, and where the devices are made anew.
    cluster.node(1).stop();
    cluster.node(1).start();
    cluster.nodes[0].wait_until_ready();
    cluster.nodes[0].space.sh("ip link delete flannel.1; ip link delete flannel-v6.1");
    let is_joined = || {
        let (one, two) = (&cluster.nodes[0].pod, &cluster.nodes[1].pod);
        Flannel::of(DUAL).all(|it| is_joined(one, two, &it.pod(2))).then_some(())
    };
    eventually("n1 is joined again", is_joined);
    assert_eq!(all(cluster), known);
}

/// What flanneld has published of a node, with the families' data by these keys.
fn published(
    n: usize,
    [public_ip, public_ipv6, v4, v6]: [&str; 4],
) -> serde_json::Map<String, Value> {
    let mut told = serde_json::Map::new();
    for (it, [ip, data]) in Flannel::of(DUAL).zip([[public_ip, v4], [public_ipv6, v6]]) {
        told.insert(ip.to_owned(), it.node(n).into());
        told.insert(data.to_owned(), json!({ "VNI": 1, "VtepMAC": it.mac(n) }));
    }
    told
}

#[test]
fn flanneld_is_replaced_where_etcd_tells_of_nodes() {
    testbed::isolated!();
    let source = "source: {etcd: {endpoints: ['http://192.0.2.200:2379']}}";
    let mut cluster = Cluster::new(3, &format!("{SETTINGS}\n{source}"), DUAL);
    cluster.switch.sh("ip address add 192.0.2.200/24 dev br0");
    let etcd = Etcd::start(&cluster);
    etcd.put(
        "/coreos.com/network/config",
        r#"{"Network": "10.244.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:10:244::/48",
            "Backend": {"Type": "vxlan"}}"#,
    );
    for n in 1..=3 {
        let mut lease = published(n, ["PublicIP", "PublicIPv6", "BackendData", "BackendV6Data"]);
        lease.insert("BackendType".to_owned(), "vxlan".into());
        let key = format!("/coreos.com/network/subnets/10.244.{n}.0-24&fd00:10:244:{n}::-64");
        etcd.put(&key, &Value::Object(lease).to_string());
    }
    flannel(&cluster);
    replace(&mut cluster, "from flannel to podwire by etcd");
    assert_known_ends_stay(&mut cluster);
}

#[test]
fn flanneld_is_replaced_where_kubernetes_tells_of_nodes() {
    testbed::isolated!();
    let api = SocketAddr::from(([192, 0, 2, 200], 6443));
    let directory = testbed::directory();
    let path = directory.path().join("kubeconfig");
    fs::write(&path, kubeconfig(api)).unwrap();
    let source =
        format!("source: {{kubernetes: {{kubeconfig: {}, flannel: true}}}}", path.display());
    let mut cluster = Cluster::new(3, &format!("{SETTINGS}\n{source}"), DUAL);
    cluster.switch.sh("ip address add 192.0.2.200/24 dev br0");
    let server = cluster.switch.netns().enter(|| Server::start_at(api)).unwrap();
    for n in 1..=3 {
        let [v4, v6] = [0, 1].map(|family| Flannel::of(DUAL).nth(family).unwrap());
        let mut node = registered(&format!("n{n}"), v4.node(n).parse().unwrap(), &v4.subnet(n));
        node["spec"]["podCIDRs"] = json!([v4.subnet(n), v6.subnet(n)]);
        let addresses = [v4.node(n), v6.node(n)];
        let internal = addresses.map(|it| json!({ "type": "InternalIP", "address": it }));
        node["status"]["addresses"] = internal.into();
        let keys = ["public-ip", "public-ipv6", "backend-data", "backend-v6-data"];
        let mut told = published(n, keys);
        told.insert("kube-subnet-manager".to_owned(), "true".into());
        told.insert("backend-type".to_owned(), "vxlan".into());
        for (key, value) in told {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            node["metadata"]["annotations"][format!("flannel.alpha.coreos.com/{key}")] =
                text.into();
        }
        server.put(node);
    }
    flannel(&cluster);
    replace(&mut cluster, "from flannel to podwire by Kubernetes");
    assert_known_ends_stay(&mut cluster);
}

#[test]
fn flanneld_is_replaced_node_by_node_under_running_pods() {
    testbed::isolated!();
    let ours = testbed::directory();
    for name in plugins::NAMES {
        symlink(env!("CARGO_BIN_EXE_podwire"), ours.path().join(name)).unwrap();
    }
    for families in [V4, DUAL] {
        let mut cluster = Cluster::new(3, SETTINGS, families);
        flannel(&cluster);
        replace(&mut cluster, "from flannel to podwire by a file");
        for node in &cluster.nodes {
            let told = node.podwire("--dry-run").expect(0).stdout;
            assert_eq!(told, "Everything is as it should be.\n");
            let others = node.space.sh("ip route show dev flannel.1 | grep -v 'proto 112' || true");
            assert_eq!(others, "", "of n{}", node.number);
        }
        // A pod that comes after gets an address that no pod has.
        let node = &cluster.nodes[0];
        let conflist = fs::read_to_string(home(&cluster, 1).join("net.d/10-flannel.conflist"));
        let conflist: Value = serde_json::from_str(&conflist.unwrap()).unwrap();
        let mut config = conflist["plugins"][0].clone();
        (config["cniVersion"], config["name"]) =
            (conflist["cniVersion"].clone(), conflist["name"].clone());
        let new = Namespace::new("new");
        let result = bridge(ours.path(), "ADD", node, "new1", &new.path(), &config);
        assert_eq!(result["ips"][0]["address"], "10.244.1.3/24", "{result}");
        assert!(is_joined(&new, &cluster.nodes[1].pod, "10.244.2.2"));
        assert!(is_joined(&node.pod, &new, "10.244.1.3"));
        // An old pod goes by what runtimes are told now, or as flannel's plugin has it go, which has
        // kept how it came. What that plugin has kept is its own.
        let reserved = |n: usize, address: &str| {
            home(&cluster, n).join("networks/cbr0").join(address).exists()
        };
        for (n, config) in [(1, config), (2, delegate(&cluster, 2))] {
            let (node, address) = (&cluster.nodes[n - 1], format!("10.244.{n}.2"));
            assert!(reserved(n, &address));
            bridge(ours.path(), "DEL", node, &format!("old{n}"), &node.pod.path(), &config);
            assert!(!reserved(n, &address));
            assert_eq!(testbed::look::links(&node.pod), ["lo"]);
            assert!(home(&cluster, n).join(format!("flannel/old{n}")).exists());
        }
        assert!(reserved(1, "10.244.1.3") && reserved(3, "10.244.3.2"));
        assert!(is_joined(&new, &cluster.nodes[2].pod, "10.244.3.2"));
        // flanneld's rules may go.
        for node in &cluster.nodes {
            node.space.sh("for t in ip:flannel-ipv4 ip6:flannel-ipv6; do
                nft delete table ${t%:*} ${t#*:} 2>/dev/null || true
            done");
        }
        assert!(is_joined(&cluster.nodes[2].pod, &new, "10.244.1.3"));
    }
}
