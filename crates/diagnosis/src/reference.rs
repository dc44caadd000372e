//! What a question is about, as a person names it, and what that is on a machine.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use topology::{End, Machine, PodName, Role};

use crate::view::{self, View};
use crate::words;

/// What a person asks about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reference {
    /// The machine itself.
    #[default]
    Machine,
    /// `pod/NAME` or `pod/NAMESPACE/NAME`.
    Pod(Option<String>, String),
    /// `node/NAME`
    Node(String),
    /// `netns/PATH`, or the name that `ip netns` or podwire calls it by.
    Netns(PathBuf),
    /// `pid/N`
    Process(u32),
    /// `container/ID`, or the beginning of one.
    Container(String),
    /// `link/NAME`, or `link/NAMESPACE:NAME`.
    Link(Option<String>, String),
    /// `lab/NAME`
    Lab(String),
}

/// A text that names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names nothing: write pod/NAME, pod/NAMESPACE/NAME, node/NAME, netns/PATH, pid/N, \
     container/ID, link/NAME, link/NAMESPACE:NAME or lab/NAME"
)]
pub struct ReferenceError(String);

/// Why it is not known what is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupError {
    /// There is none.
    None {
        /// What was asked for.
        wanted: Reference,
        /// What may have been meant.
        near: Vec<String>,
    },
    /// There are several.
    Several {
        /// What was asked for.
        wanted: Reference,
        /// What each of them is called.
        candidates: Vec<String>,
    },
}

/// What there is by a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Machine,
    Namespace(usize),
    Node(usize),
    /// A container whose namespace is gone, or not in sight: node and its attachments' ID.
    Container(usize, String),
    Link(End),
    Lab(String),
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let failed = || ReferenceError(text.to_owned());
        let (kind, name) = text.split_once('/').ok_or_else(failed)?;
        if name.is_empty() {
            return Err(failed());
        }
        Ok(match kind {
            "pod" => match name.split_once('/') {
                Some((namespace, pod)) if !namespace.is_empty() && !pod.is_empty() => {
                    Self::Pod(Some(namespace.to_owned()), pod.to_owned())
                }
                Some(_) => return Err(failed()),
                None => Self::Pod(None, name.to_owned()),
            },
            "node" => Self::Node(name.to_owned()),
            "netns" => Self::Netns(name.into()),
            "pid" => Self::Process(name.parse().map_err(|_| failed())?),
            "container" => Self::Container(name.to_owned()),
            // A device's name has no colon.
            "link" => match name.rsplit_once(':') {
                Some((at, link)) if !at.is_empty() && !link.is_empty() => {
                    Self::Link(Some(at.to_owned()), link.to_owned())
                }
                Some(_) => return Err(failed()),
                None => Self::Link(None, name.to_owned()),
            },
            "lab" => Self::Lab(name.to_owned()),
            _ => return Err(failed()),
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine => f.write_str("this machine"),
            Self::Pod(None, name) => write!(f, "pod/{name}"),
            Self::Pod(Some(namespace), name) => write!(f, "pod/{namespace}/{name}"),
            Self::Node(name) => write!(f, "node/{name}"),
            Self::Netns(path) => write!(f, "netns/{}", path.display()),
            Self::Process(pid) => write!(f, "pid/{pid}"),
            Self::Container(id) => write!(f, "container/{id}"),
            Self::Link(None, name) => write!(f, "link/{name}"),
            Self::Link(Some(at), name) => write!(f, "link/{at}:{name}"),
            Self::Lab(name) => write!(f, "lab/{name}"),
        }
    }
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None { wanted, near } if near.is_empty() => write!(f, "there is no {wanted}"),
            Self::None { wanted, near } => {
                write!(f, "there is no {wanted}; there is {}", words::some(near, MOST_NAMED))
            }
            Self::Several { wanted, candidates } => {
                let names = words::some(candidates, MOST_NAMED);
                write!(f, "{wanted} is not clear: it may be {names}")
            }
        }
    }
}

impl std::error::Error for LookupError {}

/// How many candidates are named.
const MOST_NAMED: usize = 10;

/// What there is by that reference: one thing, or why not.
pub(crate) fn find(view: &View<'_>, wanted: &Reference) -> Result<Subject, LookupError> {
    let mut found = match wanted {
        Reference::Machine => return Ok(Subject::Machine),
        Reference::Pod(namespace, name) => pods(view, namespace.as_deref(), name),
        Reference::Node(name) => nodes(view, name),
        Reference::Netns(path) => {
            let named = path.to_string_lossy();
            let fits = |at: &usize| {
                let namespace = view.namespace(*at);
                let is_named = net::Space::At(path.clone()) == net::Space::named(&namespace.name);
                namespace.paths.contains(path) || namespace.name == named || is_named
            };
            spaces(view, fits)
        }
        Reference::Process(pid) => {
            spaces(view, |at| view.namespace(*at).processes.iter().any(|it| it.pid == *pid))
        }
        Reference::Container(id) => containers(view, id),
        Reference::Link(at, name) => links(view, at.as_deref(), name),
        Reference::Lab(name) => {
            let labs = view::labs(view.machine).into_iter().filter(|lab| lab == name);
            labs.map(|lab| (format!("lab/{lab}"), Subject::Lab(lab.to_owned()))).collect()
        }
    };
    match found.len() {
        0 => Err(LookupError::None { wanted: wanted.clone(), near: near(view, wanted) }),
        1 => Ok(found.remove(0).1),
        _ => {
            let candidates = found.into_iter().map(|(name, _)| name).collect();
            Err(LookupError::Several { wanted: wanted.clone(), candidates })
        }
    }
}

