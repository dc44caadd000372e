//! How something is put together, told from what carries the packets first to what carries them last.

mod bridge;
mod cable;
mod files;
mod filter;
mod lab;
mod link;
mod node;
mod space;
mod tunnel;
mod ways;

use std::collections::HashSet;

use topology::{End, Machine, Node};

use crate::explanation::{Chapter, Explanation, Sentence};
use crate::reference::{self, LookupError, Reference, Subject};
use crate::rules::Rules;
use crate::view::View;
use crate::{Finding, Thing, findings, words};

pub(crate) use bridge::{FORWARDING, keeps_vlans_apart, state as port_state};
pub(crate) use files::plugins;
pub(crate) use tunnel::{WIREGUARD, far_ends, overhead, underlay};

/// Explains what a reference names on a machine.
///
/// # Errors
///
/// If it names nothing there, or several things.
pub fn explain(machine: &Machine, wanted: &Reference) -> Result<Explanation, LookupError> {
    let view = View::new(machine);
    let subject = reference::find(&view, wanted)?;
    let chapters = chapters(&view, &subject);
    let scope = scope(&view, &subject, &chapters);
    let mut found = findings::of(&view);
    found.retain(|finding| scope.has(finding));
    let mut explanation = Explanation { subject: wanted.to_string(), chapters, findings: found };
    mark(&mut explanation);
    Ok(explanation)
}

fn chapters(view: &View<'_>, subject: &Subject) -> Vec<Chapter> {
    let chapters = match subject {
        Subject::Machine => node::machine(view),
        Subject::Namespace(at) => space::chapters(view, *at),
        Subject::Node(at) => {
            let node = &view.machine.nodes[*at];
            match node.namespace.and_then(|id| view.at(id)) {
                Some(home) => node::chapters(view, home),
                None => node::without_namespace(node),
            }
        }
        Subject::Container(node, id) => {
            let node = &view.machine.nodes[*node];
            space::without_namespace(node, id)
        }
        Subject::Link(end) => link::chapters(view, *end),
        Subject::Lab(name) => lab::chapters(view, name),
    };
    chapters.into_iter().filter(|chapter| !chapter.sentences.is_empty()).collect()
}

/// Which findings belong to an answer.
struct Scope {
    /// Everything.
    whole: bool,
    /// All of these namespaces and nodes.
    all_of: HashSet<Thing>,
    /// Just these things.
    things: HashSet<Thing>,
    /// Not what is of these namespaces, unless it is of those above, too: other pods.
    except: HashSet<Thing>,
}

impl Scope {
    fn has(&self, finding: &Finding) -> bool {
        let space = |thing: &Thing| match thing {
            Thing::Link(id, _) => Thing::Namespace(*id),
            thing => thing.clone(),
        };
        let about = &finding.about;
        let is_inside = about.iter().any(|thing| self.all_of.contains(&space(thing)));
        let is_others = about.iter().any(|thing| self.except.contains(&space(thing)));
        let is_told = about.iter().any(|thing| self.things.contains(thing));
        self.whole || about.is_empty() || is_inside || (is_told && !is_others)
    }
}

fn scope(view: &View<'_>, subject: &Subject, chapters: &[Chapter]) -> Scope {
    let sentences = chapters.iter().flat_map(|chapter| &chapter.sentences);
    let told: HashSet<Thing> = sentences.flat_map(|it| it.about.iter().cloned()).collect();
    let mut scope = Scope {
        whole: false,
        all_of: HashSet::new(),
        things: HashSet::new(),
        except: HashSet::new(),
    };
    let node_and_guests = |scope: &mut Scope, home: usize| {
        let all = [home].into_iter().chain(view.guests(home));
        scope.all_of.extend(all.map(|at| view.space(at)));
        scope.all_of.extend(view.node(home).map(|node| Thing::Node(node.name.clone())));
    };
    match subject {
        Subject::Machine => scope.whole = true,
        Subject::Lab(name) => {
            for (at, namespace) in view.all() {
                if namespace.lab.as_ref() == Some(name) {
                    scope.all_of.insert(view.space(at));
                    scope.all_of.extend(namespace.node.clone().map(Thing::Node));
                }
            }
        }
        Subject::Node(at) => {
            let node = &view.machine.nodes[*at];
            scope.all_of.insert(Thing::Node(node.name.clone()));
            if let Some(home) = node.namespace.and_then(|id| view.at(id)) {
                node_and_guests(&mut scope, home);
            }
        }
        Subject::Namespace(at) => match view.home(*at) {
            Some(home) if home == *at => node_and_guests(&mut scope, home),
            home => {
                scope.all_of.insert(view.space(*at));
                scope.things = told;
                // What is wrong with the node as a whole is wrong for its pods; what is wrong with
                // other pods' devices is not told.
                scope.things.extend(home.map(|home| view.space(home)));
                let guests = home.map(|home| view.guests(home)).unwrap_or_default();
                let others = guests.into_iter().filter(|other| other != at);
                scope.except.extend(others.map(|other| view.space(other)));
            }
        },
        Subject::Container(..) | Subject::Link(_) => scope.things = told,
    }
    scope
}

