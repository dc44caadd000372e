//! What is wrong is refused with one error that says what, and nothing is changed by trying.

mod configuration;
mod environment;
mod filesystem;
mod netns;
mod state;
mod teardown;

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::*;

const SUBNET: &str = "10.1.2.0/24";

/// A node, a pod that is to be refused, and what there was before.
struct Scene {
    plugin: &'static str,
    node: Node,
    pod: Pod,
    before: String,
}

impl Scene {
    fn new() -> Self {
        Self::of("bridge")
    }

    fn of(plugin: &'static str) -> Self {
        let node = Node::new(By::Podwire);
        let pod = node.pod("pod");
        Self { plugin, before: glance(&node, &pod), node, pod }
    }

    /// What is there now is what has to stay. The kernel finishes by itself what was begun before:
    /// addresses of its own, and their routes.
    fn starts_here(&mut self) {
        self.before = eventually("the kernel comes to rest", || {
            let before = glance(&self.node, &self.pod);
            std::thread::sleep(Duration::from_millis(20));
            (before == glance(&self.node, &self.pod)).then_some(before)
        });
    }

    /// What every case changes one thing of.
    fn config(&self, keys: Value) -> Value {
        let keys = merged(json!({ "type": self.plugin, "isGateway": true }), keys);
        self.node.network("1.1.0", &[SUBNET], keys)
    }

    fn call(&self, config: &Value) -> Call {
        self.node.call("ADD", &self.pod, config)
    }

    /// The call fails with this code and message, and leaves everything as it was. The details are
    /// returned.
    #[track_caller]
    fn refuses(&self, call: &Call, code: u64, msg: &str) -> String {
        let refusal = self.node.run(call).refused();
        assert_eq!(refusal.said(), (code, msg));
        self.is_untouched();
        refusal.details
    }

    #[track_caller]
    fn is_untouched(&self) {
        testbed::assert_same_state(&self.before, &glance(&self.node, &self.pod));
    }
}

/// What a call could have changed, as far as it is quickly told. The empty bridge and the files
/// without a reservation may stay.
fn glance(node: &Node, pod: &Pod) -> String {
    const SCRIPT: &str =
        "ip -o link | sed 's/^[0-9]*: //'; ip -o address; ip route; nft list ruleset";
    let mut told: Vec<String> = [&node.namespace, &pod.namespace]
        .iter()
        .flat_map(|space| space.sh(SCRIPT).lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| !line.contains("cni0"))
        .collect();
    told.extend(node.reservations().into_iter().map(|(address, holder)| address + &holder));
    told.join("\n")
}
