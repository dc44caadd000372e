//! The same configurations through the reference's plugins and through ours, side by side: the same
//! answers, the same files, the same network, but for what is listed here with its reason.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use testbed::Namespace;

use crate::harness::*;

const V4: &str = "10.1.2.0/24";
const V6: &str = "2001:db8:1::/64";

/// A hardware address that is not chance's.
const CHOSEN: &str = "02:00:00:00:00:07";

/// What differs, where it shows in the state of the network, and why it is meant to.
/// Lines that contain the text are not compared.
const KNOWN: &[(&str, &str)] = &[
    (
        "conf/eth0/arp_notify=",
        "1.1.1 sends one gratuitous ARP itself; later versions set this, as we do",
    ),
    (
        "conf/eth0/accept_dad=",
        "1.1.1 waits for detection of duplicates; later versions switch it off, as we do",
    ),
    ("conf/eth0/keep_addr_on_down=", "later versions set it, as we do"),
    (
        "conf/VETH/accept_dad=",
        "the harness sets the default of the reference's node, where its tests would take seconds",
    ),
    ("conf/default/accept_dad=", "the harness sets it, see above"),
    (
        NODAD,
        "ours puts the gateway's address on the bridge without detection: it is this node's by decree",
    ),
    (
        "MAC dev BRIDGE master BRIDGE permanent",
        "ours gives a bridge its own address always, the reference only with a gateway",
    ),
    (
        "conf/BRIDGE/accept_dad=",
        "ours lets the node speak IPv6 to its first pod at once, instead of after two seconds",
    ),
    ("conf/BRIDGE/accept_ra=", "1.1.1 leaves it; later versions set it, as we do"),
];

/// Left out of lines, instead of the lines.
const NODAD: &str = " nodad ";

/// What both plugins are given, beside the version and the place of the reservations.
fn bridges() -> Vec<(&'static [&'static str], Value)> {
    vec![
        (&[], json!({})),
        (&[V4], json!({})),
        (&[V6], json!({ "isGateway": true })),
        (&[V4], json!({ "isDefaultGateway": true, "mtu": 1400 })),
        (&[V4, V6], json!({ "isDefaultGateway": true, "hairpinMode": true })),
        (
            &[V4, V6],
            json!({ "isGateway": true, "promiscMode": true, "bridge": "br7", "forceAddress": true,
            "runtimeConfig": { "mac": "02:00:00:00:00:07" }, "dns": { "search": ["x"] } }),
        ),
        (
            &[V4],
            json!({ "isGateway": true, "ipam": { "routes": [
            { "dst": "0.0.0.0/0" }, { "dst": "192.0.2.0/24", "gw": "10.1.2.9" }] } }),
        ),
    ]
}

fn cables() -> Vec<(&'static [&'static str], Value)> {
    let defaults = json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]);
    vec![
        (&[V4], json!({ "type": "ptp" })),
        (&[V6], json!({ "type": "ptp", "mtu": 1400 })),
        (&[V4, V6], json!({ "type": "ptp", "ipam": { "routes": defaults } })),
        (
            &[V4, V6, "10.3.0.0/16"],
            json!({ "type": "ptp", "dns": { "search": ["x"] }, "ipam": { "routes": [
            { "dst": "0.0.0.0/0" }, { "dst": "192.0.2.0/24", "gw": "10.1.2.9" },
            { "dst": "2001:db8:f::/48" } ] } }),
        ),
    ]
}

struct Side {
    node: Node,
    pods: Vec<Pod>,
}

impl Side {
    fn new(name: &str, by: By) -> Self {
        let node = Node::named(name, by);
        let pods = ["a", "b"].map(|id| node.pod_in(id, &format!("{id}-{name}"))).into();
        Self { node, pods }
    }

    /// A text without what differs by chance, or by where this side is.
    fn neutral(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (place, pod) in self.pods.iter().enumerate() {
            text = text.replace(&pod.netns(), &format!("NETNS{place}"));
        }
        let home = self.node.home.to_str().unwrap();
        mask(&text.replace(home, "HOME"))
    }

    fn state(&self, space: &Namespace) -> BTreeSet<String> {
        let told = testbed::state(space);
        let lines = told.lines().take_while(|line| !line.starts_with("table "));
        let words = |line: &str| self.neutral(&line.replace(NODAD, " ").replace('\\', " "));
        let even = |line: String| line.split_whitespace().collect::<Vec<_>>().join(" ");
        lines.map(words).map(even).filter(|line| !is_known(line)).collect()
    }

