//! What a ruleset does to a packet, of which only some things may be known.
//!
//! Rules of any table and writer are followed from the hooks of one level ([`Level`]) through jumps,
//! gotos and maps, for the first packet of a connection; those of dormant tables see none. What is not
//! understood may match or not: it makes an answer unsure, never wrong.

mod condition;
mod leaving;
mod packet;
mod xtables;

use std::cell::Cell;
use std::collections::HashMap;
use std::net::IpAddr;

use net::nft::{
    self, Base, Chain, ChainKind, Element, Family, Field, Hook, Key, Mapped, NatKind, NatTarget,
    Object, Policy, Rule, Statement, TableId, Value, Verdict,
};

use crate::words;

pub(crate) use condition::Condition;
pub use leaving::leaving;
pub(crate) use packet::{Level, Packet, Port};

/// Whether something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Truth {
    No,
    Maybe,
    Yes,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Masquerade,
    Snat(String),
    Dnat(String),
    Redirect(Option<u16>),
    Accept,
    Drop,
    Reject,
    NoTrack,
}

/// Something that rules do to packets, and to which.
#[derive(Clone, Debug)]
pub(crate) struct Effect<'a> {
    pub(crate) chain: &'a Chain,
    pub(crate) base: &'a Base,
    pub(crate) when: Vec<Condition<'a>>,
    /// What is spared by rules before.
    pub(crate) unless: Vec<Vec<Condition<'a>>>,
    pub(crate) action: Action,
    /// Whether it surely happens to the packet that was asked about.
    pub(crate) sure: bool,
    /// What somebody noted beside the rule.
    pub(crate) comment: Option<String>,
    /// It is not a rule's, but what a chain does with all that no rule decides about.
    pub(crate) is_policy: bool,
}

/// A ruleset, found by name.
pub(crate) struct Rules<'a> {
    chains: Vec<&'a Chain>,
    bases: Vec<(&'a Chain, &'a Base)>,
    by_name: HashMap<(&'a TableId, &'a str), &'a Chain>,
    elements: HashMap<(&'a TableId, &'a str), Vec<&'a Element>>,
    /// Those of them that are one address, and the others.
    points: HashMap<(&'a TableId, &'a str, IpAddr), &'a Element>,
    spans: HashMap<(&'a TableId, &'a str), Vec<&'a Element>>,
    /// How many rules may still be looked at, for all questions together.
    budget: Cell<usize>,
}

/// How many rules are looked at for one question, how deep jumps are followed, and how much is told.
const MOST_STEPS: usize = 200_000;
const MOST_STEPS_OF_ALL: usize = 2_000_000;
const DEEPEST: usize = 16;
const MOST_EFFECTS: usize = 2_000;
const MOST_SPARED: usize = 12;

impl<'a> Rules<'a> {
    pub(crate) fn new(ruleset: &'a [Object]) -> Self {
        let budget = Cell::new(MOST_STEPS_OF_ALL);
        let mut rules = Self {
            chains: vec![],
            bases: vec![],
            by_name: HashMap::new(),
            elements: HashMap::new(),
            points: HashMap::new(),
            spans: HashMap::new(),
            budget,
        };
        for object in nft::acting(ruleset) {
            match object {
                Object::Chain(chain) => {
                    rules.chains.push(chain);
                    rules.bases.extend(chain.base.as_ref().map(|base| (chain, base)));
                    rules.by_name.insert((&chain.table, &chain.name), chain);
                }
                Object::Element(element) => {
                    let set = (&element.table, element.set.as_str());
                    rules.elements.entry(set).or_default().push(element);
                    match &element.key {
                        Key::Point(parts) if let [Value::Address(address)] = parts[..] => {
                            rules.points.insert((set.0, set.1, address), element);
                        }
                        _ => rules.spans.entry(set).or_default().push(element),
                    }
                }
                Object::Table(_) | Object::Set(_) => {}
            }
        }
        rules
    }

