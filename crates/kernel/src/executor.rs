//! The one place where plans become true: applies steps in order, and takes them back.
//!
//! Requests are sent one by one, because rtnetlink goes on with the next message of a datagram
//! after one has failed, and a later step would then meet somebody else's object. A request costs
//! about a microsecond of system calls; what takes time is the kernel's own work. Only nftables
//! has transactions, and uses one for each run of adjacent steps.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use net::{Action, Address, Change, Fdb, File, Link, LinkKind, Neighbour, Netns as NetnsObject};
use net::{Object, Plan, Qdisc, Route, Rule, Space, Step, Sysctl, Vni, Vxlan, VxlanForm, undo};

use crate::error::{Error, ErrorKind, Result};
use crate::handle::Handle;
use crate::netlink::{Message, Socket, flag};
use crate::netns::Netns;
use crate::rtnetlink::{self, rtm};
use crate::{conntrack, dump, nft, wait};

/// What to do when a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// Stop, and take back what was done: ADD, `lab up`.
    Undo,
    /// Go on with the next step: DEL, GC, the fabric.
    Continue,
    /// Stop and leave everything as it is: what a kill leaves, for tests of repair.
    Stop,
}

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Applied {
    /// The steps that really changed something, in order: the undo log. Empty after a successful
    /// undo.
    pub done: Plan,
    /// The steps that failed, by their place in the plan.
    pub failed: Vec<(usize, Error)>,
}

impl Applied {
    /// The first failure, if there was one.
    pub fn into_result(self) -> Result<Plan> {
        match self.failed.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(self.done),
        }
    }
}

/// The kernel of this machine, with the namespaces that were used so far held open.
#[derive(Debug)]
pub struct Kernel {
    home: Netns,
    handles: HashMap<Space, Handle>,
    fault: Option<usize>,
}

impl Kernel {
    /// Opens the way to the kernel from the namespace of the calling thread.
    pub fn new() -> Result<Self> {
        Ok(Self { home: Netns::current()?, handles: HashMap::new(), fault: None })
    }

    /// Makes the step after the next `steps` ones fail, in the plan applied next. Tests use it to
    /// stand before every step of every plan.
    pub fn fail_after(&mut self, steps: usize) {
        self.fault = Some(steps);
    }

    /// Applies a plan.
    pub fn apply(&mut self, plan: &[Step], on_error: OnError) -> Applied {
        let fault = self.fault.take();
        let mut applied = Applied::default();
        let mut at = 0;
        while at < plan.len() {
            let end = at + group(&plan[at..]);
            let end = fault.map_or(end, |fault| end.min(fault.max(at + 1)));
            let before = applied.failed.len();
            if fault == Some(at) {
                let what = format!("step {} of the plan", at + 1);
                let error = Error::text(what, ErrorKind::Injected, "fault point");
                applied.failed.push((at, error));
            } else {
                self.apply_group(plan, at..end, &mut applied);
            }
            if applied.failed.len() > before && on_error != OnError::Continue {
                break;
            }
            at = end;
        }
        if on_error == OnError::Undo && !applied.failed.is_empty() {
            let back = undo(&std::mem::take(&mut applied.done));
            let undone = self.apply(&back, OnError::Continue);
            // What could not be taken back is still done.
            for (place, error) in undone.failed {
                if let Some(step) = back.get(place) {
                    applied.done.extend(
                        step.change.inverse().map(|change| Step { change, ..step.clone() }),
                    );
                }
                applied.failed.push((plan.len() + place, error));
            }
        }
        applied
    }

    /// Opens `space` if it is not open yet. Plans do this themselves; a caller does it to hold on
    /// to a namespace, or to find out early that it cannot be opened.
    pub fn open(&mut self, space: &Space) -> Result<()> {
        self.handle(space).map(|_| ())
    }

    /// Closes `space`, so that nothing of ours keeps it alive.
    pub fn close(&mut self, space: &Space) {
        self.handles.remove(space);
    }

    /// Runs `work` inside `space` on the calling thread.
    pub fn inside<T>(&mut self, space: &Space, work: impl FnOnce() -> T) -> Result<T> {
        let (home, handle) = self.handle(space)?;
        handle.inside(home, work)
    }

