//! Changes that are one message of rtnetlink: what is sent for them, and what the answer means.

use net::{Change, Fdb, Object, Vni};

use super::misplaced;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Handle;
use crate::netlink::flag;
use crate::rtnetlink::{self, rtm};

/// What is to be done with an object by one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Create,
    Replace,
    Delete,
}

/// A change that is one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    verb: Verb,
    object: &'a Object,
    /// The refusal that says that there was nothing to do.
    moot: Option<ErrorKind>,
}

/// That message.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) payload: Vec<u8>,
}

impl<'a> Wish<'a> {
    /// `None` for a change that takes more than one message, or another way.
    pub(super) fn of(change: &'a Change) -> Option<Self> {
        let (verb, object, moot) = match change {
            Change::Create(object) => (Verb::Create, object, None),
            // These have one state for a key, so that what is there can be written over.
            Change::Ensure(object @ (Object::Neighbour(_) | Object::Fdb(_) | Object::Qdisc(_))) => {
                (Verb::Replace, object, None)
            }
            Change::Ensure(object) => (Verb::Create, object, Some(ErrorKind::Exists)),
            Change::Replace { to, .. } => (Verb::Replace, to, None),
            Change::Delete(object) => (Verb::Delete, object, Some(ErrorKind::NotFound)),
            Change::Act(_) => return None,
        };
        let is_one = match object {
            Object::Address(_)
            | Object::Route(_)
            | Object::Rule(_)
            | Object::Neighbour(_)
            | Object::Fdb(_)
            | Object::Vni(_)
            | Object::Qdisc(_) => true,
            Object::Netns(_)
            | Object::Link(_)
            | Object::Sysctl(_)
            | Object::Nft(_)
            | Object::Tracked(_)
            | Object::File(_) => false,
        };
        is_one.then_some(Self { verb, object, moot })
    }

    /// Whether its message can be sent with others: whether what is there need not be looked at
    /// first, and the kernel's answer is all there is to know.
    pub(super) fn goes_with_others(&self) -> bool {
        match self.object {
            Object::Qdisc(_) => false,
            Object::Vni(_) => self.verb == Verb::Delete,
            _ => true,
        }
    }

    /// Sends the message by itself; `false` if there was nothing to do.
    pub(super) fn fulfil(&self, handle: &mut Handle) -> Result<bool> {
        let answer = self.request(handle).and_then(|request| {
            let Request { kind, flags, payload } = request;
            handle
                .route()
                .request(kind, flags, &payload, |_| {})
                .map_err(|error| error.during(self.describe()))
        });
        self.meaning(answer)
    }

    /// What an answer to the message, or a refusal to make it, says: `false` if there was nothing to
    /// do.
    pub(super) fn meaning(&self, answer: Result<()>) -> Result<bool> {
        match answer {
            Ok(()) => Ok(true),
            Err(error) if Some(error.kind()) == self.moot => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The message, with the indices of the devices that it names.
    pub(super) fn request(&self, handle: &mut Handle) -> Result<Request> {
        let new = match self.verb {
            Verb::Create => flag::CREATE | flag::EXCLUSIVE,
            Verb::Replace => flag::CREATE | flag::REPLACE,
            Verb::Delete => 0,
        };
        let deletes = self.verb == Verb::Delete;
        let kind = |add, remove| if deletes { remove } else { add };
        let (kind, flags, payload) = match self.object {
            Object::Address(it) => {
                let index = handle.index(&it.link)?;
                let payload = rtnetlink::address::request(it, index);
                (kind(rtm::NEWADDR, rtm::DELADDR), new, payload)
            }
            Object::Route(it) => {
                let index = it.link.as_ref().map(|name| handle.index(name)).transpose()?;
                // A second route to the same destination stands beside the first, as the reference
                // plugins' routes do, and before it, so that what was made is in force: without a flag
                // that says otherwise. An identical one is still refused.
                let flags = match self.verb {
                    Verb::Create => flag::CREATE,
                    Verb::Replace | Verb::Delete => new,
                };
                let payload = rtnetlink::route::request(it, index.unwrap_or_default());
                (kind(rtm::NEWROUTE, rtm::DELROUTE), flags, payload)
            }
            Object::Rule(it) if self.verb != Verb::Replace => {
                (kind(rtm::NEWRULE, rtm::DELRULE), new, rtnetlink::rule::request(it))
            }
            Object::Neighbour(it) => {
                let index = handle.index(&it.link)?;
                let payload = rtnetlink::neighbour::request(it, index);
                (kind(rtm::NEWNEIGH, rtm::DELNEIGH), new, payload)
            }
            Object::Fdb(it) => {
                let index = handle.index(&it.link)?;
                let payload = rtnetlink::neighbour::fdb_request(it, index);
                (kind(rtm::NEWNEIGH, rtm::DELNEIGH), new, payload)
            }
            Object::Vni(it) if self.verb != Verb::Replace => {
                let index = handle.index(&it.link)?;
                if !deletes && self.is_taken(handle, it, index)? {
                    return Err(Error::errno(self.describe(), libc::EEXIST, None));
                }
                (kind(rtm::NEWTUNNEL, rtm::DELTUNNEL), 0, rtnetlink::vni::request(it, index))
            }
            Object::Qdisc(it) => {
                let index = handle.index(&it.link)?;
                let payload = match deletes {
                    true => rtnetlink::qdisc::delete(index),
                    false => rtnetlink::qdisc::request(it, index),
                };
                (kind(rtm::NEWQDISC, rtm::DELQDISC), new, payload)
            }
            other => return Err(misplaced(other)),
        };
        Ok(Request { kind, flags, payload })
    }

    /// Whether a tunnel end takes packets of a network already: the kernel would take a second
    /// wish for a change of the first.
    fn is_taken(&self, handle: &mut Handle, wanted: &Vni, index: u32) -> Result<bool> {
        let mut found = false;
        let all = rtnetlink::vni::all(index);
        let answer = handle.route().dump(rtm::GETTUNNEL, &all, |message| {
            let mut read = rtnetlink::vni::parse(message.payload).into_iter().flatten();
            found |= read.any(|entry| entry == (index, wanted.vni));
        });
        answer.map_err(|error| error.during(self.describe()))?;
        Ok(found)
    }

    /// What is tried, for an error.
    pub(super) fn describe(&self) -> String {
        let verb = match self.verb {
            Verb::Create | Verb::Replace => "add",
            Verb::Delete => "remove",
        };
        match self.object {
            Object::Address(it) => format!("{verb} address {} on {}", it.address, it.link),
            Object::Route(it) => {
                let via = it.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
                let dev = it.link.as_ref().map(|link| format!(" dev {link}")).unwrap_or_default();
                format!("{verb} route {}{via}{dev}", it.destination)
            }
            Object::Rule(it) => format!("{verb} rule {} to table {}", it.priority, it.table),
            Object::Neighbour(it) => format!("{verb} neighbour {} on {}", it.address, it.link),
            Object::Fdb(Fdb { mac, link, .. }) => {
                format!("{verb} forwarding entry {mac} on {link}")
            }
            Object::Vni(it) => format!("{verb} virtual network {} on {}", it.vni, it.link),
            Object::Qdisc(it) => format!("{verb} queueing on {}", it.link),
            other => format!("{verb} {other:?}"),
        }
    }
}