/// What fits, with the reference that is precise.
type Found = Vec<(String, Subject)>;

fn spaces(view: &View<'_>, fits: impl Fn(&usize) -> bool) -> Found {
    let all = (0..view.machine.namespaces.len()).filter(fits);
    all.map(|at| (netns(view, at), Subject::Namespace(at))).collect()
}

/// How a namespace is asked for so that it is clear which is meant.
fn netns(view: &View<'_>, at: usize) -> String {
    format!("netns/{}", view.namespace(at).name)
}

fn pods(view: &View<'_>, namespace: Option<&str>, name: &str) -> Found {
    let mut found = Found::new();
    for (at, space) in view.all() {
        let told = view.pod_names(at);
        let is_told = told
            .iter()
            .any(|pod| pod.name == name && namespace.is_none_or(|wanted| pod.namespace == wanted));
        let is_named = namespace.is_none() && view.is_pod(at) && is_called(view, at, name);
        if is_told || is_named {
            let precise = match told.first() {
                Some(pod) if !pod.namespace.is_empty() => {
                    format!("pod/{}/{}", pod.namespace, pod.name)
                }
                _ => format!("pod/{}", space.name),
            };
            found.push((precise, Subject::Namespace(at)));
        }
    }
    // One that nothing is left of but files.
    for (node, it) in view.machine.nodes.iter().enumerate() {
        for attachment in &it.attachments {
            let is_told = attachment.pod.as_ref().is_some_and(|pod| {
                pod.name == name && namespace.is_none_or(|wanted| pod.namespace == wanted)
            });
            let is_gone = attachment.namespace.and_then(|id| view.at(id)).is_none();
            let subject = Subject::Container(node, attachment.container_id.clone());
            if is_told && is_gone && !found.iter().any(|(_, known)| *known == subject) {
                found.push((format!("container/{}", attachment.container_id), subject));
            }
        }
    }
    // The same name twice says nothing; the namespace does.
    let names: Vec<String> = found.iter().map(|(name, _)| name.clone()).collect();
    for (precise, subject) in &mut found {
        if names.iter().filter(|it| *it == precise).count() > 1
            && let Subject::Namespace(at) = subject
        {
            *precise = netns(view, *at);
        }
    }
    found
}

/// A namespace's own name; in a lab also without the lab's.
fn is_called(view: &View<'_>, at: usize, name: &str) -> bool {
    let namespace = view.namespace(at);
    let short = namespace
        .lab
        .as_ref()
        .and_then(|lab| namespace.name.strip_prefix(lab.as_str())?.strip_prefix('-'));
    namespace.name == name || short == Some(name)
}

fn nodes(view: &View<'_>, name: &str) -> Found {
    let nodes = view.machine.nodes.iter().enumerate();
    let fits = nodes.filter(|(_, node)| {
        let short = node
            .lab
            .as_ref()
            .and_then(|lab| node.name.strip_prefix(lab.as_str())?.strip_prefix('-'));
        node.name == name || short == Some(name)
    });
    let mut found: Found =
        fits.map(|(at, node)| (format!("node/{}", node.name), Subject::Node(at))).collect();
    if found.is_empty() {
        let is_node = |at: &usize| {
            matches!(view.namespace(*at).role, Role::Node | Role::Host)
                && is_called(view, *at, name)
        };
        found = spaces(view, is_node);
    }
    found
}

fn containers(view: &View<'_>, id: &str) -> Found {
    let mut found = Found::new();
    for (node, it) in view.machine.nodes.iter().enumerate() {
        for attachment in &it.attachments {
            if !attachment.container_id.starts_with(id) {
                continue;
            }
            let at = attachment.namespace.and_then(|id| view.at(id));
            let subject = match at {
                Some(at) => Subject::Namespace(at),
                None => Subject::Container(node, attachment.container_id.clone()),
            };
            let name = format!("container/{}", attachment.container_id);
            if attachment.container_id == id {
                return vec![(name, subject)];
            }
            if !found.iter().any(|(_, known)| *known == subject) {
                found.push((name, subject));
            }
        }
    }
    for (at, namespace) in view.all() {
        for container in namespace.containers.iter().filter(|it| it.id.starts_with(id)) {
            let name = format!("container/{}", container.id);
            let subject = Subject::Namespace(at);
            if container.id == id {
                return vec![(name, subject)];
            }
            if !found.iter().any(|(_, known)| *known == subject) {
                found.push((name, subject));
            }
        }
    }
    if found.is_empty() {
        found = spaces(view, |at| is_container_called(view, *at, id));
    }
    if found.is_empty() && id.len() >= SHORTEST_ID {
        // Without a runtime's notes, a control group still has the container's name in it.
        found = spaces(view, |at| {
            view.namespace(*at).processes.iter().any(|process| {
                let parts = process.cgroup.split(['/', '-', ':', '.']);
                parts.into_iter().any(|part| part.starts_with(id))
            })
        });
    }
    found
}

