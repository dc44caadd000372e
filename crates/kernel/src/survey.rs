//! Everything of a namespace that a person could want to know, in one visit; what cannot be read is
//! told beside the rest, and never taken for what is not there.

mod files;

use std::collections::BTreeMap;

use net::nft::{NatKind, Object, Statement};
use net::{Space, Tracked};

pub(crate) use self::files::Directory;
use crate::conntrack;
use crate::dump::{Dump, Link};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::Kernel;
use crate::netlink::{Message, Socket};
use crate::nft;
use crate::observe::{all_rules, collect, without_nftables};
use crate::rtnetlink::{self, AF_BRIDGE, AF_INET, AF_INET6, rtm};
use crate::sockets::{Listening, Transport, listening};

/// All of one namespace.
#[derive(Debug, Default)]
pub struct Survey {
    /// What [`Kernel::dump`] tells, with counters.
    pub dump: Dump,
    /// Settings below `/proc/sys`, as sysctl(8) writes their names.
    pub settings: BTreeMap<String, String>,
    /// How many connections it tracks; `None` for a kernel that tracks none.
    pub connections: Option<u64>,
    /// Flows of datagrams that are led elsewhere and were answered once: one for each address and port
    /// that is sent to and each that this is led to, where rules are seen that lead.
    pub tracked: Vec<Tracked>,
    /// Sockets that wait for others.
    pub listening: Vec<Listening>,
    /// Tables of iptables-legacy, ip6tables-legacy and arptables-legacy that are in use, with the
    /// family in front: `ip nat`.
    pub legacy_tables: Vec<String>,
    /// What could not be read.
    pub failures: Vec<Error>,
}

impl Kernel {
    /// Looks at everything in `space`.
    pub fn survey(&mut self, space: &Space) -> Result<Survey> {
        let mut survey = Survey::default();
        let settings = self.settings.take().or_else(|| survey.open_settings());
        let (home, handle) = self.handle(space)?;
        survey.read_network(handle.route());
        let in_use = handle.inside(home, || {
            settings.as_ref().into_iter().for_each(|it| survey.read_settings(it));
            survey.read_counts()
        })?;
        match handle.netfilter(home) {
            Ok(socket) => {
                survey.read_nft(socket);
                survey.read_tracked(socket);
            }
            Err(error) => survey.failures.push(error),
        }
        let wanted = Transport::ALL.into_iter().filter(|it| !in_use.is_none_of(it.name));
        match listening(wanted, || handle.diagnosis(home)) {
            Ok(found) => survey.listening = found,
            Err(error) if error.kind() == ErrorKind::Unsupported => {}
            Err(error) => survey.failures.push(error.during("list listening sockets")),
        }
        self.settings = settings;
        Ok(survey)
    }
}

impl Survey {
    fn read_network(&mut self, socket: &mut Socket) {
        self.read_links(socket);
        let Self { dump, failures, .. } = self;
        fn keep<T: Default>(failures: &mut Vec<Error>, what: &str, read: Result<T>) -> T {
            read.unwrap_or_else(|error| {
                failures.push(error.during(what));
                T::default()
            })
        }
        let request = rtnetlink::address::all(0);
        let read = collect(socket, rtm::GETADDR, &request, rtnetlink::address::parse);
        dump.addresses = keep(failures, "list addresses", read);
        let request = rtnetlink::route::all();
        let read = collect(socket, rtm::GETROUTE, &request, rtnetlink::route::parse);
        dump.routes = keep(failures, "list routes", read);
        dump.rules = keep(failures, "list policy rules", all_rules(socket));
        for (family, what) in [(0, "list neighbours"), (AF_BRIDGE, "list forwarding entries")] {
            let request = rtnetlink::neighbour::all(family);
            let parse = rtnetlink::neighbour::parse;
            let read = collect(socket, rtm::GETNEIGH, &request, parse);
            dump.neighbours.extend(keep(failures, what, read));
        }
        if dump.links.values().any(|link| link.vxlan.is_some_and(|it| it.filtered)) {
            let request = rtnetlink::vni::all(0);
            let read = collect(socket, rtm::GETTUNNEL, &request, rtnetlink::vni::parse);
            let read = keep(failures, "list virtual networks", read);
            dump.vnis = read.into_iter().flatten().collect();
        }
        let request = rtnetlink::qdisc::all();
        let read = collect(socket, rtm::GETQDISC, &request, rtnetlink::qdisc::parse);
        dump.qdiscs = keep(failures, "list queueing disciplines", read);
    }

    /// Devices with their counters, and their settings, each's and those of all together.
    fn read_links(&mut self, socket: &mut Socket) {
        let Self { dump, settings, failures, .. } = self;
        let request = rtnetlink::link::all_with_counters();
        let read = socket.dump(rtm::GETLINK, &request, |message: Message<'_>| {
            let Some(link) = rtnetlink::link::parse(message.payload) else { return };
            for (family, setting, value) in rtnetlink::link::settings(message.payload) {
                settings.insert(setting_of(&link, family, setting), value.to_string());
            }
            dump.links.insert(link.index, link);
        });
        failures.extend(read.err().map(|error| error.during("list devices")));
        for family in [AF_INET, AF_INET6] {
            let request = rtnetlink::netconf::all(family);
            let read = socket.get(rtm::GETNETCONF, &request, |message| {
                let told = rtnetlink::netconf::parse(message.payload).into_iter();
                settings.extend(told.map(|(key, value)| (key.to_owned(), value.to_string())));
            });
            match read {
                // A kernel without IPv6.
                Err(error) if error.kind() == ErrorKind::Unsupported => {}
                read => failures.extend(read.err().map(|error| error.during("read settings"))),
            }
        }
    }

    fn read_nft(&mut self, socket: &mut Socket) {
        match without_nftables(nft::survey(socket)) {
            Ok((objects, opaque)) => {
                self.dump.nft = objects;
                self.dump.opaque = opaque;
            }
            Err(error) => self.failures.push(error),
        }
    }

    /// Each look takes the kernel through its whole table, so that where nothing leads elsewhere none
    /// is taken.
    fn read_tracked(&mut self, socket: &mut Socket) {
        let leads = |it: &Statement| match it {
            Statement::Nat(nat) => nat.kind == NatKind::Dnat,
            _ => false,
        };
        let is_led = self.dump.nft.iter().any(|object| match object {
            Object::Chain(chain) => chain.rules.iter().flat_map(|it| &it.statements).any(leads),
            _ => false,
        });
        let is_unseen = || {
            let mut legacy = self.legacy_tables.iter();
            !self.dump.opaque.is_empty() || legacy.any(|table| table.ends_with(" nat"))
        };
        if is_led || is_unseen() {
            match conntrack::tracked::led(socket) {
                Ok(tracked) => self.tracked = tracked,
                Err(error) => self.failures.push(error),
            }
        }
    }
}

/// A device's setting as sysctl(8) writes it, with a slash for a dot in the device's name.
fn setting_of(link: &Link, family: &str, setting: &str) -> String {
    format!("net.{family}.conf.{}.{setting}", link.name.replace('.', "/"))
}
