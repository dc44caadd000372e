//! What became different between two looks at a machine, in words of networks. Pure.
//!
//! Things are known again by what people call them, never by numbers that the kernel gives anew:
//! namespaces by name, devices by name, addresses and routes by what they say. What changes by
//! itself does not count: counters, ages, learned neighbours and forwarding entries, processes.

mod entries;
mod links;
mod rules;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kernel::dump::Link;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{End, Machine, Namespace, Role};

/// One thing that became different.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Whose it is: `pod default/nginx`, `host`. Names are as they are: whoever shows them has to
    /// escape them.
    pub subject: String,
    /// What happened to it.
    pub change: Kind,
    /// What it is about: `link`, `address`, `route`, ….
    pub about: String,
    /// The whole of it in one sentence without the subject, such as `eth0 lost its carrier`.
    pub text: String,
}

/// What happened to something.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// It was not there before.
    New,
    /// It is not there any more.
    Gone,
    /// It is another than it was.
    Changed,
}

/// All that became different, and what cannot be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Differences {
    /// In the order of the machine after.
    pub differences: Vec<Difference>,
    /// What one of the two looks could not see: about these nothing is said. Where there are any,
    /// no difference does not mean that nothing changed.
    pub unknown: Vec<String>,
}

/// What became different.
pub fn diff(before: &Machine, after: &Machine) -> Differences {
    let mut all = Vec::new();
    let (old, new) = (Look::of(before), Look::of(after));
    for (name, at) in &old.by_name {
        if !new.by_name.contains_key(name) {
            all.push(whole(before, &before.namespaces[*at], Kind::Gone));
        }
    }
    for (at, namespace) in after.namespaces.iter().enumerate() {
        let Some(was) = old.by_name.get(namespace.name.as_str()) else {
            all.push(whole(after, namespace, Kind::New));
            continue;
        };
        let (was, is) = (Side { look: &old, at: *was }, Side { look: &new, at });
        let mut say = Say { subject: subject(namespace), all: &mut all };
        links::compare(was, is, &mut say);
        entries::compare(was.namespace(), namespace, &mut say);
        rules::compare(was.namespace(), namespace, &mut say);
    }
    nodes(before, after, &mut all);
    let gaps = before.gaps.iter().map(|gap| format!("before: {}: {}", gap.what, gap.why));
    let gaps = gaps.chain(after.gaps.iter().map(|gap| format!("after: {}: {}", gap.what, gap.why)));
    let unknown: BTreeSet<String> = gaps.collect();
    Differences { differences: all, unknown: unknown.into_iter().collect() }
}

/// One of the two machines, with what is asked of it for each device.
struct Look<'a> {
    machine: &'a Machine,
    peers: HashMap<End, End>,
    by_name: BTreeMap<&'a str, usize>,
}

impl<'a> Look<'a> {
    fn of(machine: &'a Machine) -> Self {
        let names = machine.namespaces.iter().enumerate();
        let by_name = names.map(|(at, it)| (it.name.as_str(), at)).collect();
        Self { machine, peers: machine.peers(), by_name }
    }
}

/// A namespace in one of the two looks.
#[derive(Clone, Copy)]
struct Side<'a> {
    look: &'a Look<'a>,
    at: usize,
}

impl<'a> Side<'a> {
    fn namespace(self) -> &'a Namespace {
        &self.look.machine.namespaces[self.at]
    }

    /// The far end of a cable, with where it is.
    fn far(self, link: &Link) -> Option<(Self, &'a Link)> {
        let far = self.look.peers.get(&End { namespace: self.at, link: link.index })?;
        Some((Self { at: far.namespace, ..self }, self.look.machine.link(*far)?))
    }
}

/// What a namespace is called in a sentence.
pub(crate) fn subject(namespace: &Namespace) -> String {
    let kind = match namespace.role {
        Role::Host => return namespace.name.clone(),
        Role::Node => "node",
        Role::Pod => "pod",
        Role::Underlay | Role::Outside | Role::Other => "namespace",
    };
    format!("{kind} {}", namespace.name)
}