/// Whether a container in a namespace has this name: podman calls one without a pod to plugins as if
/// it were a pod without a namespace of Kubernetes.
fn is_container_called(view: &View<'_>, at: usize, name: &str) -> bool {
    let is_it = |pod: &PodName| pod.namespace.is_empty() && pod.name == name;
    let namespace = view.namespace(at);
    let mut attachments = view.machine.nodes.iter().flat_map(|node| &node.attachments);
    namespace
        .containers
        .iter()
        .any(|it| it.name.as_deref() == Some(name) || it.pod.as_ref().is_some_and(is_it))
        || attachments
            .any(|it| it.namespace == Some(namespace.id) && it.pod.as_ref().is_some_and(is_it))
}

/// Shorter than this, the beginning of an ID may be anything in a control group's path.
const SHORTEST_ID: usize = 8;

fn links(view: &View<'_>, at: Option<&str>, name: &str) -> Found {
    let mut found = Found::new();
    for (place, namespace) in view.all() {
        let is_there = at.is_none_or(|at| {
            is_called(view, place, at)
                || namespace.paths.iter().any(|path| path.as_os_str() == at)
                || view.pod_name(place) == at
        });
        if is_there {
            let ends = view.ends(place).filter(|(_, link)| link.name == name);
            let precise = format!("link/{}:{name}", namespace.name);
            found.extend(ends.map(|(end, _)| (precise.clone(), Subject::Link(end))));
        }
    }
    found
}

/// What is of the same kind and looks most like what was asked for.
fn near(view: &View<'_>, wanted: &Reference) -> Vec<String> {
    let all = view.all();
    let (asked, names): (String, Vec<String>) = match wanted {
        Reference::Machine => return Vec::new(),
        Reference::Pod(_, name) => {
            let pods = all.filter(|(at, _)| view.is_pod(*at));
            (name.clone(), pods.map(|(at, _)| format!("pod/{}", view.pod_name(at))).collect())
        }
        Reference::Node(name) => {
            let nodes = view.machine.nodes.iter();
            (name.clone(), nodes.map(|node| format!("node/{}", node.name)).collect())
        }
        Reference::Netns(path) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, all.map(|(at, _)| netns(view, at)).collect())
        }
        Reference::Process(_) => return Vec::new(),
        Reference::Container(id) => {
            let nodes = view.machine.nodes.iter().flat_map(|node| &node.attachments);
            let ids = nodes.map(|attachment| format!("container/{}", attachment.container_id));
            (id.clone(), ids.collect())
        }
        Reference::Link(_, name) => {
            let ends = all.flat_map(|(at, namespace)| {
                view.ends(at).map(|(_, link)| format!("link/{}:{}", namespace.name, link.name))
            });
            (name.clone(), ends.filter(|name| !name.ends_with(":lo")).collect())
        }
        Reference::Lab(name) => {
            let labs = view::labs(view.machine).into_iter();
            (name.clone(), labs.map(|lab| format!("lab/{lab}")).collect())
        }
    };
    let mut names = names;
    names.sort();
    names.dedup();
    let short = |name: &str| name.rsplit([':', '/']).next().unwrap_or_default().to_owned();
    let mut scored: Vec<(usize, String)> =
        names.into_iter().map(|name| (distance(&asked, &short(&name)), name)).collect();
    scored.sort();
    scored.into_iter().take(MOST_NEAR).map(|(_, name)| name).collect()
}

const MOST_NEAR: usize = 3;

/// How many characters have to be changed, put in or left out (Levenshtein); names are short.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(LONGEST_NAME).collect();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, char) in one.chars().take(LONGEST_NAME).enumerate() {
        let mut line = vec![row + 1];
        for (column, against) in other.iter().enumerate() {
            let changed = last[column] + usize::from(char != *against);
            line.push(changed.min(last[column + 1] + 1).min(line[column] + 1));
        }
        last = line;
    }
    last.last().copied().unwrap_or_default()
}

const LONGEST_NAME: usize = 64;

/// Every name that [`Reference`] can be written for on this machine: for completion.
pub fn names(machine: &Machine) -> Vec<String> {
    let view = View::new(machine);
    let mut names: Vec<String> =
        machine.nodes.iter().map(|node| format!("node/{}", node.name)).collect();
    names.extend(view::labs(machine).into_iter().map(|lab| format!("lab/{lab}")));
    let pods = view.all().filter(|(at, _)| view.is_pod(*at));
    names.extend(pods.map(|(at, _)| format!("pod/{}", view.pod_name(at))));
    names
}
