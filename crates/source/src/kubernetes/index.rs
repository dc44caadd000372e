//! What is known of all nodes and of this one, what is to be told of it, and what is to be written.
//! Nothing here does I/O, and time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fabric::{Mac, Node, NodeName, PerFamily, Publication};
use serde_json::Value;

use super::annotation::{macs, own, peer, wanted};
use super::api::Change;
use super::object::Object;
use super::watch::{Event, Which};

/// How long something may be wrong before it is told: what mends itself is no news.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);

/// How long what was written may take to be seen. Nothing is written again before it is.
const ECHO: Duration = Duration::from_secs(2);

/// What the agent is to believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing yet.
    Wait,
    /// What is known is all there is.
    Complete,
    /// It is not known how things are.
    Astray(Trouble, String),
}

/// Why not. While one kind lasts it is told once, however its words change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// The API cannot be asked.
    Unreachable(Which),
    /// There is no Node object of this node, as this watch has it.
    NotRegistered(Which),
    /// It has been given no addresses for pods.
    NoSubnet,
    /// The other nodes have never been told of this one.
    NotPublished,
}

#[derive(Debug, PartialEq, Eq)]
struct Peer {
    uid: String,
    node: Node,
}

/// What a list of all nodes has brought so far.
#[derive(Debug, Default)]
struct Listing {
    peers: BTreeMap<NodeName, Peer>,
    has_own: bool,
}

/// Somebody wants to hear it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// Of a list that begins after this.
    Raised,
    /// Of the list that is under way.
    Examined,
}

/// All that is known.
pub(super) struct Index {
    publication: Publication,
    flannel: bool,
    /// Whether nothing is ever to be written.
    only_looks: bool,
    is_ready: bool,
    /// The own Node as it was last seen, even if it is no more.
    own: Option<Object>,
    /// The hardware addresses that others knew at the start: with others, what they send until they
    /// have read those would be lost.
    macs: PerFamily<Mac>,
    own_listed: bool,
    peers: Option<BTreeMap<NodeName, Peer>>,
    /// The list that is under way; it is all there is only when it is complete.
    listing: Option<Listing>,
    /// Whether the list that begins next, or is under way, is told even if it says nothing new.
    doubt: Option<Doubt>,
    troubles: BTreeMap<Trouble, (Instant, String)>,
    was_published: bool,
    /// When what was written has to be seen at the latest.
    echo: Option<Instant>,
    is_changed: bool,
}

impl Index {
    pub(super) fn new(publication: Publication, flannel: bool) -> Self {
        Self {
            publication,
            flannel,
            only_looks: false,
            is_ready: false,
            own: None,
            macs: PerFamily::default(),
            own_listed: false,
            peers: None,
            listing: None,
            doubt: None,
            troubles: BTreeMap::new(),
            was_published: false,
            echo: None,
            is_changed: false,
        }
    }

    /// The same for one who changes nothing.
    pub(super) fn that_only_looks(self) -> Self {
        Self { only_looks: true, ..self }
    }

    /// Which node this one is.
    pub(super) fn name(&self) -> &NodeName {
        &self.publication.name
    }

    /// Whether the metadata of other nodes does not say enough.
    pub(super) fn needs_specs(&self) -> bool {
        self.flannel
    }

    /// Has the others know this from now on.
    pub(super) fn publish(&mut self, publication: Publication) {
        let before = self.me();
        self.publication = publication;
        self.is_changed |= before != self.me();
    }

    /// Whether pods may be told that the network is there.
    pub(super) fn set_ready(&mut self, is_ready: bool) {
        self.is_ready = is_ready;
    }

    /// Has the next list of all nodes told even if nothing has changed.
    pub(super) fn resync(&mut self) {
        self.doubt = Some(Doubt::Raised);
    }