    /// Everything that can be compared.
    fn all(&self) -> Vec<(String, BTreeSet<String>)> {
        let mut all = vec![("node".to_owned(), self.state(&self.node.namespace))];
        all.extend(self.pods.iter().map(|pod| (pod.id.clone(), self.state(&pod.namespace))));
        all
    }

    /// The reservations, without the lock.
    fn files(&self) -> BTreeMap<String, String> {
        let mut files = files(&self.node.data());
        files.remove("pods/lock");
        files
    }
}

fn is_known(line: &str) -> bool {
    let line = line.replace("cni0", "BRIDGE").replace("br7", "BRIDGE");
    KNOWN.iter().any(|(known, _)| line.contains(known))
}

/// Hardware addresses, what IPv6 makes of them, and the names of host ends.
fn mask(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '.' | '_');
    let mut masked = String::new();
    for word in text.split_inclusive(|c: char| !is_part(c)) {
        let end =
            word.len() - word.chars().last().filter(|c| !is_part(*c)).map_or(0, char::len_utf8);
        let (word, rest) = word.split_at(end);
        let is_mac = |text: &str| text.len() == 17 && text.matches(':').count() == 5;
        let masked_word = match word {
            _ if word.starts_with("veth") && word != "veth" => "VETH",
            _ if word.starts_with("fe80::") && word.len() > 6 => "LINKLOCAL",
            _ if is_mac(word) && word != CHOSEN && !word.starts_with("ff:") => "MAC",
            _ if word.starts_with("8000.") => "BRIDGE-ID",
            _ => word,
        };
        masked.push_str(masked_word);
        masked.push_str(rest);
    }
    masked
}

#[track_caller]
fn assert_alike(ours: &Side, theirs: &Side, what: &str) {
    for ((place, ours), (_, theirs)) in ours.all().into_iter().zip(theirs.all()) {
        let only_ours: Vec<_> = ours.difference(&theirs).collect();
        let only_theirs: Vec<_> = theirs.difference(&ours).collect();
        assert!(
            only_ours.is_empty() && only_theirs.is_empty(),
            "{what}: {place}:\nonly ours {only_ours:#?}\nonly theirs {only_theirs:#?}"
        );
    }
}

macro_rules! versions {
    ($($name:ident: $version:literal $configurations:expr;)*) => {$(
        #[test]
        fn $name() {
            testbed::isolated!();
            for (subnets, keys) in $configurations {
                compare($version, subnets, &keys);
            }
        }
    )*};
}

versions! {
    both_bridges_do_the_same_in_version_0_2_0: "0.2.0" bridges().drain(3..5);
    both_bridges_do_the_same_in_version_0_4_0: "0.4.0" bridges().drain(4..7);
    both_bridges_do_the_same_without_a_gateway: "1.0.0" bridges().drain(0..3);
    both_bridges_do_the_same_with_a_gateway: "1.0.0" bridges().drain(3..5);
    both_bridges_do_the_same_with_more_keys: "1.0.0" bridges().drain(5..7);
    both_cables_do_the_same_in_version_0_2_0: "0.2.0" cables().drain(0..3);
    both_cables_do_the_same_in_version_0_4_0: "0.4.0" cables();
    both_cables_do_the_same_in_version_1_0_0: "1.0.0" cables();
}

fn compare(version: &str, subnets: &[&str], keys: &Value) {
    let what = format!("{version} {subnets:?} {keys}");
    let (ours, theirs) = (Side::new("ours", By::Podwire), Side::new("theirs", By::Reference));
    let calls =
        [("ADD", 0), ("ADD", 1), ("DEL", 0), ("DEL", 0), ("ADD", 0), ("DEL", 1), ("DEL", 0)];
    for (number, (command, pod)) in calls.into_iter().enumerate() {
        let config = |side: &Side| match subnets {
            [] => side.node.bridged(version, keys.clone()),
            _ => side.node.network(version, subnets, keys.clone()),
        };
        let answer = |side: &Side| {
            let call = side.node.call(command, &side.pods[pod], &config(side));
            let mut answer = side.node.run(&call).ok();
            if answer["dns"] == json!({}) {
                // In 1.0.0 the reference prints an empty one, and later versions of it do not.
                answer.as_object_mut().unwrap().remove("dns");
            }
            let neutral = side.neutral(&answer.to_string());
            serde_json::from_str::<Value>(&neutral).unwrap()
        };
        assert_eq!(answer(&ours), answer(&theirs), "{what}: {command} {pod}");
        assert_eq!(ours.files(), theirs.files(), "{what}: {command} {pod}");
        // The network does not depend on the version.
        if version == "1.0.0" && [1, 6].contains(&number) {
            assert_alike(&ours, &theirs, &format!("{what}: {command} {pod}"));
        }
    }
}
