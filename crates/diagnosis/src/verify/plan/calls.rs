//! What is asked of others: the resolvers that pods are told, and the ports of nodes that lead to pods.

use std::net::{IpAddr, SocketAddr};

use super::{Builder, Call, Cluster, Protocol, Service};
use crate::verify::hosts::{self, Kind};
use crate::verify::rule::Rule;

impl Builder<'_, '_> {
    pub(super) fn resolver(&mut self, pod: usize) {
        if !self.asks(Rule::Dns) {
            return;
        }
        let at = self.plan.hosts[pod].at;
        let mut told = self.view.resolvers(at);
        told.retain(|address| is_ours(*address));
        for address in told {
            let Some(own) = self.plan.hosts[pod].address(address.is_ipv6()) else { continue };
            let from = self.place(pod, own);
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                self.plan.calls.push(Call {
                    from,
                    to: SocketAddr::new(address, 53),
                    protocol,
                    service: Service::Resolver,
                    rule: Rule::Dns,
                });
            }
        }
    }

    /// The ports of its node that lead to a pod: asked from another node, from another pod (of
    /// another node, if there is one) and from itself.
    pub(super) fn ports(&mut self, pod: usize, cluster: &Cluster) {
        let host = self.plan.hosts[pod].clone();
        let Some(home) = host.home else { return };
        let mappings = self.view.attachments(host.at).flat_map(|(_, it)| &it.ports);
        let mappings: Vec<_> = mappings.cloned().collect();
        let Some(node) = cluster.nodes.iter().find(|it| self.plan.hosts[**it].at == home) else {
            return;
        };
        let other_node = cluster.nodes.iter().find(|it| *it != node);
        let is_other = |it: &&usize| **it != pod;
        let others = || cluster.pods.iter().filter(is_other);
        let far = others().find(|it| self.plan.hosts[**it].home != Some(home));
        let other_pod = far.or_else(|| others().next());
        let askers = [
            (Rule::HostPort, other_node.copied()),
            (Rule::HostPort, other_pod.copied()),
            (Rule::Hairpin, Some(pod)),
        ];
        for mapping in mappings {
            let protocol = match mapping.protocol.as_str() {
                "udp" => Protocol::Udp,
                "tcp" => Protocol::Tcp,
                _ => continue,
            };
            for (v6, address) in [(false, host.address(false)), (true, host.address(true))] {
                let Some(own) = address else { continue };
                let open = mapping.host_ip.or_else(|| self.plan.hosts[*node].address(v6));
                let open = open.filter(|it| it.is_ipv6() == v6 && !it.is_loopback());
                let Some(open) = open else { continue };
                for (rule, asker) in askers {
                    let Some(asker) = asker.filter(|_| self.asks(rule)) else { continue };
                    let Some(mut from) = self.plan.hosts[asker].address(v6) else { continue };
                    if self.plan.hosts[asker].kind == Kind::Node {
                        let at = self.plan.hosts[asker].at;
                        from = hosts::source(self.view, at, open).unwrap_or(from);
                    }
                    let from = self.place(asker, from);
                    let place = self.place(pod, own);
                    let to = SocketAddr::new(open, mapping.host_port);
                    let service = Service::Port { place, port: mapping.container_port };
                    self.plan.calls.push(Call { from, to, protocol, service, rule });
                }
            }
        }
    }
}

/// Whether an address is of somebody's own network, so that who asks it asks nobody else's.
fn is_ours(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let is_shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private() || v4.is_link_local() || v4.is_documentation() || is_shared
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.segments()[..2] == [0x2001, 0xdb8],
    }
}