    /// Takes in what a watch has to say.
    pub(super) fn apply(&mut self, which: Which, event: Event, now: Instant) {
        let unreachable = Trouble::Unreachable(which);
        match (which, event) {
            (_, Event::Live) => self.over(unreachable),
            (_, Event::Failed(why)) => {
                let text = format!("Kubernetes' API cannot be asked for nodes: {why}");
                self.trouble(unreachable, text, now);
            }
            (Which::Own, Event::Listing) => self.own_listed = false,
            (Which::Own, Event::Seen(object)) => self.see_own(*object, now),
            (Which::Own, Event::Listed) => {
                if !std::mem::replace(&mut self.own_listed, true) {
                    self.lose_own(which, now);
                }
            }
            (Which::Own, Event::Gone(_)) => self.lose_own(which, now),
            (Which::All, Event::Listing) => {
                self.listing = Some(Listing::default());
                self.doubt = self.doubt.map(|_| Doubt::Examined);
            }
            (Which::All, Event::Seen(object)) => self.see_peer(*object),
            (Which::All, Event::Listed) => {
                let Listing { peers, has_own } = self.listing.take().unwrap_or_default();
                if has_own {
                    self.over(Trouble::NotRegistered(which));
                } else {
                    self.lose_own(which, now);
                }
                let nodes = |peers| BTreeMap::values(peers).map(|peer: &Peer| &peer.node);
                let is_same = |known| nodes(known).eq(nodes(&peers));
                self.is_changed |= !self.peers.as_ref().is_some_and(is_same);
                self.peers = Some(peers);
                self.is_changed |= self.doubt.take_if(|it| *it == Doubt::Examined).is_some();
            }
            (Which::All, Event::Gone(name)) => {
                let name = name.parse::<NodeName>().ok();
                if name.as_ref() == Some(self.name()) {
                    self.lose_own(which, now);
                }
                let gone = name.and_then(|name| self.peers.as_mut()?.remove(&name));
                self.is_changed |= gone.is_some();
            }
        }
    }

    fn see_own(&mut self, object: Object, now: Instant) {
        self.own_listed = true;
        self.echo = None;
        self.over(Trouble::NotRegistered(Which::Own));
        if self.own.is_none() {
            self.macs = macs(&object, &self.publication.name, self.flannel);
        }
        // As it is after a restart.
        if self.differing(&object).is_some_and(|differing| differing.is_empty()) {
            self.is_published();
        }
        let before = self.me();
        self.own = Some(object);
        let after = self.me();
        if after.as_ref().is_some_and(|me| me.subnets.is_empty()) {
            let text = format!(
                "node {} has no podCIDR; run kube-controller-manager with --allocate-node-cidrs",
                self.publication.name
            );
            self.trouble(Trouble::NoSubnet, text, now);
        } else {
            self.over(Trouble::NoSubnet);
        }
        self.is_changed |= before != after;
    }

    fn lose_own(&mut self, which: Which, now: Instant) {
        let name = &self.publication.name;
        let text = format!(
            "there is no Node {name} in Kubernetes; start its kubelet, or set `node` to the name \
             that it has there"
        );
        self.trouble(Trouble::NotRegistered(which), text, now);
    }

    fn see_peer(&mut self, object: Object) {
        let Ok(name) = object.metadata.name.parse::<NodeName>() else { return };
        if name == self.publication.name {
            match &mut self.listing {
                Some(listing) => listing.has_own = true,
                None => self.over(Trouble::NotRegistered(Which::All)),
            }
            return;
        }
        let known = self.peers.as_ref().and_then(|peers| peers.get(&name));
        let known = known.filter(|peer| peer.uid == object.metadata.uid).map(|peer| &peer.node);
        let node = peer(&object, &name, self.flannel)
            .or_else(|| known.cloned())
            .unwrap_or_else(|| Node::new(name.clone()));
        let uid = object.metadata.uid;
        let seen = Peer { uid, node };
        match &mut self.listing {
            Some(listing) => {
                listing.peers.insert(name, seen);
            }
            None => {
                let peers = self.peers.get_or_insert_default();
                self.is_changed |= peers.get(&name).map(|peer| &peer.node) != Some(&seen.node);
                peers.insert(name, seen);
            }
        }
    }

