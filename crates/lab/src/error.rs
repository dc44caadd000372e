//! What can go wrong with a lab, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::{Cluster, Lab, NameError};

/// What this room's calls return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a lab could not be made, found or removed. The text says what failed and why;
/// [`Error::remedy`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A lab cannot be called so.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Too few or too many pods.
    #[error("a node with {count} pods cannot be made: it has 1 to {} pods", Lab::MAX_PODS)]
    Pods {
        /// How many were asked for.
        count: u16,
    },
    /// Too few or too many nodes.
    #[error("a lab of {count} nodes cannot be made: it has 1 to {} nodes", Cluster::MAX_NODES)]
    Nodes {
        /// How many were asked for.
        count: u16,
    },
    /// The lab has no nodes that are joined.
    #[error("lab {name} has no nodes that agents join")]
    NoNodes {
        /// The lab.
        name: String,
    },
    /// A cluster without nodes is none.
    #[error("{node} is the last node of lab {name}")]
    LastNode {
        /// The lab.
        name: String,
        /// The node.
        node: String,
    },
    /// The lab was not made, or not removed, to the end.
    #[error("lab {name} is unfinished: a command was killed")]
    Unfinished {
        /// Its name.
        name: String,
    },
    /// A part could not be added; what was done of it is taken back, except for what is listed.
    #[error("{object} could not be added to lab {name}: {cause}")]
    NotAdded {
        /// The lab.
        name: String,
        /// The part.
        object: String,
        /// What failed.
        #[source]
        cause: Box<Error>,
        /// What could not be taken back.
        left: Vec<String>,
    },
    /// The resolver of a lab does not answer.
    #[error("the resolver does not run: {what}")]
    Resolver {
        /// Why, in its own words.
        what: String,
    },
    /// The agent of a node failed.
    #[error("the agent of {node} failed: {what}")]
    Agent {
        /// The node.
        node: String,
        /// Why, in its own words.
        what: String,
    },
    /// A lab of that name is up.
    #[error("lab {name} cannot be made: it is up already")]
    Exists {
        /// Its name.
        name: String,
    },
    /// A namespace's name belongs to somebody else.
    #[error("lab {name} cannot be made: {} already exists and belongs to {owner}", path.display())]
    Taken {
        /// The lab.
        name: String,
        /// The path of the namespace.
        path: PathBuf,
        /// Whose it is, in words.
        owner: String,
        /// Whether that is another lab.
        lab: Option<String>,
    },
    /// The lab's directory holds what no lab recorded.
    #[error("{} holds files that no lab recorded", path.display())]
    Unrecorded {
        /// The directory.
        path: PathBuf,
    },
    /// The lab's directory was made by a script, which `lab up` only printed.
    #[error(
        "{} was made by a script, so that podwire does not know what belongs to it",
        script.parent().unwrap_or(script).display()
    )]
    Scripted {
        /// The script that takes it down.
        script: PathBuf,
        /// What that says.
        commands: String,
    },
    /// There is no such lab.
    #[error("there is no lab {name}")]
    NoLab {
        /// Its name.
        name: String,
        /// The labs that there are.
        labs: Vec<String>,
    },
    /// No lab has such an object.
    #[error("no lab has {object}")]
    NoObject {
        /// What was asked for.
        object: String,
        /// The objects that there are.
        objects: Vec<String>,
    },
    /// Several labs have it.
    #[error("{object} is not one object: labs {} have it", labs.join(", "))]
    Ambiguous {
        /// What was asked for.
        object: String,
        /// The labs that have it.
        labs: Vec<String>,
    },
    /// Making a lab failed; everything was taken back, except for what is listed.
    #[error("lab {name} could not be made: {cause}")]
    Undone {
        /// The lab.
        name: String,
        /// What failed.
        #[source]
        cause: Box<Error>,
        /// What could not be taken back.
        left: Vec<String>,
    },
    /// A lab cannot have that fault.
    #[error("{fault} cannot be made in lab {name}: {why}")]
    Unfit {
        /// The lab.
        name: String,
        /// The fault.
        fault: &'static str,
        /// Why not.
        why: String,
    },
    /// Something else is broken there already.
    #[error(
        "{fault} cannot be made in lab {name}: {} has changed the same things",
        other.as_deref().unwrap_or("the fault that you are to find")
    )]
    Overlap {
        /// The lab.
        name: String,
        /// The fault.
        fault: &'static str,
        /// The one that was made before; `None` of one that nobody is to know.
        other: Option<String>,
    },
    /// An agent is at work that would heal it.
    #[error("{fault} would not last: the agent of {node} runs and heals it within a second")]
    Healed {
        /// The lab.
        name: String,
        /// The fault.
        fault: &'static str,
        /// The node.
        node: String,
    },
    /// There is nothing to take back.
    #[error("{fault} was not made in lab {name}")]
    NotBroken {
        /// The lab.
        name: String,
        /// The fault.
        fault: &'static str,
        /// Those that were.
        broken: Vec<String>,
    },
    /// A fault is hidden already.
    #[error("a fault is hidden in lab {name} already")]
    QuizRuns {
        /// The lab.
        name: String,
    },
    /// No fault is hidden.
    #[error("no fault is hidden in lab {name}")]
    QuizOver {
        /// The lab.
        name: String,
    },
    /// There is no fault to hide.
    #[error("there is no fault that can be hidden in lab {name}")]
    NoQuiz {
        /// The lab.
        name: String,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A plugin failed.
    #[error("plugin {plugin} failed to {command} {container_id}: {error}")]
    Plugin {
        /// `ADD`, `DEL` …
        command: &'static str,
        /// Its file name.
        plugin: String,
        /// For whom it was called.
        container_id: String,
        /// Its own error, or why it has none.
        error: Box<cni::exec::Failure>,
    },
    /// The plugins could not be called.
    #[error(transparent)]
    Runtime(Box<cni::runtime::Error>),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// A file of the lab could not be read or written.
    #[error("{verb} {}: {}", path.display(), words(source))]
    Io {
        /// What was tried.
        verb: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The private copy of a lab cannot be understood.
    #[error("read {}: {source}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// The text of an error without its number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

impl Error {
    pub(crate) fn io(verb: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { verb, path: path.to_owned(), source }
    }

    /// What a runtime failed with. What it could not take back goes with the lab.
    pub(crate) fn of_runtime(error: cni::runtime::Error, container_id: &str) -> Self {
        use cni::{exec::Failure, runtime::Error};
        match error {
            Error::Undone { cause, .. } => Self::of_runtime(*cause, container_id),
            Error::Interrupted => Self::Interrupted,
            Error::Plugin { failure, .. } if matches!(*failure, Failure::Interrupted { .. }) => {
                Self::Interrupted
            }
            Error::Plugin { command, plugin, failure, .. } => {
                let container_id = container_id.to_owned();
                Self::Plugin { command: command.as_str(), plugin, container_id, error: failure }
            }
            error => Self::Runtime(Box::new(error)),
        }
    }

    /// Whether what is missing is a right.
    pub fn is_denied(&self) -> bool {
        match self {
            Self::Kernel(error) => error.kind() == kernel::ErrorKind::Denied,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            Self::Undone { cause, .. } | Self::NotAdded { cause, .. } => cause.is_denied(),
            _ => false,
        }
    }

    /// What to do about it, where there is something to do.
    pub fn remedy(&self) -> Option<String> {
        if self.is_denied() {
            return Some("run it as root; `podwire demo` needs no rights".to_owned());
        }
        Some(match self {
            Self::Name(_) | Self::Pods { .. } | Self::Nodes { .. } => {
                "choose another one".to_owned()
            }
            Self::NoNodes { .. } => "`podwire lab up --nodes 2` makes one that has".to_owned(),
            Self::LastNode { name, .. } => {
                format!("`podwire lab down {name}` takes all of it down")
            }
            Self::Unfinished { name } => {
                format!("`podwire lab down {name} && podwire lab up {name}` makes it anew")
            }
            Self::Resolver { .. } => "leave --dns out, or end what is in its way".to_owned(),
            Self::Agent { .. } => "the agent's log is in the lab's directory, and `podwire lab \
                                   status` asks all agents"
                .to_owned(),
            Self::Exists { name } => format!("`podwire lab down {name}` takes it down"),
            Self::Taken { lab: Some(lab), .. } => {
                format!("take that one down (`podwire lab down {lab}`), or give this one a name")
            }
            Self::Taken { name, path, .. } => {
                let public = path.file_name().unwrap_or_default().display();
                let other = if name == crate::Name::DEFAULT { "a name" } else { "another name" };
                format!(
                    "give the lab {other} (`podwire lab up NAME`), or remove it if nobody needs \
                     it (`ip netns delete {public}`)"
                )
            }
            Self::Unrecorded { path } => {
                format!("remove them if nobody needs them (`rm -r {}`)", path.display())
            }
            Self::Scripted { script, commands } => {
                let script = net::quote(&script.display().to_string());
                let commands: Vec<&str> = commands.lines().collect();
                format!("`sh {script}` takes it down: {}", commands.join("; "))
            }
            Self::NoLab { labs, .. } if labs.is_empty() => "`podwire lab up` makes one".to_owned(),
            Self::NoLab { labs, .. } => format!("there are: {}", labs.join(", ")),
            Self::NoObject { objects, .. } if objects.is_empty() => {
                "there is no lab: `podwire lab up` makes one".to_owned()
            }
            Self::NoObject { objects, .. } => format!("there are: {}", objects.join(", ")),
            Self::Ambiguous { .. } => "say which lab with --lab".to_owned(),
            Self::Undone { cause, .. } | Self::NotAdded { cause, .. } => return cause.remedy(),
            Self::Record { path, .. } => {
                let name = path.parent().and_then(Path::file_name).unwrap_or_default().display();
                format!(
                    "if another version of podwire wrote it, use that one; `podwire lab down \
                     {name}` removes the lab's namespaces and its directory"
                )
            }
            Self::Plugin { .. } => {
                "the plugin's own words are above; `podwire lab up --dry-run -o sh` shows its call"
                    .to_owned()
            }
            Self::Unfit { .. } => {
                "`podwire lab faults` tells which labs have which faults".to_owned()
            }
            Self::Overlap { name, other: Some(other), .. } => {
                format!("`podwire lab fix {other} --lab {name}` takes that one back")
            }
            Self::Overlap { name, other: None, .. } | Self::QuizRuns { name } => format!(
                "repair it first (`podwire lab quiz --check --lab {name}` looks at it), or give up: \
                 `podwire lab quiz --give-up --lab {name}`"
            ),
            Self::Healed { name, node, .. } => format!(
                "`podwire lab agent stop {node} --lab {name}` ends the agent; --anyway makes the \
                 fault all the same, to see it healed"
            ),
            Self::NotBroken { broken, .. } if broken.is_empty() => "nothing is broken".to_owned(),
            Self::NotBroken { broken, .. } => format!("there are: {}", broken.join(", ")),
            Self::QuizOver { name } => format!("`podwire lab quiz --lab {name}` hides one"),
            Self::NoQuiz { .. } => {
                "`podwire lab up --nodes 2` makes a lab that has many".to_owned()
            }
            Self::Interrupted | Self::Runtime(_) | Self::Kernel(_) | Self::Io { .. } => {
                return None;
            }
        })
    }
}
