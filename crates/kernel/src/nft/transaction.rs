//! Changes as one transaction: all of them happen, or none.

use net::Change;
use net::nft::{Chain, Object};

use super::element::{put_element, put_element_key};
use super::message::{
    batch_header, put_chain, put_chain_name, put_rule, put_rules_name, put_set, put_set_name,
    put_table, put_table_name,
};
use super::uapi::{BATCH_BEGIN, BATCH_END, SUBSYSTEM, msg};
use super::unsupported;
use crate::attribute::Writer;
use crate::error::{Error, ErrorKind, Result};
use crate::netlink::{Socket, flag, frame};

/// Makes `changes` in one transaction. Returns for each whether there was anything to do: to delete
/// what is not there is nothing. On failure nothing has changed, and the change that the kernel
/// refused is named by its place.
pub(crate) fn apply(socket: &mut Socket, changes: &[&Change]) -> Result<Vec<bool>, (usize, Error)> {
    let mut requests = Requests::default();
    for (place, change) in changes.iter().enumerate() {
        requests
            .put(place, change)
            .map_err(|refusal| (place, Error::text(describe(change), ErrorKind::Other, refusal)))?;
    }
    let mut requests = requests.0;
    while !requests.is_empty() {
        let failures = send(socket, &requests).map_err(|error| (0, error))?;
        // A transaction fails as a whole if something that it deletes is gone already, so the
        // rest is sent again without that.
        let is_gone = |(at, error): &(usize, Error)| {
            requests[*at].is_delete && error.raw_errno() == Some(libc::ENOENT)
        };
        let mut gone = Vec::new();
        for failure in failures {
            if !is_gone(&failure) {
                let Request { place, kind, .. } = requests[failure.0];
                return Err((place, explain(changes[place], kind, failure.1)));
            }
            gone.push(failure.0);
        }
        if gone.is_empty() {
            break;
        }
        let mut at = 0..;
        requests.retain(|_| at.next().is_none_or(|at| !gone.contains(&at)));
    }
    let mut done = vec![false; changes.len()];
    requests.iter().for_each(|request| done[request.place] = true);
    Ok(done)
}

/// Sends one transaction. Returns which requests were refused, in order.
fn send(socket: &mut Socket, requests: &[Request]) -> Result<Vec<(usize, Error)>> {
    let count = requests.len() as u32;
    let begin = socket.next_sequences(count + 2);
    let mut bytes = frame(BATCH_BEGIN, flag::REQUEST, begin, &batch_header());
    for (sequence, request) in (begin + 1..).zip(requests) {
        // One acknowledgement, for the last request, says that all went well. What is refused
        // is told in any case.
        let ack = if sequence == begin + count { flag::ACK } else { 0 };
        let flags = request.flags | flag::REQUEST | ack;
        let kind = SUBSYSTEM << 8 | request.kind;
        bytes.extend(frame(kind, flags, sequence, request.message.bytes()));
    }
    bytes.extend(frame(BATCH_END, flag::REQUEST, begin + count + 1, &batch_header()));
    let failures = socket.transact(&bytes, begin..=begin + count)?;
    let mut refused = Vec::with_capacity(failures.len());
    for (sequence, error) in failures {
        if sequence == begin {
            return Err(unsupported(error).during("make an nft transaction"));
        }
        refused.push(((sequence - begin - 1) as usize, error));
    }
    Ok(refused)
}

/// One message of a transaction.
struct Request {
    /// The change that it is part of.
    place: usize,
    kind: u16,
    flags: u16,
    message: Writer,
    is_delete: bool,
}

#[derive(Default)]
struct Requests(Vec<Request>);

