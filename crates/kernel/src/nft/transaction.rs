//! Changes as one transaction: all of them happen, or none.

use net::Change;
use net::nft::{Chain, Element, Key, Object};

use super::element::{put_element, put_element_key};
use super::message::{
    batch_header, put_chain, put_chain_name, put_rule, put_rules_name, put_set, put_set_name,
    put_table, put_table_name,
};
use super::uapi::{BATCH_BEGIN, BATCH_END, SUBSYSTEM, msg};
use super::{holds, unsupported};
use crate::attribute::Writer;
use crate::error::{Error, ErrorKind, Result};
use crate::netlink::{Socket, flag, frame};

/// What came of a transaction: for each change whether there was anything to do (to delete what is not
/// there is nothing). On failure nothing has changed, and the change that the kernel refused is named
/// by its place.
pub(crate) type Outcome = Result<Vec<bool>, (usize, Error)>;

/// Makes `changes` in one transaction.
pub(crate) fn apply(socket: &mut Socket, changes: &[&Change]) -> Outcome {
    let mut requests = Requests::default();
    for (place, change) in changes.iter().enumerate() {
        // A chain that is right already is not written again: the next process that closes its
        // socket would wait some 10 ms until the old rules are reclaimed. What is there says
        // nothing, though, about what is left once an earlier change has deleted something.
        let stays = |earlier: &&Change| matches!(earlier, Change::Create(_) | Change::Ensure(_));
        if let Change::Ensure(net::Object::Nft(Object::Chain(chain))) = change
            && changes[..place].iter().all(stays)
            && holds(socket, chain).map_err(|error| (place, error.during(describe(change))))?
        {
            continue;
        }
        requests
            .put(place, change)
            .map_err(|refusal| (place, Error::text(describe(change), ErrorKind::Other, refusal)))?;
    }
    let mut requests = requests.0;
    requests.retain(|request| request.get.is_none_or(|get| is_there(socket, get, request)));
    while !requests.is_empty() {
        let failures = send(socket, &requests).map_err(|error| (0, error))?;
        // A transaction fails as a whole if something that it deletes has just gone, so the rest
        // is sent again without that.
        let is_gone = |(at, error): &(usize, Error)| {
            requests[*at].is_delete() && error.raw_errno() == Some(libc::ENOENT)
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

/// Asks whether there is what `request` deletes. That costs some microseconds; a transaction that
/// fails costs milliseconds, because the kernel waits until nobody looks at what it takes back.
fn is_there(socket: &mut Socket, get: u16, request: &Request) -> bool {
    let answer = socket.request(SUBSYSTEM << 8 | get, 0, request.message.bytes(), |_| ());
    answer.map_or_else(|error| error.raw_errno() != Some(libc::ENOENT), |()| true)
}

/// Sends one transaction. Returns which requests were refused, in order.
pub(super) fn send(socket: &mut Socket, requests: &[Request]) -> Result<Vec<(usize, Error)>> {
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
pub(super) struct Request {
    /// The change that it is part of.
    place: usize,
    kind: u16,
    flags: u16,
    message: Writer,
    /// The type under which the same message asks for what this one deletes.
    get: Option<u16>,
}

impl Request {
    fn is_delete(&self) -> bool {
        matches!(self.kind, msg::DELTABLE | msg::DELCHAIN | msg::DELSET | msg::DELSETELEM)
    }
}

impl Request {
    /// A deletion that stands for itself.
    pub(super) fn delete(kind: u16, message: Writer) -> Self {
        Self { place: 0, kind, flags: 0, message, get: None }
    }
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
            Change::Replace { from, to: net::Object::Nft(to) }
                if let net::Object::Nft(from) = &**from =>
            {
                match (from, to) {
                    (Object::Chain(from), Object::Chain(chain)) if from.base == chain.base => {
                        self.add(place, to, flag::CREATE)
                    }
                    (Object::Table(from), Object::Table(table))
                        if from.comment == table.comment =>
                    {
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
        let (kind, get, message) = match object {
            Object::Table(table) => (msg::DELTABLE, Some(msg::GETTABLE), put_table_name(&table.id)),
            Object::Chain(chain) => (msg::DELCHAIN, Some(msg::GETCHAIN), put_chain_name(chain)),
            Object::Set(set) => {
                (msg::DELSET, Some(msg::GETSET), put_set_name(&set.table, &set.name))
            }
            Object::Element(Element { table, set, key, .. }) => {
                // Where intervals adjoin, Linux 6.18 denies some that are there.
                let get = (!matches!(key, Key::Interval(..))).then_some(msg::GETSETELEM);
                (msg::DELSETELEM, get, put_element_key(table, set, key)?)
            }
        };
        self.0.push(Request { place, kind, flags: 0, message, get });
        Ok(())
    }

    fn push(&mut self, place: usize, kind: u16, flags: u16, message: Writer) {
        self.0.push(Request { place, kind, flags, message, get: None });
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
/// own for the commonest surprises: what should be shared is there, but made differently, or
/// something that is named is not there.
fn explain(change: &Change, kind: u16, error: Error) -> Error {
    let words = match (change, kind, error.raw_errno()) {
        (Change::Ensure(_), msg::NEWCHAIN, Some(libc::EOPNOTSUPP)) => {
            "it is there with another hook or priority, or the kernel has no such hook"
        }
        (Change::Ensure(_), _, Some(libc::EEXIST | libc::EBUSY)) => {
            "it is there, but not as it should be"
        }
        (_, msg::NEWRULE, Some(libc::ENOENT)) => {
            "a rule names a set or a chain that is not there, or the kernel lacks what it does"
        }
        (_, msg::NEWSETELEM, Some(libc::ENOENT)) => {
            "there is no such set, or not the chain that it leads to"
        }
        _ => return error.during(describe(change)),
    };
    let errno = error.raw_errno().unwrap_or_default();
    Error::errno(describe(change), errno, Some(words.to_owned()))
}

#[cfg(test)]
mod tests {
    use net::nft::{
        Base, ChainKind, Family, Field, Hook, KeyType, MapValue, Mapped, Policy, Rule, Set,
        SetFlags, Statement, Table, TableId, Value, Verdict,
    };
    use netlink_packet_core::{Emitable, NetlinkBuffer, NetlinkMessage, Parseable};
    use netlink_packet_netfilter::NetfilterMessage;

    use super::*;

    /// Another codec reads every message, and writes it as it was. (It does not know the parts of
    /// a concatenation of intervals.)
    #[test]
    fn another_codec_agrees() {
        let table = TableId::new(Family::Inet, "podwire_cni");
        let map = Set {
            table: table.clone(),
            name: "masquerade4".to_owned(),
            key: vec![KeyType::Ipv4Addr],
            value: Some(MapValue::Verdict),
            flags: SetFlags::default(),
            comment: Some("pods".to_owned()),
        };
        let chain = Chain {
            table: table.clone(),
            name: "postrouting".to_owned(),
            base: Some(Base {
                kind: ChainKind::Nat,
                hook: Hook::Postrouting,
                priority: 100,
                policy: Policy::Accept,
                devices: Vec::new(),
            }),
            rules: vec![Rule {
                statements: vec![
                    Statement::within(Field::IpDestination, "224.0.0.0/4".parse().unwrap()),
                    Statement::lookup([Field::InputName], "names"),
                    Statement::vmap([Field::IpSource], "masquerade4"),
                    Verdict::Jump("other".to_owned()).into(),
                ],
                comment: Some("of IPv4".to_owned()),
            }],
        };
        let address = |last| Value::Address([10, 1, 0, last].into());
        let element = Element {
            table: table.clone(),
            set: "masquerade4".into(),
            key: Key::Point(vec![address(2)]),
            value: Some(Mapped::Verdict(Verdict::Goto("other".to_owned()))),
            comment: Some("cbr0".to_owned()),
        };
        let interval = Element {
            key: Key::Interval(vec![address(2)], vec![address(9)]),
            value: None,
            ..element.clone()
        };
        let objects: [net::Object; 5] = [
            Table { comment: Some("of the plugins".to_owned()), ..Table::new(table) }.into(),
            map.into(),
            chain.into(),
            element.into(),
            interval.into(),
        ];
        let mut requests = Requests::default();
        for object in objects {
            requests.put(0, &Change::Ensure(object.clone())).unwrap();
            requests.put(0, &Change::Delete(object)).unwrap();
        }
        assert_eq!(requests.0.len(), 12);
        for request in requests.0 {
            let kind = SUBSYSTEM << 8 | request.kind;
            let ours = frame(kind, flag::REQUEST, 1, request.message.bytes());
            let buffer = NetlinkBuffer::new_checked(&ours).unwrap();
            let read = NetlinkMessage::<NetfilterMessage>::parse(&buffer).unwrap();
            assert!(!format!("{read:?}").contains("Other"), "{read:?}");
            let mut theirs = vec![0; read.buffer_len()];
            read.emit(&mut theirs);
            assert_eq!(ours, theirs, "{read:?}");
        }
    }
}
