//! The place where a fault is made, with what is seen there: all that making one asks for.

use net::{
    Address, Change, Link, LinkName, MAIN_TABLE, Object, Plan, Route, RouteKind, Step, Sysctl,
};
use topology::{End, Machine};

use super::Scene;
use crate::{Lab, Namespace, Network, Role, cluster};

/// The steps of a fault, or why it cannot be made here.
pub(super) type Made = Result<Plan, String>;

/// A lab as it is seen, and what of it is broken.
pub(super) struct Site<'a> {
    pub(super) lab: &'a Lab,
    pub(super) machine: &'a Machine,
    pub(super) scene: Scene,
    /// What it is made on.
    pub(super) on: &'a Namespace,
    /// Whether it is about IPv6.
    pub(super) v6: bool,
}

/// A pod's device.
pub(super) const POD_LINK: &str = "eth0";
/// A node's device.
pub(super) const UPLINK: &str = "eth0";

impl<'a> Site<'a> {
    /// The node that it is made on, or on which the pod is.
    pub(super) fn node(&self) -> Result<&'a Namespace, String> {
        match self.on.role {
            Role::Node => Ok(self.on),
            _ => self.lab.node_of(self.on).ok_or_else(|| format!("{} has no node", self.on.name)),
        }
    }

    /// The pods of a node.
    pub(super) fn pods_of(&self, node: &Namespace) -> Vec<&'a Namespace> {
        let lab = self.lab;
        lab.pods().filter(|pod| lab.node_of(pod).is_some_and(|it| it.name == node.name)).collect()
    }

    /// Another pod of the same node.
    pub(super) fn sibling(&self) -> Result<&'a Namespace, String> {
        let node = self.node()?;
        let mut others = self.pods_of(node).into_iter().filter(|pod| *pod != self.on);
        others.next().ok_or_else(|| format!("{} has no other pod", node.name))
    }

    /// The first other node that has pods.
    pub(super) fn peer(&self) -> Result<&'a Namespace, String> {
        let node = self.node()?;
        let mut others = self.lab.nodes().filter(|it| *it != node && !self.pods_of(it).is_empty());
        others.next().ok_or_else(|| "no other node has pods".to_owned())
    }

    fn network(&self) -> Result<&'a crate::Cluster, String> {
        match &self.lab.network {
            Network::Cluster(network) => Ok(network),
            _ => Err("the lab has one node".to_owned()),
        }
    }

    fn family(&self) -> fabric::Family {
        if self.v6 { fabric::Family::V6 } else { fabric::Family::V4 }
    }

    /// The addresses of a node's pods.
    pub(super) fn pod_net(&self, node: &Namespace) -> Result<ipnet::IpNet, String> {
        self.network()?;
        Ok(cluster::pod_net(self.family(), node))
    }

    /// The address by which other nodes reach a node, and that of its router.
    pub(super) fn on_underlay(
        &self,
        node: &Namespace,
    ) -> Result<(std::net::IpAddr, std::net::IpAddr), String> {
        let (node, router) = cluster::on_underlay(self.network()?, self.family(), node);
        Ok((node.addr(), router.addr()))
    }

    /// The address of the host beyond the cluster.
    pub(super) fn outside(&self) -> Result<std::net::IpAddr, String> {
        self.network()?;
        Ok(cluster::outside(self.family()).addr())
    }

    /// The address of the resolver that pods are told.
    pub(super) fn resolver(&self) -> Result<ipnet::IpNet, String> {
        let told = cluster::resolver_address(self.network()?, self.family());
        told.ok_or_else(|| "pods are told none: --dns of `podwire lab up` has them told".to_owned())
    }

    /// An address of the underlay that nobody has.
    pub(super) fn nobody(&self, node: &Namespace) -> Result<std::net::IpAddr, String> {
        let (own, _) = cluster::on_underlay(self.network()?, self.family(), node);
        Ok(last(own))
    }

    fn at(&self, place: &Namespace) -> Result<usize, String> {
        let is_it = |it: &topology::Namespace| {
            it.name == place.public && it.lab.as_deref() == Some(self.lab.name.as_str())
        };
        let found = self.machine.namespaces.iter().position(is_it);
        found.ok_or_else(|| format!("{} is gone", place.name))
    }

    /// What is seen of a namespace.
    pub(super) fn seen(&self, place: &Namespace) -> Result<&'a topology::Namespace, String> {
        Ok(&self.machine.namespaces[self.at(place)?])
    }

    /// What somebody wrote in a namespace.
    pub(super) fn objects(&self, place: &Namespace) -> Result<Vec<Object>, String> {
        Ok(self.seen(place)?.dump.objects())
    }

    /// A device.
    pub(super) fn link(&self, place: &Namespace, name: &str) -> Result<Link, String> {
        let links = self.objects(place)?.into_iter().filter_map(|object| match object {
            Object::Link(link) if link.name.as_str() == name => Some(link),
            _ => None,
        });
        links.into_iter().next().ok_or_else(|| format!("{} has no device {name}", place.name))
    }

    /// The tunnel of a node.
    pub(super) fn tunnel(&self, node: &Namespace) -> Result<Link, String> {
        let mut tunnels = self.objects(node)?.into_iter().filter_map(|object| match object {
            Object::Link(link) if matches!(link.kind, Some(net::LinkKind::Vxlan(_))) => Some(link),
            _ => None,
        });
        // Where each family has its own, IPv4's is the first.
        let found = if self.v6 { tunnels.last() } else { tunnels.next() };
        found.ok_or_else(|| format!("{} has no tunnel", node.name))
    }

    /// The end of a pod's cable on its node.
    pub(super) fn host_end(&self, pod: &Namespace) -> Result<Link, String> {
        let node = self.lab.node_of(pod).ok_or_else(|| format!("{} has no node", pod.name))?;
        let (at, home) = (self.at(pod)?, self.at(node)?);
        let links = self.machine.namespaces[at].links();
        let own = links.into_iter().find(|link| link.name == POD_LINK);
        let own = own.ok_or_else(|| format!("{} has no device {POD_LINK}", pod.name))?;
        let far = self.machine.peer(End { namespace: at, link: own.index });
        let far = far.filter(|far| far.namespace == home).and_then(|far| self.machine.link(far));
        let far =
            far.ok_or_else(|| format!("the cable of {} does not end on its node", pod.name))?;
        self.link(node, &far.name)
    }

    /// The bridge that a pod's cable ends in.
    pub(super) fn bridge(&self, pod: &Namespace) -> Result<LinkName, String> {
        let end = self.host_end(pod)?;
        end.master.ok_or_else(|| format!("the cable of {} ends in no bridge", pod.name))
    }

    /// An address of a device.
    pub(super) fn address(&self, place: &Namespace, link: &str) -> Result<Address, String> {
        let addresses = self.objects(place)?.into_iter().filter_map(|object| match object {
            Object::Address(it) if it.link.as_str() == link => Some(it),
            _ => None,
        });
        let mut fitting = addresses.filter(|it| it.address.addr().is_ipv6() == self.v6);
        fitting.next().ok_or_else(|| format!("{} has no address on {link}", place.name))
    }

    /// The default route of a namespace.
    pub(super) fn default_route(&self, place: &Namespace) -> Result<Route, String> {
        let found = self.routes(place)?.into_iter().find(|it| it.destination.prefix_len() == 0);
        found.ok_or_else(|| format!("{} has no default route", place.name))
    }

    /// The route of the node to another one's pods.
    pub(super) fn peer_route(&self, peer: &Namespace) -> Result<Route, String> {
        let (node, pods) = (self.node()?, self.pod_net(peer)?);
        let found = self
            .routes(node)?
            .into_iter()
            .find(|it| it.destination == pods && it.kind == RouteKind::Unicast);
        found.ok_or_else(|| format!("{} has no route to {pods}", node.name))
    }

    fn routes(&self, place: &Namespace) -> Result<Vec<Route>, String> {
        let routes = self.objects(place)?.into_iter().filter_map(|object| match object {
            Object::Route(it) if it.table == MAIN_TABLE => Some(it),
            _ => None,
        });
        Ok(routes.filter(|it| it.destination.addr().is_ipv6() == self.v6).collect())
    }

    /// The step that gives a setting another value.
    pub(super) fn set(
        &self,
        place: &Namespace,
        key: &str,
        value: &str,
        why: &'static str,
    ) -> Result<Step, String> {
        let read = self.seen(place)?.settings.get(&key.replace('/', "."));
        let was = read.ok_or_else(|| format!("{key} could not be read on {}", place.name))?;
        let change = Change::replace(Sysctl::new(key, was), Sysctl::new(key, value));
        Ok(Step::new(&place.space(), change, why))
    }
}