/// Notes at each finding's first thing where it is told of, what is wrong with it.
fn mark(explanation: &mut Explanation) {
    for (number, finding) in explanation.findings.iter().enumerate() {
        let sentences = || {
            explanation.chapters.iter().enumerate().flat_map(|(at, chapter)| {
                (0..chapter.sentences.len()).map(move |sentence| (at, sentence))
            })
        };
        let place = finding.about.iter().find_map(|thing| {
            sentences().find(|(chapter, sentence)| {
                explanation.chapters[*chapter].sentences[*sentence].about.first() == Some(thing)
            })
        });
        if let Some((chapter, sentence)) = place {
            explanation.chapters[chapter].sentences[sentence].findings.push(number);
        }
    }
}

fn chapter(title: impl Into<String>, sentences: Vec<Sentence>) -> Chapter {
    Chapter { title: title.into(), sentences }
}

/// A node's name in a sentence.
fn node_name(node: &Node) -> String {
    words::kinded("node", &node.name)
}

/// The rules of a namespace.
fn rules<'a>(view: &View<'a>, at: usize) -> Rules<'a> {
    Rules::new(&view.namespace(at).dump.nft)
}

/// What a reference names, where that is one thing of a machine rather than all of it, of a lab, or
/// something that is not there any more.
///
/// # Errors
///
/// As [`explain`].
pub fn thing(machine: &Machine, wanted: &Reference) -> Result<Option<Thing>, LookupError> {
    let view = View::new(machine);
    Ok(match reference::find(&view, wanted)? {
        Subject::Machine | Subject::Lab(_) | Subject::Container(..) => None,
        Subject::Namespace(at) => Some(Thing::Namespace(view.namespace(at).id)),
        Subject::Link(end) => Some(Thing::Link(view.namespace(end.namespace).id, end.link)),
        Subject::Node(node) => Some(Thing::Node(machine.nodes[node].name.clone())),
    })
}

/// The part of a machine that a picture of the answer shows: the pod and its node, the node and its
/// pods, the lab.
///
/// # Errors
///
/// As [`explain`].
pub fn excerpt(machine: &Machine, wanted: &Reference) -> Result<Machine, LookupError> {
    let view = View::new(machine);
    let with_guests = |home: usize| {
        let mut spaces = view.guests(home);
        spaces.push(home);
        spaces
    };
    let shown = match reference::find(&view, wanted)? {
        Subject::Machine => match view.all().find(|(_, it)| it.role == topology::Role::Host) {
            Some((home, _)) => with_guests(home),
            None => view.all().map(|(at, _)| at).collect(),
        },
        Subject::Namespace(at) | Subject::Link(End { namespace: at, .. }) => match view.home(at) {
            // Whom it is about stands first, so that it is not folded.
            Some(home) if home != at => [vec![at], with_guests(home)].concat(),
            _ => with_guests(at),
        },
        Subject::Node(node) => {
            let home = machine.nodes[node].namespace.and_then(|id| view.at(id));
            home.map(with_guests).unwrap_or_default()
        }
        Subject::Container(..) => Vec::new(),
        Subject::Lab(name) => {
            let inside = view.all().filter(|(_, it)| it.lab.as_ref() == Some(&name));
            inside.map(|(at, _)| at).collect()
        }
    };
    let mut namespaces: Vec<usize> = Vec::new();
    for at in shown {
        if !namespaces.contains(&at) {
            namespaces.push(at);
        }
    }
    let namespaces = namespaces.into_iter().map(|at| view.namespace(at).clone());
    let (host, nodes, gaps) = (machine.host.clone(), machine.nodes.clone(), machine.gaps.clone());
    Ok(Machine { host, nodes, namespaces: namespaces.collect(), gaps })
}