impl Requests {
    /// Adds what `change` asks for, or says why it makes no sense.
    fn put(&mut self, place: usize, change: &Change) -> Result<(), String> {
        const NEW: u16 = flag::CREATE | flag::EXCLUSIVE;
        match change {
            Change::Create(net::Object::Nft(object)) => self.add(place, object, NEW),
            Change::Ensure(net::Object::Nft(object)) => self.add(place, object, flag::CREATE),
            Change::Delete(net::Object::Nft(object)) => self.delete(place, object),
            Change::Replace { from: net::Object::Nft(from), to: net::Object::Nft(to) } => {
                match (from, to) {
                    (Object::Chain(from), Object::Chain(chain)) if from.base == chain.base => {
                        self.add(place, to, flag::CREATE)
                    }
                    _ => {
                        self.delete(place, from)?;
                        self.add(place, to, NEW)
                    }
                }
            }
            _ => Err("it is no change to nftables".to_owned()),
        }
    }

    fn add(&mut self, place: usize, object: &Object, flags: u16) -> Result<(), String> {
        let (kind, message) = match object {
            Object::Table(table) => (msg::NEWTABLE, put_table(table)?),
            Object::Chain(chain) => return self.add_chain(place, chain, flags),
            Object::Set(set) => (msg::NEWSET, put_set(set, self.0.len() as u32)?),
            Object::Element(element) => (msg::NEWSETELEM, put_element(element)?),
        };
        self.push(place, kind, flags, message);
        Ok(())
    }

    /// Makes the chain, empties it if it may have been there, and fills it. Jumps to it keep
    /// working throughout, because nobody sees the parts of a transaction.
    fn add_chain(&mut self, place: usize, chain: &Chain, flags: u16) -> Result<(), String> {
        self.push(place, msg::NEWCHAIN, flags, put_chain(chain)?);
        if flags & flag::EXCLUSIVE == 0 {
            self.push(place, msg::DELRULE, 0, put_rules_name(chain));
        }
        for rule in &chain.rules {
            let flags = flag::CREATE | flag::APPEND;
            self.push(place, msg::NEWRULE, flags, put_rule(chain, rule)?);
        }
        Ok(())
    }

    fn delete(&mut self, place: usize, object: &Object) -> Result<(), String> {
        let (kind, message) = match object {
            Object::Table(table) => (msg::DELTABLE, put_table_name(&table.id)),
            Object::Chain(chain) => (msg::DELCHAIN, put_chain_name(chain)),
            Object::Set(set) => (msg::DELSET, put_set_name(&set.table, &set.name)),
            Object::Element(it) => (msg::DELSETELEM, put_element_key(&it.table, &it.set, &it.key)?),
        };
        self.0.push(Request { place, kind, flags: 0, message, is_delete: true });
        Ok(())
    }

    fn push(&mut self, place: usize, kind: u16, flags: u16, message: Writer) {
        self.0.push(Request { place, kind, flags, message, is_delete: false });
    }
}

/// What was tried: `create nft element 10.1.0.2 in inet podwire_cni masquerade4`.
fn describe(change: &Change) -> String {
    match change {
        Change::Create(net::Object::Nft(object)) => format!("create {object}"),
        Change::Ensure(net::Object::Nft(object)) => format!("ensure {object}"),
        Change::Delete(net::Object::Nft(object)) => format!("delete {object}"),
        Change::Replace { to: net::Object::Nft(object), .. } => format!("replace {object}"),
        _ => "change nftables".to_owned(),
    }
}

/// The kernel's refusal of the part of `change` that is a message of `kind`. It has no words of its
/// own for the commonest surprise: what should be shared is there, but made differently.
fn explain(change: &Change, kind: u16, error: Error) -> Error {
    let words = match (change, kind, error.raw_errno()) {
        (Change::Ensure(_), msg::NEWCHAIN, Some(libc::EOPNOTSUPP)) => {
            "it is there with another hook or priority, or the kernel has no such hook"
        }
        (Change::Ensure(_), _, Some(libc::EEXIST | libc::EBUSY)) => {
            "it is there, but not as it should be"
        }
        _ => return error.during(describe(change)),
    };
    let errno = error.raw_errno().unwrap_or_default();
    Error::errno(describe(change), errno, Some(words.to_owned()))
}
