//! Labs that change: nodes and pods that come and go, agents that are started and stopped.
//!
//! The record speaks of a part before it is made and until it is gone, so that a kill in between
//! leaves nothing that nobody knows: `lab status` names what is half there, and removing it again,
//! or taking the lab down, removes it.

use std::collections::BTreeSet;
use std::fs;

use kernel::{Kernel, OnError};

use crate::store::{Directory, make};
use crate::{
    AgentRun, Cluster, Error, Farewell, Lab, Made, Name, Namespace, Network, Plan, Removal, Report,
    Result, Role, Started, State, Store, agents, attachment, cluster,
};

impl Store {
    /// Adds a pod, on `node` or on the node that has the fewest.
    pub fn add_pod(
        &self,
        name: &Name,
        node: Option<&str>,
        interrupted: &dyn Fn() -> bool,
        watch: &mut dyn FnMut(Made<'_>),
    ) -> Result<Namespace> {
        let (directory, lab) = self.open_up(name)?;
        let (plan, pod) = pod_plan(&directory, &lab, node)?;
        self.extend(&directory, &lab, &plan, &pod, interrupted, watch)?;
        Ok(pod)
    }

    /// What [`Store::add_pod`] would do.
    pub fn plan_pod(&self, name: &Name, node: Option<&str>) -> Result<Plan> {
        let (directory, lab) = self.open_up(name)?;
        Ok(pod_plan(&directory, &lab, node)?.0)
    }

    /// Removes a pod as a container runtime does.
    pub fn remove_pod(&self, name: &Name, pod: &str) -> Result<Report> {
        let (directory, lab) = self.open_up(name)?;
        let removal = pod_removal(&directory, &lab, pod)?;
        let report = directory.clear_part(&lab, &removal.part);
        if report.failures.is_empty() {
            directory.write_record(&removal.after())?;
        }
        Ok(report)
    }

    /// What [`Store::remove_pod`] would do.
    pub fn plan_pod_removal(&self, name: &Name, pod: &str) -> Result<Removal> {
        let (directory, lab) = self.open_up(name)?;
        pod_removal(&directory, &lab, pod)
    }

    /// Adds a node without pods, and has the others reach it.
    pub fn add_node(
        &self,
        name: &Name,
        interrupted: &dyn Fn() -> bool,
        watch: &mut dyn FnMut(Made<'_>),
    ) -> Result<Namespace> {
        let (directory, lab) = self.open_up(name)?;
        let (plan, node) = node_plan(&directory, &lab)?;
        self.extend(&directory, &lab, &plan, &node, interrupted, watch)?;
        Ok(node)
    }

    /// What [`Store::add_node`] would do.
    pub fn plan_node(&self, name: &Name) -> Result<Plan> {
        let (directory, lab) = self.open_up(name)?;
        Ok(node_plan(&directory, &lab)?.0)
    }

    /// Removes a node with its pods, and has the others forget it.
    pub fn remove_node(&self, name: &Name, node: &str) -> Result<Report> {
        let (directory, lab) = self.open_up(name)?;
        forget(&directory, &node_removal(&directory, &lab, node)?)
    }

    /// What [`Store::remove_node`] would do.
    pub fn plan_node_removal(&self, name: &Name, node: &str) -> Result<Removal> {
        let (directory, lab) = self.open_up(name)?;
        node_removal(&directory, &lab, node)
    }

    /// Starts the agents of these nodes, or of all, so that they stay. Returns what came of each.
    pub fn start_agents(&self, name: &Name, nodes: &[String]) -> Result<Vec<(AgentRun, Started)>> {
        let (directory, lab) = self.open_up(name)?;
        let runs = agents_of(&lab, &directory, nodes)?;
        let started = agents::run(&runs.iter().collect::<Vec<_>>(), &|| false);
        runs.into_iter().zip(started).map(|(run, started)| Ok((run, started?))).collect()
    }

    /// Stops the agents of these nodes, or of all. Returns the nodes whose agent ran.
    pub fn stop_agents(&self, name: &Name, nodes: &[String]) -> Result<Vec<String>> {
        let (directory, lab) = self.open_up(name)?;
        Ok(agents::stop(&agents_of(&lab, &directory, nodes)?))
    }

    /// A lab that was made to the end, held against all other commands.
    pub(crate) fn open_up(&self, name: &Name) -> Result<(Directory, Lab)> {
        let directory = Directory::open(&self.root, name)?.ok_or_else(|| self.no_lab(name))?;
        match (directory.record()?, directory.state()) {
            (Some(lab), State::Up) => Ok((directory, lab)),
            (None, _) => Err(self.no_lab(name)),
            _ => Err(Error::Unfinished { name: name.to_string() }),
        }
    }

    /// Makes a part of a lab, or nothing.
    fn extend(
        &self,
        directory: &Directory,
        before: &Lab,
        plan: &Plan,
        part: &Namespace,
        interrupted: &dyn Fn() -> bool,
        watch: &mut dyn FnMut(Made<'_>),
    ) -> Result<()> {
        self.require_names(&plan.lab, &plan.namespaces)?;
        directory.write_record(&plan.lab)?;
        let Err(cause) = make(plan, interrupted, watch) else { return Ok(()) };
        let report = match (&plan.lab.network, part.role) {
            (Network::Cluster(network), Role::Node) => {
                let running = running(&plan.lab, network, directory);
                let (lab, home) = (&plan.lab, &directory.path);
                forget(directory, &Removal::of_node(lab, network, home, part, &running))?
            }
            _ => {
                let report = directory.clear_part(&plan.lab, &plan.namespaces);
                if report.failures.is_empty() {
                    directory.write_record(before)?;
                }
                report
            }
        };
        let (name, object) = (plan.lab.name.to_string(), part.object());
        Err(Error::NotAdded { name, object, cause: Box::new(cause), left: report.failures })
    }
}

fn pod_plan(directory: &Directory, lab: &Lab, node: Option<&str>) -> Result<(Plan, Namespace)> {
    let (lab, pod) = lab.with_pod(node)?;
    let steps = attachment::adds(&lab, &directory.path, &pod);
    let (directory, namespaces) = (directory.path.clone(), vec![pod.clone()]);
    Ok((Plan { lab, directory, namespaces, files: Vec::new(), steps }, pod))
}

fn node_plan(directory: &Directory, lab: &Lab) -> Result<(Plan, Namespace)> {
    let network = lab.require_cluster()?;
    let (after, node) = lab.with_node()?;
    let running = running(lab, network, directory);
    Ok((cluster::plan_node(&after, network, &directory.path, &node, &running), node))
}

fn pod_removal(directory: &Directory, lab: &Lab, pod: &str) -> Result<Removal> {
    Ok(Removal::of_pod(lab, &directory.path, lab.namespace(Role::Pod, pod)?))
}

fn node_removal(directory: &Directory, lab: &Lab, node: &str) -> Result<Removal> {
    let network = lab.require_cluster()?;
    let node = lab.namespace(Role::Node, node)?;
    if lab.nodes().count() == 1 {
        return Err(Error::LastNode { name: lab.name.to_string(), node: node.object() });
    }
    let running = running(lab, network, directory);
    Ok(Removal::of_node(lab, network, &directory.path, node, &running))
}

/// Removes a node with its pods, its cable and its files, and its record last.
fn forget(directory: &Directory, removal: &Removal) -> Result<Report> {
    let mut report = directory.clear_part(&removal.lab, &removal.part);
    let Some(Farewell { cable, plan, home }) = &removal.farewell else { return Ok(report) };
    // The kernel takes its time to end a namespace, and whoever comes next may want the name.
    let applied = Kernel::new()?.apply(cable.as_slice(), OnError::Continue);
    report.notes.extend(applied.failed.into_iter().map(|(_, error)| error.to_string()));
    if let Err(error) = make(plan, &|| false, &mut |_| {}) {
        report.notes.push(error.to_string());
    }
    if report.failures.is_empty() {
        match fs::remove_dir_all(home) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", home, error));
            }
            _ => directory.write_record(&removal.after())?,
        }
    }
    Ok(report)
}

/// The nodes whose agents are at work.
fn running(lab: &Lab, network: &Cluster, directory: &Directory) -> BTreeSet<String> {
    let runs = lab.nodes().map(|it| cluster::agent(lab, network, &directory.path, it, true));
    runs.filter(AgentRun::is_running).map(|run| run.node).collect()
}

/// The agents of these nodes, or of all, as they stay.
fn agents_of(lab: &Lab, directory: &Directory, nodes: &[String]) -> Result<Vec<AgentRun>> {
    let network = lab.require_cluster()?;
    let named: Result<Vec<&Namespace>> =
        nodes.iter().map(|node| lab.namespace(Role::Node, node)).collect();
    let chosen = if nodes.is_empty() { lab.nodes().collect() } else { named? };
    let run = |node| cluster::agent(lab, network, &directory.path, node, true);
    Ok(chosen.into_iter().map(run).collect())
}