    pub(crate) fn elements(&self, table: &'a TableId, set: &'a str) -> &[&'a Element] {
        self.elements.get(&(table, set)).map_or(&[], Vec::as_slice)
    }

    /// The elements of a set that a packet may have the key of.
    fn candidates(
        &self,
        table: &'a TableId,
        set: &'a str,
        key: &[Field],
        packet: &Packet<'_>,
    ) -> Vec<&'a Element> {
        let address = match key {
            [Field::IpSource | Field::Ip6Source] => packet.source,
            [Field::IpDestination | Field::Ip6Destination] => packet.destination,
            _ => None,
        };
        let found = match address {
            Some(address) => {
                let point = self.points.get(&(table, set, address));
                let spans = self.spans.get(&(table, set)).into_iter().flatten();
                point.into_iter().chain(spans).copied().collect()
            }
            None => self.elements(table, set).to_vec(),
        };
        self.spend(found.len());
        found
    }

    /// Whether so much has been asked that no answer is sure any more.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.budget.get() == 0
    }

    fn spend(&self, steps: usize) {
        self.budget.set(self.budget.get().saturating_sub(steps));
    }

    /// Whether there is a chain whose name begins so.
    pub(crate) fn has_chain(&self, start: &str) -> bool {
        self.chains.iter().any(|chain| chain.name.starts_with(start))
    }

    /// All that the rules may do to anything.
    pub(crate) fn all_effects(&self) -> Vec<Effect<'a>> {
        const ROUTED: [Hook; 5] =
            [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];
        let packet = Packet::default();
        let levels: [(&[Hook], Packet<'_>); 4] = [
            (&ROUTED, packet),
            (&ROUTED, Packet { level: Level::Bridged, ..packet }),
            (&[Hook::Ingress, Hook::Egress], Packet { level: Level::Device(None), ..packet }),
            (&[Hook::Input, Hook::Output], Packet { arp: true, ..packet }),
        ];
        levels.iter().flat_map(|(hooks, packet)| self.effects(hooks, packet)).collect()
    }

    /// Whether there are rules for other packets than routed ones.
    pub(crate) fn see_frames(&self) -> bool {
        self.bases.iter().any(|(chain, base)| {
            matches!(chain.table.family, Family::Bridge | Family::Netdev | Family::Arp)
                || matches!(base.hook, Hook::Ingress | Hook::Egress)
        })
    }

    /// All that the rules at some hooks may do to a packet, in their order.
    pub(crate) fn effects(&self, hooks: &[Hook], packet: &Packet<'_>) -> Vec<Effect<'a>> {
        self.spend(1);
        let mut bases = self.bases.clone();
        bases.retain(|(chain, base)| hooks.contains(&base.hook) && packet.is_seen_by(chain, base));
        bases.sort_by_key(|(_, base)| {
            (hooks.iter().position(|hook| *hook == base.hook), base.priority)
        });
        let mut effects = Vec::new();
        for (chain, base) in bases {
            let mut walk = Walk {
                rules: self,
                base,
                packet,
                steps: 0,
                path: Vec::new(),
                spared: Vec::new(),
                may_have_ended: packet.may_be_unseen_by(base),
                effects: Vec::new(),
            };
            let ended = walk.chain(chain, true, 0);
            if !ended && base.policy == Policy::Drop {
                let sure = !walk.may_have_ended && !walk.is_cut();
                walk.path.clear();
                walk.emit(chain, None, Action::Drop, sure, true);
            }
            effects.append(&mut walk.effects);
        }
        effects
    }

    /// Whether a packet is surely dropped at some hooks, and by what.
    pub(crate) fn drop(&self, hooks: &[Hook], packet: &Packet<'_>) -> Option<Effect<'a>> {
        let mut effects = self.effects(hooks, packet).into_iter();
        effects.find(|it| it.sure && matches!(it.action, Action::Drop | Action::Reject))
    }

    /// Whether a packet surely leaves with another source address.
    pub(crate) fn masquerade(&self, packet: &Packet<'_>) -> Option<Effect<'a>> {
        let mut effects = self.effects(&[Hook::Postrouting], packet).into_iter();
        effects.find(|it| it.sure && matches!(it.action, Action::Masquerade | Action::Snat(_)))
    }
}

/// One pass through the rules of a base chain.
struct Walk<'w, 'a> {
    rules: &'w Rules<'a>,
    base: &'a Base,
    packet: &'w Packet<'w>,
    steps: usize,
    /// What led here.
    path: Vec<Condition<'a>>,
    /// What was spared on the way.
    spared: Vec<Vec<Condition<'a>>>,
    /// Somebody may have decided already.
    may_have_ended: bool,
    effects: Vec<Effect<'a>>,
}

/// How a rule leaves its chain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It does not.
    No,
    /// The chain that jumped here goes on.
    Chain,
    /// A verdict has fallen.
    Hook,
}

impl<'a> Walk<'_, 'a> {
    fn is_cut(&self) -> bool {
        self.steps > MOST_STEPS || self.effects.len() >= MOST_EFFECTS || self.rules.is_exhausted()
    }

    /// Follows a chain that is surely entered or not; whether it surely ends in a verdict.
    fn chain(&mut self, chain: &'a Chain, mut sure: bool, depth: usize) -> bool {
        let before = self.spared.len();
        let mut ended = false;
        for rule in &chain.rules {
            self.steps += 1;
            self.rules.spend(1);
            if self.is_cut() || depth > DEEPEST {
                self.may_have_ended = true;
                break;
            }
            let path = self.path.len();
            let (left, is_sure) = self.rule(chain, rule, sure, depth);
            if left != Left::No {
                let when = self.path.split_off(path);
                if is_sure {
                    ended = left == Left::Hook;
                    break;
                }
                self.spared.push(when);
                sure = false;
            }
            self.path.truncate(path);
        }
        self.spared.truncate(before);
        ended
    }

    /// Follows a rule; what it tested is left on the path. Says how it leaves the chain, and whether
    /// it surely does.
    fn rule(&mut self, chain: &'a Chain, rule: &'a Rule, sure: bool, depth: usize) -> (Left, bool) {
        let mut sure = sure && !self.may_have_ended;
        let mut left_by_map = false;
        for statement in &rule.statements {
            if let Some(condition) = Condition::of(statement, &chain.table) {
                match condition.holds(self.packet, self.rules) {
                    Truth::No => return (Left::No, true),
                    Truth::Maybe => sure = false,
                    Truth::Yes => {}
                }
                self.path.push(condition);
                continue;
            }
            match statement {
                Statement::VerdictMap { key, map } => {
                    let mut targets: Vec<(&'a Verdict, Vec<&'a Key>, Truth)> = Vec::new();
                    for element in self.rules.candidates(&chain.table, map, key, self.packet) {
                        let Some(Mapped::Verdict(verdict)) = &element.value else { continue };
                        let holds = condition::key_holds(key, &element.key, self.packet);
                        if holds == Truth::No {
                            continue;
                        }
                        match targets.iter_mut().find(|(known, ..)| *known == verdict) {
                            Some((_, keys, truth)) => {
                                keys.push(&element.key);
                                *truth = (*truth).max(holds);
                            }
                            None => targets.push((verdict, vec![&element.key], holds)),
                        }
                    }
                    for (verdict, keys, holds) in targets {
                        let is_sure = sure && holds == Truth::Yes;
                        self.path.push(Condition::Keys { fields: key, keys });
                        let (left, is_sure) = self.verdict(chain, rule, verdict, is_sure, depth);
                        if left != Left::No && is_sure {
                            return (left, true);
                        }
                        left_by_map |= left != Left::No;
                        self.path.pop();
                    }
                }
                Statement::Verdict(verdict) => {
                    return self.verdict(chain, rule, verdict, sure, depth);
                }
                Statement::Masquerade { .. } => {
                    return self.terminal(chain, rule, Action::Masquerade, sure);
                }
                Statement::Redirect { port } => {
                    return self.terminal(chain, rule, Action::Redirect(*port), sure);
                }
                Statement::Nat(nat) => return self.nat(chain, rule, nat.kind, &nat.to, sure),
                Statement::NoTrack => self.emit(chain, Some(rule), Action::NoTrack, sure, false),
                Statement::Raw(expression) => {
                    if let Some(action) = xtables::action(expression) {
                        return self.terminal(chain, rule, action, sure);
                    }
                }
                _ => {}
            }
        }
        match left_by_map {
            true => (Left::Chain, false),
            false => (Left::No, true),
        }
    }

    fn verdict(
        &mut self,
        chain: &'a Chain,
        rule: &'a Rule,
        verdict: &'a Verdict,
        sure: bool,
        depth: usize,
    ) -> (Left, bool) {
        match verdict {
            Verdict::Accept => self.terminal(chain, rule, Action::Accept, sure),
            Verdict::Drop => self.terminal(chain, rule, Action::Drop, sure),
            Verdict::Continue => (Left::No, true),
            Verdict::Return => (Left::Chain, sure),
            Verdict::Jump(name) | Verdict::Goto(name) => {
                let target = self.rules.by_name.get(&(&chain.table, name.as_str())).copied();
                let ended = target.is_some_and(|target| self.chain(target, sure, depth + 1));
                match verdict {
                    _ if ended => (Left::Hook, sure),
                    Verdict::Goto(_) => (Left::Chain, sure),
                    _ => (Left::No, true),
                }
            }
        }
    }

    fn nat(
        &mut self,
        chain: &'a Chain,
        rule: &'a Rule,
        kind: NatKind,
        to: &'a NatTarget,
        sure: bool,
    ) -> (Left, bool) {
        let action = |to: String| match kind {
            NatKind::Snat => Action::Snat(to),
            NatKind::Dnat => Action::Dnat(to),
        };
        match to {
            NatTarget::Address(address, port) => {
                let to = socket(*address, *port);
                self.terminal(chain, rule, action(to), sure)
            }
            NatTarget::Map { key, map, .. } => {
                for element in self.rules.elements(&chain.table, map) {
                    let Some(Mapped::Data(data)) = &element.value else { continue };
                    let holds = condition::key_holds(key, &element.key, self.packet);
                    let to = match &data[..] {
                        [Value::Address(address)] => socket(*address, None),
                        [Value::Address(address), Value::Port(port)] => {
                            socket(*address, Some(*port))
                        }
                        _ => continue,
                    };
                    if holds != Truth::No {
                        let keys = vec![&element.key];
                        self.path.push(Condition::Keys { fields: key, keys });
                        let is_sure = sure && holds == Truth::Yes;
                        self.emit(chain, Some(rule), action(to), is_sure, false);
                        self.path.pop();
                    }
                }
                (Left::No, true)
            }
        }
    }

    fn terminal(
        &mut self,
        chain: &'a Chain,
        rule: &'a Rule,
        action: Action,
        sure: bool,
    ) -> (Left, bool) {
        self.emit(chain, Some(rule), action, sure, false);
        if !sure {
            self.may_have_ended = true;
        }
        (Left::Hook, sure)
    }

    fn emit(
        &mut self,
        chain: &'a Chain,
        rule: Option<&'a Rule>,
        action: Action,
        sure: bool,
        is_policy: bool,
    ) {
        let comment = rule.and_then(|rule| {
            let note = rule.statements.iter().find_map(|it| match it {
                Statement::Raw(expression) => xtables::comment(expression),
                _ => None,
            });
            rule.comment.clone().or(note)
        });
        let spared = self.spared.len().saturating_sub(MOST_SPARED);
        self.effects.push(Effect {
            chain,
            base: self.base,
            when: self.path.clone(),
            unless: self.spared[spared..].to_vec(),
            action,
            sure: sure && !self.is_cut(),
            comment,
            is_policy,
        });
    }
}

