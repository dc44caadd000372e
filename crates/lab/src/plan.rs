//! The steps that make a lab.

use std::path::PathBuf;

use crate::{AgentRun, Invocation, Lab, Namespace, ResolverRun, script};

/// A lab and everything that is done to make it, in order: namespaces, files, steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What is made.
    pub lab: Lab,
    /// The lab's own directory.
    pub directory: PathBuf,
    /// The namespaces that are made first.
    pub namespaces: Vec<Namespace>,
    /// The files in that directory that a person or a plugin reads.
    pub files: Vec<Entry>,
    /// What is done once the namespaces and the files are there.
    pub steps: Vec<Step>,
}

/// A part of a lab's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Directory(PathBuf),
    /// A text.
    File(net::File),
    /// A name for a file elsewhere.
    Symlink {
        /// The name.
        path: PathBuf,
        /// What it stands for.
        target: PathBuf,
    },
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A change to the network of a namespace.
    Machine(net::Step),
    /// A call of a plugin.
    Cni(Invocation),
    /// A run of a node's agent. Those that follow each other are made at the same time.
    Agent(AgentRun),
    /// The start of the resolver that pods are told.
    Resolver(ResolverRun),
}

impl Plan {
    /// Whether all of the lab is made, not only a part of it.
    pub fn is_whole(&self) -> bool {
        self.namespaces.len() == self.lab.namespaces.len()
    }
}

impl Step {
    /// Why, in a sentence without subject.
    pub fn why(&self) -> &str {
        match self {
            Self::Machine(step) => &step.why,
            Self::Cni(invocation) => invocation.why,
            Self::Agent(run) => run.why,
            Self::Resolver(run) => run.why,
        }
    }

    /// The name of the namespace that it is about: a plugin runs on the node, for a pod.
    pub fn subject(&self) -> String {
        match self {
            Self::Machine(step) => step.space.to_string(),
            Self::Cni(invocation) => {
                let netns = invocation.parameters.netns.clone().unwrap_or_default();
                net::Space::At(netns).to_string()
            }
            Self::Agent(run) => run.space.to_string(),
            Self::Resolver(run) => run.space.to_string(),
        }
    }

    /// The namespace in which it happens.
    pub fn space(&self) -> &net::Space {
        match self {
            Self::Machine(step) => &step.space,
            Self::Cni(invocation) => &invocation.space,
            Self::Agent(run) => &run.space,
            Self::Resolver(run) => &run.space,
        }
    }

    /// The run of an agent that it is, if it is one.
    pub fn agent(&self) -> Option<&AgentRun> {
        match self {
            Self::Agent(run) => Some(run),
            _ => None,
        }
    }

    /// What is done, short enough for a person to read.
    pub fn commands(&self) -> Vec<String> {
        match self {
            Self::Machine(step) => net::shell(step),
            Self::Cni(invocation) => vec![invocation.to_string()],
            Self::Agent(run) => vec![run.to_string()],
            Self::Resolver(run) => vec![run.to_string()],
        }
    }

    /// The commands that do the same in a shell.
    pub fn shell(&self) -> Vec<String> {
        match self {
            Self::Machine(step) => net::shell(step),
            Self::Cni(invocation) => vec![script::call(invocation)],
            Self::Agent(run) => vec![script::agent(run)],
            Self::Resolver(run) => vec![script::resolver(run)],
        }
    }
}