/// The last address of a network that a host can have.
pub(super) fn last(own: ipnet::IpNet) -> std::net::IpAddr {
    match own {
        ipnet::IpNet::V4(it) => {
            std::net::Ipv4Addr::from(u32::from(it.broadcast()).saturating_sub(1)).into()
        }
        ipnet::IpNet::V6(it) => {
            std::net::Ipv6Addr::from(u128::from(it.broadcast()).saturating_sub(1)).into()
        }
    }
}

/// The step that changes a device: only what differs is said.
pub(super) fn changed(
    place: &Namespace,
    from: &Link,
    change: impl FnOnce(&mut Link),
    why: &'static str,
) -> Step {
    let mut to = from.clone();
    change(&mut to);
    Step::new(&place.space(), super::repair::replace(from, &to), why)
}

/// The step that makes something.
pub(super) fn create(place: &Namespace, object: impl Into<Object>, why: &'static str) -> Step {
    Step::new(&place.space(), Change::Create(object.into()), why)
}

/// The step that takes something away.
pub(super) fn delete(place: &Namespace, object: impl Into<Object>, why: &'static str) -> Step {
    Step::new(&place.space(), Change::Delete(object.into()), why)
}

/// The step that turns something into something else.
pub(super) fn replace<T: Into<Object>>(
    place: &Namespace,
    from: T,
    to: T,
    why: &'static str,
) -> Step {
    Step::new(&place.space(), Change::replace(from, to), why)
}