/// An address, with a port if there is one.
fn socket(address: IpAddr, port: Option<u16>) -> String {
    match port {
        Some(port) => std::net::SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    }
}

impl<'a> Effect<'a> {
    /// The whole fact, as a sentence.
    pub(crate) fn sentence(&self, rules: &Rules<'a>) -> String {
        let place = format!("chain {} of nft table {}", self.chain.name, self.chain.table);
        let what = match (&self.action, self.is_policy) {
            (_, true) => {
                let hook = match self.base.hook {
                    Hook::Forward => "passes through".to_owned(),
                    _ => self.base_words(),
                };
                let passed = "and no rule lets pass";
                return format!("What {hook} {passed} is dropped (policy of {place}).");
            }
            (Action::Masquerade, _) => {
                "leaves with the address of the device that it leaves by (masquerade".to_owned()
            }
            (Action::Snat(to), _) => format!("leaves with the source address {to} (SNAT"),
            (Action::Dnat(to), _) => format!("is sent to {to} instead (DNAT"),
            (Action::Redirect(None), _) => "is sent to this node itself (redirect".to_owned(),
            (Action::Redirect(Some(port)), _) => {
                format!("is sent to port {port} of this node itself (redirect")
            }
            (Action::Accept, _) => "is let pass (accept".to_owned(),
            (Action::Drop, _) => "is dropped (drop".to_owned(),
            (Action::Reject, _) => "is refused (reject".to_owned(),
            (Action::NoTrack, _) => "is not tracked as a connection (notrack".to_owned(),
        };
        let words = |conditions: &[Condition<'a>]| -> Vec<String> {
            conditions.iter().filter_map(|it| it.words(rules)).collect()
        };
        let family = |conditions: &[Condition<'a>]| conditions.iter().find_map(Condition::family);
        let required = words(&self.when);
        let when = required.join(" and ");
        let is_of_devices = !self.base.devices.is_empty();
        let when = match (when.is_empty(), is_of_devices) {
            (true, _) => self.base_words(),
            (false, true) => format!("{} and {when}", self.base_words()),
            (false, false) => when,
        };
        // What cannot be of the same packet is not said, nor again what is required anyway.
        let is_other = |spared: &&Vec<Condition<'a>>| {
            family(spared).zip(family(&self.when)).is_some_and(|(one, other)| one != other)
        };
        let mut unless: Vec<String> = self
            .unless
            .iter()
            .filter(|spared| !is_other(spared))
            .map(|spared| {
                let mut words = words(spared);
                words.retain(|word| !required.contains(word));
                words.join(" and ")
            })
            .filter(|text| !text.is_empty())
            .collect();
        unless.dedup();
        let unless = match unless.is_empty() {
            true => String::new(),
            false => format!(", unless it {},", unless.join(" or ")),
        };
        format!("What {when}{unless} {what}, {place}).")
    }

    /// What comes to its chain, as the end of "what ...".
    fn base_words(&self) -> String {
        let hook = match self.base.hook {
            Hook::Input => "is for this node itself",
            Hook::Output => "this node itself sends",
            Hook::Forward => "passes through this node",
            Hook::Prerouting | Hook::Ingress => "arrives at this node",
            Hook::Postrouting | Hook::Egress => "leaves this node",
        };
        match self.base.devices.is_empty() {
            true => hook.to_owned(),
            false => format!("{hook} by {}", words::some(&self.base.devices, 4)),
        }
    }

    /// The command that shows it.
    pub(crate) fn command(&self) -> String {
        let table = &self.chain.table;
        format!("nft list table {} {}", table.family, net::quote(&table.name))
    }

    /// Whether it gives what leaves another address.
    pub(crate) fn changes_source(&self) -> bool {
        matches!(self.action, Action::Masquerade | Action::Snat(_))
    }

    /// Whether it is in a chain of NAT.
    pub(crate) fn is_nat(&self) -> bool {
        self.base.kind == ChainKind::Nat
    }
}
