//! What every plugin says and hears, whatever it does.

pub(super) mod configuration;
pub(super) mod environment;
pub(super) mod version;

use testbed::call::{Answer, Call};

use crate::directory::PLUGINS;
use crate::node::{Network, Node, Pod};

/// Every plugin.
const EVERY: &[&str] = &PLUGINS;

/// A plugin with the least that it can be called with, and somebody to call it for.
struct Scene<'a> {
    node: &'a Node,
    pod: Pod,
    network: Network,
}

impl<'a> Scene<'a> {
    fn new(node: &'a Node) -> Self {
        Self { node, pod: node.pod("pod"), network: node.least(&node.subject) }
    }

    fn call(&self, command: &str) -> Call {
        self.node.call(command, &self.pod, self.network.only())
    }

    fn run(&self, call: &Call) -> Answer {
        self.node.run(call)
    }

    /// Asserts that a call is refused with this code and this message, and gives the details.
    #[track_caller]
    fn refuses(&self, call: &Call, code: u64, msg: &str) -> String {
        let refusal = self.run(call).refused();
        assert_eq!(refusal.said(), (code, msg));
        refusal.details
    }
}