/// A namespace that came or went as a whole, with its addresses, by which people know pods.
fn whole(machine: &Machine, namespace: &Namespace, change: Kind) -> Difference {
    let addresses: Vec<String> = namespace
        .links()
        .filter(|link| link.name != "lo")
        .flat_map(|link| namespace.addresses(link))
        .map(|it| it.address.addr().to_string())
        .collect();
    let on = namespace.node.as_ref().filter(|_| machine.nodes.len() > 1);
    let on = on.map(|node| format!(" on {node}")).unwrap_or_default();
    let with = match &addresses[..] {
        [] => String::new(),
        addresses => format!(" ({})", addresses.join(", ")),
    };
    let verb = if change == Kind::New { "new" } else { "gone" };
    let text = format!("is {verb}{on}{with}");
    Difference { subject: subject(namespace), change, about: "namespace".to_owned(), text }
}

/// What the files of nodes say.
fn nodes(before: &Machine, after: &Machine, all: &mut Vec<Difference>) {
    for node in &after.nodes {
        let Some(was) = before.nodes.iter().find(|it| it.name == node.name) else { continue };
        let mut say = Say { subject: format!("node {}", node.name), all: &mut *all };
        let reserved = |node: &crate::Node| -> BTreeSet<String> {
            let of = |it: &crate::Reservations| {
                let network = it.network.clone();
                let text = move |entry: &crate::Reservation| {
                    format!("{} of {network} for {}", entry.address, entry.container_id)
                };
                it.entries.iter().map(text).collect::<Vec<_>>()
            };
            node.reservations.iter().flat_map(of).collect()
        };
        say.sets("reservation", &reserved(was), &reserved(node));
        let attached = |node: &crate::Node| -> BTreeSet<String> {
            let text = |it: &crate::Attachment| {
                let whose =
                    it.pod.as_ref().map_or_else(|| it.container_id.clone(), ToString::to_string);
                format!("of {whose} to {} by {}", it.network, it.ifname)
            };
            node.attachments.iter().map(text).collect()
        };
        say.sets("attachment", &attached(was), &attached(node));
        let file = |it: &crate::Configuration| (it.file.display().to_string(), it.content.clone());
        let old: BTreeMap<_, _> = was.configurations.iter().map(file).collect();
        let new: BTreeMap<_, _> = node.configurations.iter().map(file).collect();
        say.sets(
            "network configuration",
            &old.keys().cloned().collect(),
            &new.keys().cloned().collect(),
        );
        for (path, content) in &new {
            if old.get(path).is_some_and(|was| was != content) {
                say.changed(
                    "network configuration",
                    format!("network configuration {path} says something else"),
                );
            }
        }
    }
}

/// So many of a kind are told one by one; more are counted.
const FEW: usize = 4;

/// Collects sentences about one subject.
struct Say<'a> {
    subject: String,
    all: &'a mut Vec<Difference>,
}

impl Say<'_> {
    fn push(&mut self, change: Kind, about: &str, text: String) {
        let (subject, about) = (self.subject.clone(), about.to_owned());
        self.all.push(Difference { subject, change, about, text });
    }

    fn changed(&mut self, about: &str, text: String) {
        self.push(Kind::Changed, about, text);
    }

    /// What is in one set only, one by one or, where there are many, by number.
    fn sets(&mut self, about: &str, before: &BTreeSet<String>, after: &BTreeSet<String>) {
        for (change, verb, only) in [
            (Kind::Gone, "is gone", before.difference(after).collect::<Vec<_>>()),
            (Kind::New, "is new", after.difference(before).collect()),
        ] {
            if only.len() <= FEW {
                for one in only {
                    self.push(change, about, format!("{about} {one} {verb}"));
                }
            } else {
                let verb = verb.replace("is ", "are ");
                let (count, plural) = (only.len(), plural(about));
                self.push(change, about, format!("{count} {plural} {verb}, the first {}", only[0]));
            }
        }
    }
}

fn plural(word: &str) -> String {
    match word.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if word.ends_with('s') => format!("{word}es"),
        None => format!("{word}s"),
    }
}