    pub(crate) fn handle(&mut self, space: &Space) -> Result<(&Netns, &mut Handle)> {
        if !self.handles.contains_key(space) {
            let handle = Handle::open(space, &self.home)?;
            self.handles.insert(space.clone(), handle);
        }
        match self.handles.get_mut(space) {
            Some(handle) => Ok((&self.home, handle)),
            None => Err(Error::text("open a namespace", ErrorKind::Other, "it is not open")),
        }
    }

    /// Applies a run of steps that go together.
    fn apply_group(&mut self, plan: &[Step], range: std::ops::Range<usize>, applied: &mut Applied) {
        let first = range.start;
        let steps = &plan[range];
        let (done, failed) = match Way::of(&steps[0].change) {
            Way::Visit => self.ensure_sysctls(steps),
            Way::Transaction => self.apply_nft(steps),
            Way::Alone => match self.apply_one(&steps[0]) {
                Ok(changed) => (vec![changed], None),
                Err(error) => (Vec::new(), Some((0, error))),
            },
        };
        for (step, changed) in steps.iter().zip(done) {
            if changed {
                applied.done.push(step.clone());
            }
        }
        if let Some((place, error)) = failed {
            applied.failed.push((first + place, error));
        }
    }

    fn ensure_sysctls(&mut self, steps: &[Step]) -> (Vec<bool>, Option<(usize, Error)>) {
        let sysctls: Vec<&Sysctl> = steps
            .iter()
            .filter_map(|step| match &step.change {
                Change::Ensure(Object::Sysctl(sysctl)) => Some(sysctl),
                _ => None,
            })
            .collect();
        let result = self
            .handle(&steps[0].space)
            .and_then(|(home, handle)| handle.ensure_sysctls(home, &sysctls));
        match result {
            Ok((written, error)) => {
                let place = written.len();
                (written, error.map(|error| (place, error)))
            }
            Err(error) => (Vec::new(), Some((0, error))),
        }
    }

    fn apply_nft(&mut self, steps: &[Step]) -> (Vec<bool>, Option<(usize, Error)>) {
        let changes: Vec<&Change> = steps.iter().map(|step| &step.change).collect();
        let result = match self.handle(&steps[0].space) {
            Ok((home, handle)) => match handle.netfilter(home) {
                Ok(socket) => nft::apply(socket, &changes),
                Err(error) => Err((0, error)),
            },
            Err(error) => Err((0, error)),
        };
        match result {
            Ok(done) => (done, None),
            Err(failed) => (Vec::new(), Some(failed)),
        }
    }

    /// Applies a step that stands alone; `false` if there was nothing to do.
    fn apply_one(&mut self, step: &Step) -> Result<bool> {
        let space = &step.space;
        match &step.change {
            Change::Act(action) => self.act(space, action).map(|()| true),
            Change::Create(object) => self.create(space, object).map(|()| true),
            Change::Ensure(object) => self.ensure(space, object),
            Change::Delete(object) => self.delete(space, object),
            Change::Replace { to, .. } => self.replace(space, to).map(|()| true),
        }
    }

    fn create(&mut self, space: &Space, object: &Object) -> Result<()> {
        let new = flag::CREATE | flag::EXCLUSIVE;
        match object {
            Object::Link(link) => self.create_link(space, link),
            Object::Address(address) => self.address(space, rtm::NEWADDR, new, address),
            // Appending lets a second route to the same destination stand beside the first, as
            // the reference plugins' routes do; an identical one is still refused.
            Object::Route(route) => {
                self.route(space, rtm::NEWROUTE, flag::CREATE | flag::APPEND, route)
            }
            Object::Rule(rule) => self.rule(space, rtm::NEWRULE, new, rule),
            Object::Neighbour(neighbour) => self.neighbour(space, rtm::NEWNEIGH, new, neighbour),
            Object::Fdb(entry) => self.fdb(space, rtm::NEWNEIGH, new, entry),
            Object::Vni(entry) => self.vni(space, rtm::NEWTUNNEL, entry),
            Object::Qdisc(qdisc) => self.qdisc(space, rtm::NEWQDISC, new, qdisc),
            Object::Netns(NetnsObject { path }) => Netns::create(path).map(|_| ()),
            Object::File(file) => create_file(file),
            Object::Sysctl(_) | Object::Nft(_) => Err(misplaced(object)),
        }
    }

