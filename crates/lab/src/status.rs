//! Whether a lab is still what was made.

use std::collections::BTreeMap;
use std::path::Path;

use kernel::{Kernel, Query};
use net::{Change, Object, Space};
use schemars::JsonSchema;
use serde::Serialize;

use crate::publish::{Found, look};
use crate::{
    Lab, Name, Namespace, Network, Result, Role, State, Step, Store, agents, attachment, cluster,
};

/// A lab as it is now.
#[derive(Clone, Debug)]
pub struct Status {
    /// What was planned.
    pub lab: Lab,
    /// How far it got.
    pub state: State,
    /// What is not as it was made; empty for a sound lab.
    pub faults: Vec<Deviation>,
    /// What does not work because of what was asked for.
    pub limits: Vec<Deviation>,
}

/// Something that is not as it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Deviation {
    /// Whose fault it is, such as `pod/pod1`.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
}

impl Store {
    /// Compares a lab with what was planned, and asks the plugins about what they made.
    pub fn status(&self, name: &Name) -> Result<Status> {
        let (lab, state) = self.get(name)?;
        let directory = self.directory(name);
        let mut faults = Vec::new();
        if state != State::Busy {
            faults.extend(lab.namespaces.iter().filter_map(|it| identity(it, &directory)));
            faults.extend(changed(&lab, &directory)?);
            faults.extend(detached(&lab, &directory));
            faults.extend(disjoint(&lab, &directory));
            faults.extend(nameless(&lab, &directory));
        }
        let limits = lab.limits(&directory);
        Ok(Status { lab, state, faults, limits })
    }
}

/// Whether a namespace still has both of its names.
fn identity(namespace: &Namespace, directory: &Path) -> Option<Deviation> {
    let public = namespace.public_path();
    let what = match (look(&namespace.private_path(directory)), look(&public)) {
        (Found::Namespace(own), Found::Namespace(seen)) if own == seen => return None,
        (Found::Namespace(_), Found::Namespace(_)) => {
            format!("{} is another namespace now", public.display())
        }
        (Found::Namespace(_), _) => {
            format!("{} is gone, so that `ip netns` does not know it", public.display())
        }
        _ => "its namespace is gone".to_owned(),
    };
    Some(Deviation { object: namespace.object(), what })
}

/// What differs from what the lab's own steps made.
fn changed(lab: &Lab, directory: &Path) -> Result<Vec<Deviation>> {
    let plan = lab.plan(directory);
    let mut wanted: BTreeMap<&Space, Vec<Object>> = BTreeMap::new();
    for step in &plan.steps {
        if let Step::Machine(net::Step { space, change, .. }) = step
            && let Change::Create(object) | Change::Ensure(object) = change
        {
            wanted.entry(space).or_default().extend(comparable(object));
        }
    }
    let mut kernel = Kernel::new()?;
    let mut faults = Vec::new();
    for namespace in &lab.namespaces {
        let own = Space::At(namespace.private_path(directory));
        let Some(want) = wanted.get(&Space::named(&namespace.public)) else { continue };
        // One that cannot be read has been found missing, by its identity.
        let Ok(seen) = kernel.observe(&own, &Query::All) else { continue };
        let fault = |what| Deviation { object: namespace.object(), what };
        let differs = net::diff(&own, want.clone(), &seen, |_| false).into_iter();
        faults.extend(differs.filter_map(|step| describe(&step.change)).map(fault));
    }
    Ok(faults)
}

/// An object as an observer sees it, as far as it can be seen.
fn comparable(object: &Object) -> Option<Object> {
    match object {
        // Where the far end of a cable is cannot be seen from the near end.
        Object::Link(link) => Some(Object::Link(net::Link { kind: None, ..link.clone() })),
        Object::Sysctl(_) => None,
        object => Some(object.clone()),
    }
}

fn describe(change: &Change) -> Option<String> {
    let name = |object: &Object| match object {
        Object::Link(link) => format!("device {}", link.name),
        Object::Address(address) => format!("address {} on {}", address.address, address.link),
        Object::Route(route) => format!("the route to {}", route.destination),
        Object::Nft(_) => "a part of the firewall".to_owned(),
        _ => "a part of the network".to_owned(),
    };
    match change {
        Change::Create(object) => Some(format!("{} is missing", name(object))),
        Change::Replace { from, to: Object::Link(to) } if let Object::Link(from) = &**from => {
            let what = if to.up == Some(true) && from.up == Some(false) {
                "is switched off"
            } else if to.master.is_some() && to.master != from.master {
                "is not in its bridge"
            } else {
                "is not as it was made"
            };
            Some(format!("device {} {what}", to.name))
        }
        Change::Replace { to, .. } => Some(format!("{} is not as it was made", name(to))),
        _ => None,
    }
}

/// The pods whose plugins say that they are not as they were attached.
fn detached(lab: &Lab, directory: &Path) -> Vec<Deviation> {
    let fault = |pod: &Namespace| {
        let call = attachment::check(lab, directory, pod)?;
        let what = if call.is_remembered() {
            call.run(&|| false).err()?.to_string()
        } else {
            "it was never joined to the network".to_owned()
        };
        Some(Deviation { object: pod.object(), what })
    };
    lab.pods().filter_map(fault).collect()
}

/// What agents say that is wrong with how nodes are joined, but for what cannot be otherwise.
fn disjoint(lab: &Lab, directory: &Path) -> Vec<Deviation> {
    let Network::Cluster(network) = &lab.network else { return Vec::new() };
    let run = |node: &Namespace| crate::AgentRun {
        space: Space::At(node.private_path(directory)),
        ..cluster::agent(lab, network, directory, node, true)
    };
    let runs: Vec<_> = lab.nodes().map(run).collect();
    let limits = lab.limits(directory);
    let of_node = |(node, (_, problems)): (&Namespace, (String, Vec<String>))| {
        let fault = |what| Deviation { object: node.object(), what };
        problems.into_iter().map(fault).collect::<Vec<_>>()
    };
    let faults = lab.nodes().zip(agents::problems(&runs)).flat_map(of_node);
    faults.filter(|fault| !limits.contains(fault)).collect()
}

/// Whether the resolver that pods are told answers.
fn nameless(lab: &Lab, directory: &Path) -> Option<Deviation> {
    let Network::Cluster(network) = &lab.network else { return None };
    let host = lab.namespaces.iter().find(|it| it.role == Role::Outside)?;
    let run = crate::ResolverRun {
        space: Space::At(host.private_path(directory)),
        ..cluster::resolver(lab, network, directory)?
    };
    let what = "the resolver does not answer".to_owned();
    // A namespace that is gone has been found missing.
    (!run.answers().unwrap_or(true)).then(|| Deviation { object: host.object(), what })
}

impl Lab {
    /// What does not work because of what was asked for: nobody but a person can change it.
    pub fn limits(&self, directory: &Path) -> Vec<Deviation> {
        let Network::Cluster(network) = &self.network else { return Vec::new() };
        let limits = cluster::limits(self, network, directory).into_iter();
        limits.map(|(object, what)| Deviation { object, what }).collect()
    }
}
