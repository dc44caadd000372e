//! What rules do to packets: whose addresses they change, and what they drop.

use std::collections::HashMap;
use std::net::IpAddr;

use net::nft::Hook;
use topology::{Origin, origin};

use crate::explanation::Sentence;
use crate::rules::{Action, Effect, Level, Packet, Port, Rules};
use crate::view::View;
use crate::words;

/// How many effects are told one by one.
const MOST_EFFECTS: usize = 10;

/// What a node's rules do to what one pod sends and receives, and the pod's own rules.
pub(super) fn of_pod(view: &View<'_>, at: usize, home: usize) -> Vec<Sentence> {
    let addresses: Vec<IpAddr> =
        view.own(at).map(|it| it.address.addr()).filter(|it| !it.is_loopback()).collect();
    let rules = super::rules(view, home);
    let mut told = Told::default();
    for address in &addresses {
        let sent = Packet { source: Some(*address), local: Some(false), ..Packet::default() };
        let received =
            Packet { destination: Some(*address), local: Some(false), ..Packet::default() };
        let on = [Hook::Prerouting, Hook::Forward, Hook::Postrouting];
        for effect in rules.effects(&on, &sent) {
            if names(&effect, *address) || is_block(&effect) {
                told.add(&rules, &effect);
            }
        }
        for effect in rules.effects(&[Hook::Forward], &received) {
            if is_block(&effect) {
                told.add(&rules, &effect);
            }
        }
        if let Some(far) = view.far_of(at, *address).filter(|far| far.namespace == home) {
            let name = view.name(home, far.link);
            let port = Port { name: &name, is_bridged: view.master(far).is_some() };
            frames(&rules, port, [sent, received], &mut told);
        }
    }
    for effect in rules.effects(&[Hook::Prerouting], &Packet::default()) {
        if let Action::Dnat(to) = &effect.action
            && addresses.iter().any(|address| is_of(to, *address))
        {
            told.add(&rules, &effect);
        }
    }
    let mut sentences = told.sentences(view, home);
    let is_all = unread(view, home).is_none() && legacy(view, home).is_none();
    if sentences.is_empty() && !addresses.is_empty() && is_all {
        let text = format!(
            "No rule of {} changes the addresses of what it sends, and none drops it: others see it \
             by its own address.",
            view.called(home)
        );
        let show = view.command(home, "nft list ruleset");
        sentences.push(Sentence::new(text, vec![view.space(home)]).shown_by(show));
    }
    let own = super::rules(view, at);
    let mut told = Told::default();
    for effect in own.all_effects() {
        told.add(&own, &effect);
    }
    sentences.extend(told.sentences(view, at));
    sentences.extend(unread(view, home));
    sentences.extend(legacy(view, home));
    sentences
}

/// What is dropped of a pod's frames before they are routed, after that, and where they are not.
fn frames<'a>(
    rules: &Rules<'a>,
    port: Port<'_>,
    [sent, received]: [Packet<'_>; 2],
    told: &mut Told,
) {
    const FORWARD: &[Hook] = &[Hook::Forward];
    let arp = Packet { arp: true, ..Packet::default() };
    let mut seen = [sent, arp].map(|it| port.sent(it)).concat();
    seen.extend([received, arp].map(|it| port.received(it)).concat());
    seen.push((&[Hook::Input, Hook::Output], arp));
    if port.is_bridged {
        let (level, name) = (Level::Bridged, Some(port.name));
        seen.extend([sent, arp].map(|it| (FORWARD, Packet { level, input: name, ..it })));
        seen.extend([received, arp].map(|it| (FORWARD, Packet { level, output: name, ..it })));
    }
    for (hooks, packet) in seen {
        for effect in rules.effects(hooks, &packet).iter().filter(|it| is_block(it)) {
            told.add(rules, effect);
        }
    }
}

/// What the rules of a namespace do.
pub(super) fn of_node(view: &View<'_>, at: usize) -> Vec<Sentence> {
    let rules = super::rules(view, at);
    let mut told = Told::default();
    for effect in rules.all_effects() {
        told.add(&rules, &effect);
    }
    let mut sentences = told.sentences(view, at);
    sentences.extend(unread(view, at));
    sentences.extend(legacy(view, at));
    sentences
}

