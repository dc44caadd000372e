//! What container runtimes are told, and when: that pods may be made here, or that they may not.
//! It never writes a file.

use std::time::Duration;

use ipnet::IpNet;

use super::shape::is_of_peer;
use super::{Agent, Effect};
use crate::desired::desired;
use crate::{Node, Subject};

/// What runtimes have to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// This node, with the subnets that are joined.
    pub me: Node,
    /// All pods' addresses, where they are known beforehand.
    pub pod_networks: Vec<IpNet>,
    /// The largest packet of a pod, in bytes.
    pub mtu: u32,
}

/// How long a node that was ready may not be so before runtimes are told.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// What runtimes were told last.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Runtimes {
    Untold,
    Ready(Ready),
    Unready,
}

impl Agent {
    /// What keeps this node from being ready.
    fn obstacle(&self) -> bool {
        self.withdrawn.is_some()
            || self.here.iter().any(|problem| problem.subject == Subject::Here)
            || self.failed.iter().any(|(change, _)| !is_of_peer(change))
            || (self.nodes.is_empty() && !self.is_complete)
    }

    pub(super) fn tell_runtimes(&mut self, recheck: bool, effects: &mut Vec<Effect>) {
        let applying = effects.iter().any(|it| matches!(it, Effect::Apply(_) | Effect::Look));
        if !self.has_looked || applying {
            // What is under way decides.
            return;
        }
        let ready = if self.obstacle() { None } else { self.ready() };
        let Some(ready) = ready else {
            let since = *self.unready_since.get_or_insert(self.now);
            let is_over = match self.runtimes {
                Runtimes::Untold => true,
                // What works for the pods that are there is not given up for a flap.
                Runtimes::Ready(_) => self.now >= since + GRACE,
                Runtimes::Unready => false,
            };
            if is_over {
                self.runtimes = Runtimes::Unready;
                effects.push(Effect::Unready);
            }
            return;
        };
        self.unready_since = None;
        if self.runtimes != Runtimes::Ready(ready.clone()) || recheck {
            self.runtimes = Runtimes::Ready(ready.clone());
            effects.push(Effect::Ready(ready));
        }
    }

    fn ready(&self) -> Option<Ready> {
        let machine = self.machine.as_ref()?;
        let desired = desired(&self.config, &self.name, &self.nodes, machine);
        let joint = desired.joint?;
        let mtu = joint.mtu()?;
        Some(Ready { me: joint.me, pod_networks: joint.pod_networks, mtu })
    }

    /// Whether pods here reach pods elsewhere, and may be made.
    pub fn is_ready(&self) -> bool {
        matches!(self.runtimes, Runtimes::Ready(_)) && self.unready_since.is_none()
    }
}