    /// `false` if it was there already, as asked.
    fn ensure(&mut self, space: &Space, object: &Object) -> Result<bool> {
        match object {
            Object::Link(link) => self.ensure_link(space, link),
            Object::Netns(NetnsObject { path }) if Netns::open(path).is_ok() => Ok(false),
            Object::File(file) => match fs::read_to_string(&file.path) {
                Ok(content) if content == file.content => Ok(false),
                _ => write_file(file).map(|()| true),
            },
            Object::Neighbour(_) | Object::Fdb(_) | Object::Qdisc(_) => {
                self.replace(space, object).map(|()| true)
            }
            _ => match self.create(space, object) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == ErrorKind::Exists => Ok(false),
                Err(error) => Err(error),
            },
        }
    }

    /// `false` if it was gone already.
    fn delete(&mut self, space: &Space, object: &Object) -> Result<bool> {
        let result = match object {
            Object::Link(link) => self.delete_link(space, link),
            Object::Address(address) => self.address(space, rtm::DELADDR, 0, address),
            Object::Route(route) => self.route(space, rtm::DELROUTE, 0, route),
            Object::Rule(rule) => self.rule(space, rtm::DELRULE, 0, rule),
            Object::Neighbour(neighbour) => self.neighbour(space, rtm::DELNEIGH, 0, neighbour),
            Object::Fdb(entry) => self.fdb(space, rtm::DELNEIGH, 0, entry),
            Object::Vni(entry) => self.vni(space, rtm::DELTUNNEL, entry),
            Object::Qdisc(qdisc) => self.delete_qdisc(space, qdisc),
            Object::Netns(NetnsObject { path }) => {
                self.close(&Space::At(path.clone()));
                Netns::remove(path)
            }
            Object::File(file) => fs::remove_file(&file.path)
                .map_err(|e| Error::io(format!("remove {}", file.path.display()), &e)),
            Object::Sysctl(_) | Object::Nft(_) => Err(misplaced(object)),
        };
        match result {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn replace(&mut self, space: &Space, to: &Object) -> Result<()> {
        let over = flag::CREATE | flag::REPLACE;
        match to {
            Object::Link(link) => {
                let (_, handle) = self.handle(space)?;
                let index = handle.index(&link.name)?;
                self.set_link(space, link, index)
            }
            Object::Address(address) => self.address(space, rtm::NEWADDR, over, address),
            Object::Route(route) => self.route(space, rtm::NEWROUTE, over, route),
            Object::Neighbour(neighbour) => self.neighbour(space, rtm::NEWNEIGH, over, neighbour),
            Object::Fdb(entry) => self.fdb(space, rtm::NEWNEIGH, over, entry),
            Object::Qdisc(qdisc) => self.qdisc(space, rtm::NEWQDISC, over, qdisc),
            Object::File(file) => write_file(file),
            Object::Sysctl(sysctl) => {
                let (home, handle) = self.handle(space)?;
                match handle.ensure_sysctls(home, &[sysctl])? {
                    (_, Some(error)) => Err(error),
                    _ => Ok(()),
                }
            }
            Object::Rule(_) | Object::Netns(_) | Object::Vni(_) | Object::Nft(_) => {
                Err(misplaced(to))
            }
        }
    }

    fn create_link(&mut self, space: &Space, link: &Link) -> Result<()> {
        let Some(kind) = &link.kind else {
            let what = format!("create device {}", link.name);
            return Err(Error::text(what, ErrorKind::WrongKind, "its kind is not given"));
        };
        let what = match kind {
            LinkKind::Bridge => format!("create bridge {}", link.name),
            LinkKind::Veth { peer } => format!("create veth {} to {}", link.name, peer.name),
            LinkKind::Vxlan(_) => format!("create tunnel end {}", link.name),
            LinkKind::Other(_) => return Err(misplaced(&link.clone().into())),
        };
        // The far end's namespace is opened first, and lent for the length of the call.
        let peer_space = match kind {
            LinkKind::Veth { peer } if peer.space != *space => Some(peer.space.clone()),
            _ => None,
        };
        let peer_handle = match &peer_space {
            Some(peer_space) => {
                self.handle(peer_space)?;
                self.handles.remove(peer_space)
            }
            None => None,
        };
        let result = self.create_link_towards(space, link, peer_handle.as_ref(), what);
        if let (Some(peer_space), Some(handle)) = (peer_space, peer_handle) {
            self.handles.insert(peer_space, handle);
        }
        result
    }

    fn create_link_towards(
        &mut self,
        space: &Space,
        link: &Link,
        peer: Option<&Handle>,
        what: String,
    ) -> Result<()> {
        let home = self.home.as_fd().try_clone_to_owned().map_err(|e| Error::io(&*what, &e))?;
        let (_, handle) = self.handle(space)?;
        let master = link.master.as_ref().map(|name| handle.index(name)).transpose()?;
        let underlay = match &link.kind {
            Some(LinkKind::Vxlan(Vxlan {
                form: VxlanForm::Classic { underlay: Some(underlay), .. },
                ..
            })) => Some(handle.index(underlay)?),
            _ => None,
        };
        let peer_netns = peer.map(|peer| peer.netns().map_or(home.as_fd(), |netns| netns.as_fd()));
        let resolved = rtnetlink::link::Resolved { index: 0, master, underlay, peer_netns };
        let request = rtnetlink::link::request(link, resolved);
        handle.forget(&link.name);
        handle
            .route()
            .request(rtm::NEWLINK, flag::CREATE | flag::EXCLUSIVE, &request, |_| {})
            .map_err(|e| e.during(what))?;
        if link.port != net::Port::default() {
            let index = handle.index(&link.name)?;
            set_port(handle, link, index).inspect_err(|_| {
                // A device that is not as asked is not made.
                let _ = delete_by_index(handle, index);
            })?;
        }
        Ok(())
    }

    fn ensure_link(&mut self, space: &Space, link: &Link) -> Result<bool> {
        let (_, handle) = self.handle(space)?;
        let mut seen = handle.link(&link.name)?;
        if seen.is_none() && link.kind.is_some() {
            match self.create_link(space, link) {
                Ok(()) => return Ok(true),
                // Somebody else was quicker: what is there now has to do.
                Err(error) if error.kind() == ErrorKind::Exists => {
                    let (_, handle) = self.handle(space)?;
                    seen = handle.link(&link.name)?;
                }
                Err(error) => return Err(error),
            }
        }
        let Some(seen) = seen else {
            return Err(Error::errno(format!("look up device {}", link.name), libc::ENODEV, None));
        };
        if let Some(LinkKind::Bridge) = link.kind
            && seen.kind != "bridge"
        {
            let text = format!("{:?} already exists but is not a bridge", link.name.as_str());
            return Err(Error::text(
                format!("create bridge {}", link.name),
                ErrorKind::WrongKind,
                text,
            ));
        }
        let wanted = if link.kind.is_some() { &link.without_hardware() } else { link };
        let (_, handle) = self.handle(space)?;
        let master = wanted.master.as_ref().map(|name| handle.index(name)).transpose()?;
        if is_satisfied(wanted, &seen, master) {
            return Ok(false);
        }
        self.set_link(space, wanted, seen.index).map(|()| true)
    }

    fn set_link(&mut self, space: &Space, link: &Link, index: u32) -> Result<()> {
        let (_, handle) = self.handle(space)?;
        let master = link.master.as_ref().map(|name| handle.index(name)).transpose()?;
        let resolved = rtnetlink::link::Resolved { index, master, ..Default::default() };
        let request = rtnetlink::link::request(link, resolved);
        handle
            .route()
            .request(rtm::NEWLINK, 0, &request, |_| {})
            .map_err(|e| e.during(format!("change device {}", link.name)))?;
        if link.port != net::Port::default() {
            set_port(handle, link, index)?;
        }
        Ok(())
    }

    fn delete_link(&mut self, space: &Space, link: &Link) -> Result<()> {
        let (_, handle) = self.handle(space)?;
        handle.forget(&link.name);
        let request = rtnetlink::link::by_name(&link.name);
        handle
            .route()
            .request(rtm::DELLINK, 0, &request, |_| {})
            .map_err(|e| e.during(format!("delete device {}", link.name)))
    }

    fn address(&mut self, space: &Space, kind: u16, flags: u16, address: &Address) -> Result<()> {
        let (_, handle) = self.handle(space)?;
        let index = handle.index(&address.link)?;
        let request = rtnetlink::address::request(address, index);
        handle.route().request(kind, flags, &request, |_| {}).map_err(|e| {
            e.during(format!("{} address {} on {}", verb(kind), address.address, address.link))
        })
    }

    fn route(&mut self, space: &Space, kind: u16, flags: u16, route: &Route) -> Result<()> {
        let (_, handle) = self.handle(space)?;
        let index = route.link.as_ref().map(|name| handle.index(name)).transpose()?;
        let request = rtnetlink::route::request(route, index.unwrap_or_default());
        handle.route().request(kind, flags, &request, |_| {}).map_err(|e| {
            let via = route.gateway.map(|gw| format!(" via {gw}")).unwrap_or_default();
            let dev = route.link.as_ref().map(|link| format!(" dev {link}")).unwrap_or_default();
            e.during(format!("{} route {}{via}{dev}", verb(kind), route.destination))
        })
    }

    fn rule(&mut self, space: &Space, kind: u16, flags: u16, rule: &Rule) -> Result<()> {
        let (_, handle) = self.handle(space)?;
        let request = rtnetlink::rule::request(rule);
        handle.route().request(kind, flags, &request, |_| {}).map_err(|e| {
            e.during(format!("{} rule {} to table {}", verb(kind), rule.priority, rule.table))
        })
    }

    fn neighbour(&mut self, space: &Space, kind: u16, flags: u16, it: &Neighbour) -> Result<()> {
        let (_, handle) = self.handle(space)?;
        let index = handle.index(&it.link)?;
        let request = rtnetlink::neighbour::request(it, index);
        handle.route().request(kind, flags, &request, |_| {}).map_err(|e| {
            e.during(format!("{} neighbour {} on {}", verb(kind), it.address, it.link))
        })
    }

    fn fdb(&mut self, space: &Space, kind: u16, flags: u16, entry: &Fdb) -> Result<()> {
        let (_, handle) = self.handle(space)?;
        let index = handle.index(&entry.link)?;
        let request = rtnetlink::neighbour::fdb_request(entry, index);
        handle.route().request(kind, flags, &request, |_| {}).map_err(|e| {
            e.during(format!("{} forwarding entry {} on {}", verb(kind), entry.mac, entry.link))
        })
    }

    fn vni(&mut self, space: &Space, kind: u16, entry: &Vni) -> Result<()> {
        let (_, handle) = self.handle(space)?;
        let index = handle.index(&entry.link)?;
        let what = || format!("{} virtual network {} on {}", verb(kind), entry.vni, entry.link);
        let mut there = Vec::new();
        if kind == rtm::NEWTUNNEL {
            // The kernel takes one that is there for a change of it.
            let all = rtnetlink::vni::all(index);
            let read = |message: Message<'_>| {
                there.extend(rtnetlink::vni::parse(message.payload).into_iter().flatten());
            };
            handle.route().dump(rtm::GETTUNNEL, &all, read).map_err(|e| e.during(what()))?;
        }
        if there.contains(&(index, entry.vni)) {
            return Err(Error::errno(what(), libc::EEXIST, None));
        }
        let request = rtnetlink::vni::request(entry, index);
        handle.route().request(kind, 0, &request, |_| {}).map_err(|e| e.during(what()))
    }

    fn qdisc(&mut self, space: &Space, kind: u16, flags: u16, qdisc: &Qdisc) -> Result<()> {
        let (_, handle) = self.handle(space)?;
        let index = handle.index(&qdisc.link)?;
        let request = rtnetlink::qdisc::request(qdisc, index);
        handle
            .route()
            .request(kind, flags, &request, |_| {})
            .map_err(|e| e.during(format!("{} queueing on {}", verb(kind), qdisc.link)))
    }

    fn delete_qdisc(&mut self, space: &Space, qdisc: &Qdisc) -> Result<()> {
        let (_, handle) = self.handle(space)?;
        let index = handle.index(&qdisc.link)?;
        handle
            .route()
            .request(rtm::DELQDISC, 0, &rtnetlink::qdisc::delete(index), |_| {})
            .map_err(|e| e.during(format!("remove queueing on {}", qdisc.link)))
    }

    fn act(&mut self, space: &Space, action: &Action) -> Result<()> {
        match action {
            Action::WaitUp { link, millis } => {
                let (home, handle) = self.handle(space)?;
                wait::up(handle, home, link, Duration::from_millis(u64::from(*millis)))
            }
            Action::WaitAddresses { link, addresses, millis } => {
                let (home, handle) = self.handle(space)?;
                let patience = Duration::from_millis(u64::from(*millis));
                wait::addresses(handle, home, link, addresses, patience)
            }
            Action::Announce { link, mac } => {
                let link = Link { mac: Some(*mac), ..Link::existing(link.clone()) };
                let (_, handle) = self.handle(space)?;
                let index = handle.index(&link.name)?;
                self.set_link(space, &link, index)
            }
            Action::FlushConntrack { addresses } => {
                self.forget(space, |socket| conntrack::flush(socket, addresses))
            }
            Action::FlushFlows { flows } => {
                self.forget(space, |socket| conntrack::flush_flows(socket, flows))
            }
        }
    }

    /// Has connection tracking forget something. A kernel without netfilter tracks nothing.
    fn forget(
        &mut self,
        space: &Space,
        work: impl FnOnce(&mut Socket) -> Result<()>,
    ) -> Result<()> {
        let (home, handle) = self.handle(space)?;
        match handle.netfilter(home) {
            Ok(socket) => work(socket),
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// How a step is applied.
#[derive(PartialEq)]
enum Way {
    /// By itself.
    Alone,
    /// With its neighbours, in one nftables transaction.
    Transaction,
    /// With its neighbours, in one visit of their namespace.
    Visit,
}

impl Way {
    fn of(change: &Change) -> Self {
        match change {
            Change::Ensure(Object::Sysctl(_)) => Self::Visit,
            Change::Create(Object::Nft(_))
            | Change::Ensure(Object::Nft(_))
            | Change::Delete(Object::Nft(_))
            | Change::Replace { to: Object::Nft(_), .. } => Self::Transaction,
            _ => Self::Alone,
        }
    }
}

/// How many of the first steps of `plan` go together.
fn group(plan: &[Step]) -> usize {
    let (way, space) = (Way::of(&plan[0].change), &plan[0].space);
    if way == Way::Alone {
        return 1;
    }
    let belongs = |step: &&Step| Way::of(&step.change) == way && step.space == *space;
    plan.iter().take_while(belongs).count()
}

fn is_satisfied(want: &Link, seen: &dump::Link, master: Option<u32>) -> bool {
    let port = seen.port.unwrap_or_default();
    want.mac.is_none_or(|mac| seen.mac == Some(mac))
        && want.mtu.is_none_or(|mtu| seen.mtu == mtu)
        && want.up.is_none_or(|up| seen.up == up)
        && want.promiscuous.is_none_or(|on| seen.promiscuous == on)
        && master.is_none_or(|index| seen.master == Some(index))
        && want.port.hairpin.is_none_or(|on| port.hairpin == on)
        && want.port.isolated.is_none_or(|on| port.isolated == on)
}

fn set_port(handle: &mut Handle, link: &Link, index: u32) -> Result<()> {
    let request = rtnetlink::link::port_request(link, index);
    handle
        .route()
        .request(rtm::SETLINK, 0, &request, |_| {})
        .map_err(|e| e.during(format!("set bridge port flags of {}", link.name)))
}

fn delete_by_index(handle: &mut Handle, index: u32) -> Result<()> {
    handle.route().request(rtm::DELLINK, 0, &rtnetlink::link::by_index(index), |_| {})
}

fn create_file(file: &File) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut open = fs::OpenOptions::new();
        open.write(true).create_new(true).mode(0o644);
        let mut to = open.open(&file.path)?;
        to.write_all(file.content.as_bytes()).inspect_err(|_| {
            let _ = fs::remove_file(&file.path);
        })
    };
    write().map_err(|e| Error::io(format!("create {}", file.path.display()), &e))
}

/// Writes a file as a whole: readers see the old content or the new one.
fn write_file(file: &File) -> Result<()> {
    let temporary = file.path.with_extension("new");
    fs::write(&temporary, &file.content)
        .and_then(|()| fs::rename(&temporary, &file.path))
        .map_err(|e| Error::io(format!("write {}", file.path.display()), &e))
}

/// A change that makes no sense for its object, such as creating a kernel setting.
fn misplaced(object: &Object) -> Error {
    Error::text(
        format!("apply a change to {object:?}"),
        ErrorKind::WrongKind,
        "there is no such change for this kind of object",
    )
}

fn verb(kind: u16) -> &'static str {
    match kind {
        rtm::NEWADDR
        | rtm::NEWROUTE
        | rtm::NEWRULE
        | rtm::NEWNEIGH
        | rtm::NEWQDISC
        | rtm::NEWTUNNEL => "add",
        _ => "remove",
    }
}