/// Whether an effect is about this address rather than about every packet of the node.
fn names(effect: &Effect<'_>, address: IpAddr) -> bool {
    let changes = matches!(effect.action, Action::Masquerade | Action::Snat(_) | Action::Dnat(_));
    changes && (effect.sure || effect.when.iter().any(|it| it.is_about_source(address)))
}

fn is_block(effect: &Effect<'_>) -> bool {
    matches!(effect.action, Action::Drop | Action::Reject)
}

/// Whether what a DNAT sends packets to is this address, on whatever port.
pub(crate) fn is_of(to: &str, address: IpAddr) -> bool {
    let socket = to.parse::<std::net::SocketAddr>().map(|socket| socket.ip());
    socket.or_else(|_| to.parse()) == Ok(address)
}

/// Sentences, each once.
#[derive(Default)]
struct Told {
    sentences: Vec<(String, String)>,
    /// Who wrote the chains that were told of: by table and name.
    makers: HashMap<(String, String), Origin>,
}

impl Told {
    fn add<'a>(&mut self, rules: &Rules<'a>, effect: &Effect<'a>) {
        if effect.action == Action::Accept {
            return;
        }
        let mut text = effect.sentence(rules);
        // Of a chain that does many things, all rules are looked at once.
        let key = (effect.chain.table.to_string(), effect.chain.name.clone());
        let maker = *self.makers.entry(key).or_insert_with(|| origin::of_chain(effect.chain));
        text += &words::made_by(maker, "Written by");
        if let Some(comment) = &effect.comment {
            text += &format!(" The rule's own comment: {comment}");
        }
        let pair = (text, effect.command());
        if !self.sentences.contains(&pair) && self.sentences.len() < MOST_KEPT {
            self.sentences.push(pair);
        }
    }

    fn sentences(self, view: &View<'_>, at: usize) -> Vec<Sentence> {
        let total = self.sentences.len();
        let about = || vec![view.space(at)];
        let sentence = |(text, command): (String, String)| {
            Sentence::new(text, about()).shown_by(view.command(at, &command))
        };
        let mut sentences: Vec<Sentence> =
            self.sentences.into_iter().take(MOST_EFFECTS).map(sentence).collect();
        if total > MOST_EFFECTS {
            let more = match total {
                MOST_KEPT => "Many more rules do such things.".to_owned(),
                _ => format!("{} more do such things.", words::count(total - MOST_EFFECTS, "rule")),
            };
            let show = view.command(at, "nft list ruleset");
            sentences.push(Sentence::new(more, about()).shown_by(show));
        }
        sentences
    }
}

const MOST_KEPT: usize = 500;

/// Rules that are there, and that podwire does not read.
fn unread(view: &View<'_>, at: usize) -> Option<Sentence> {
    let mut tables: Vec<String> = view
        .namespace(at)
        .dump
        .opaque
        .iter()
        .filter(|it| matches!(it.kind.as_str(), "table" | "chain" | "rule"))
        .map(|it| format!("{} {}", it.family, it.table))
        .collect();
    tables.sort();
    tables.dedup();
    let text = format!(
        "There are rules that podwire does not read, in {} {}: what they do cannot be told here.",
        if tables.len() == 1 { "nft table" } else { "the nft tables" },
        words::some(&tables, 4)
    );
    let show = view.command(at, "nft list ruleset");
    (!tables.is_empty()).then(|| Sentence::new(text, vec![view.space(at)]).shown_by(show))
}

fn legacy(view: &View<'_>, at: usize) -> Option<Sentence> {
    let tables = &view.namespace(at).legacy_tables;
    let text = format!(
        "Beside these there are rules of iptables-legacy (tables {}), which nftables does not show: \
         what they do is not told here.",
        words::list(tables)
    );
    let show = view.command(at, "iptables-legacy-save");
    (!tables.is_empty()).then(|| Sentence::new(text, vec![view.space(at)]).shown_by(show))
}