    /// Whether what is known has changed since this was asked last.
    pub(super) fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// Whether it will be said so.
    pub(super) fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// All nodes that are known, this one first.
    pub(super) fn nodes(&self) -> Vec<Node> {
        let peers = self.peers.iter().flat_map(BTreeMap::values).map(|peer| peer.node.clone());
        self.me().into_iter().chain(peers).collect()
    }

    fn me(&self) -> Option<Node> {
        Some(own(self.own.as_ref()?, self.macs, &self.publication, self.flannel))
    }

    /// What the agent is to believe now.
    pub(super) fn verdict(&self, now: Instant) -> Verdict {
        let lasting = |(since, _): &(Instant, String)| now.duration_since(*since) >= PATIENCE;
        let lasting = self.troubles.iter().find(|(_, trouble)| lasting(trouble));
        // A set without this node has lost others as well.
        let is_lost = |which| self.troubles.contains_key(&Trouble::NotRegistered(which));
        let is_known = self.me().is_some_and(|me| !me.subnets.is_empty())
            && self.peers.is_some()
            && ![Which::Own, Which::All].into_iter().any(is_lost);
        match lasting {
            Some((trouble, (_, text))) => Verdict::Astray(*trouble, text.clone()),
            None if is_known => Verdict::Complete,
            None => Verdict::Wait,
        }
    }

    /// When there will be another verdict or something to write, if nothing happens until then.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let ends = self.troubles.values().map(|(since, _)| *since + PATIENCE).chain(self.echo);
        ends.filter(|end| *end > now).min()
    }

    /// What has to be written to the own Node for it to be as it should.
    pub(super) fn change(&self, now: Instant) -> Option<Change> {
        if self.only_looks || self.echo.is_some_and(|echo| now < echo) {
            return None;
        }
        let is_there = |trouble| !self.troubles.contains_key(trouble);
        let own = self.own.as_ref().filter(|_| {
            [Trouble::Unreachable(Which::Own), Trouble::NotRegistered(Which::Own)]
                .iter()
                .all(is_there)
                && self.own_listed
        })?;
        let differing = self.differing(own)?;
        if !differing.is_empty() {
            return Some(Change::Annotations(Value::Object(differing)));
        }
        let is_told = own.network_unavailable() == Some(false);
        (self.is_ready && !is_told).then_some(Change::NetworkAvailable)
    }

    /// The annotations that `own` has not as it should; `None` while there is nothing to publish.
    fn differing(&self, own: &Object) -> Option<serde_json::Map<String, Value>> {
        let wanted = wanted(own, self.macs, &self.publication, self.flannel)?;
        let differing =
            wanted.into_iter().filter(|(key, value)| own.annotation(key) != value.as_deref());
        let changes =
            differing.map(|(key, it)| (key.to_owned(), it.map_or(Value::Null, Value::from)));
        Some(changes.collect())
    }

    /// Takes in how writing has gone.
    pub(super) fn wrote(&mut self, change: &Change, result: Result<(), String>, now: Instant) {
        self.echo = result.is_ok().then_some(now + ECHO);
        match (change, result) {
            (Change::Annotations(_), Ok(())) => self.is_published(),
            // Later nobody is without what they need; it is tried again, and goes on until then.
            (Change::Annotations(_), Err(why)) if !self.was_published => {
                let name = &self.publication.name;
                let text = format!("the annotations of Node {name} cannot be written: {why}");
                self.trouble(Trouble::NotPublished, text, now);
            }
            _ => {}
        }
    }

    fn is_published(&mut self) {
        self.was_published = true;
        self.over(Trouble::NotPublished);
    }

    fn trouble(&mut self, trouble: Trouble, text: String, now: Instant) {
        let since = self.troubles.get(&trouble).map_or(now, |(since, _)| *since);
        self.troubles.insert(trouble, (since, text));
    }

    fn over(&mut self, trouble: Trouble) {
        self.troubles.remove(&trouble);
    }
}

#[cfg(test)]
mod tests;
