//! Everything of a namespace that a person could want to know, in one visit; what cannot be read is
//! told beside the rest, and never taken for what is not there.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use net::Space;
use rustix::fs::{Mode, OFlags};

use crate::dump::{Dump, Link};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::Kernel;
use crate::netlink::{Message, Socket};
use crate::nft;
use crate::observe::{all_rules, collect, without_nftables};
use crate::rtnetlink::{self, AF_BRIDGE, rtm};
use crate::sockets::{Listening, listening};

/// All of one namespace.
#[derive(Debug, Default)]
pub struct Survey {
    /// What [`Kernel::dump`] tells, with counters.
    pub dump: Dump,
    /// Settings below `/proc/sys`, as sysctl(8) writes their names.
    pub settings: BTreeMap<String, String>,
    /// Sockets that wait for others.
    pub listening: Vec<Listening>,
    /// Tables of iptables-legacy, ip6tables-legacy and arptables-legacy that are in use, with the
    /// family in front: `ip nat`.
    pub legacy_tables: Vec<String>,
    /// What could not be read.
    pub failures: Vec<Error>,
}

/// Settings of a namespace, below `/proc/sys/net`. Those of each device come with the device.
const SETTINGS: [&str; 24] = [
    "ipv4/ip_forward",
    "ipv4/ip_forward_use_pmtu",
    "ipv4/conf/all/forwarding",
    "ipv4/conf/all/rp_filter",
    "ipv4/conf/all/proxy_arp",
    "ipv4/conf/all/route_localnet",
    "ipv4/conf/all/accept_local",
    "ipv4/conf/all/arp_ignore",
    "ipv4/conf/all/arp_announce",
    "ipv4/conf/all/src_valid_mark",
    "ipv4/conf/default/rp_filter",
    "ipv4/conf/default/forwarding",
    "ipv4/conf/default/route_localnet",
    "ipv6/conf/all/forwarding",
    "ipv6/conf/all/disable_ipv6",
    "ipv6/conf/all/accept_ra",
    "ipv6/conf/default/disable_ipv6",
    "ipv6/conf/default/accept_ra",
    "ipv6/conf/default/accept_dad",
    "bridge/bridge-nf-call-iptables",
    "bridge/bridge-nf-call-ip6tables",
    "bridge/bridge-nf-call-arptables",
    "netfilter/nf_conntrack_count",
    "netfilter/nf_conntrack_max",
];

impl Kernel {
    /// Looks at everything in `space`.
    pub fn survey(&mut self, space: &Space) -> Result<Survey> {
        let mut survey = self.inside(space, || {
            let mut survey = Survey::default();
            survey.read_settings();
            survey.read_legacy_tables();
            survey
        })?;
        let (home, handle) = self.handle(space)?;
        survey.read_network(handle.route());
        match handle.netfilter(home) {
            Ok(socket) => survey.read_nft(socket),
            Err(error) => survey.failures.push(error),
        }
        match handle.diagnosis(home).and_then(|mut socket| listening(&mut socket)) {
            Ok(found) => survey.listening = found,
            Err(error) if error.kind() == ErrorKind::Unsupported => {}
            Err(error) => survey.failures.push(error.during("list listening sockets")),
        }
        Ok(survey)
    }
}

impl Survey {
    /// Settings that a namespace or a kernel does not have are no failures.
    ///
    /// Each directory is opened once, and files relative to it: the kernel remembers those of all
    /// namespaces under one name, and looks through all of them for the one of this namespace.
    fn read_settings(&mut self) {
        let mut directory: Option<(&str, io::Result<OwnedFd>)> = None;
        for key in SETTINGS {
            let Some((name, file)) = key.split_once('/') else { continue };
            let (_, opened) = match directory.take().filter(|(known, _)| *known == name) {
                Some(known) => directory.insert(known),
                None => directory.insert((name, open_settings(name))),
            };
            let read = match opened {
                Ok(opened) => read_setting(opened, file),
                Err(error) => Err(io::Error::from(error.kind())),
            };
            match read {
                Ok(value) => {
                    self.settings.insert(format!("net.{}", key.replace('/', ".")), value);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.failures.push(Error::io(format!("read net/{key}"), &error)),
            }
        }
    }

    fn read_legacy_tables(&mut self) {
        for (family, file) in [("ip", "ip"), ("ip6", "ip6"), ("arp", "arp")] {
            let path = format!("/proc/thread-self/net/{file}_tables_names");
            match fs::read_to_string(&path) {
                Ok(names) => {
                    self.legacy_tables.extend(names.lines().map(|name| format!("{family} {name}")));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.failures.push(Error::io(format!("read {path}"), &error)),
            }
        }
        self.legacy_tables.sort();
    }

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

    /// Devices with their counters, and their settings.
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
}

fn open_settings(name: &str) -> io::Result<OwnedFd> {
    let path = Path::new("/proc/sys/net").join(name);
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Asks once where `read_to_string` asks four times: the kernel tells a setting as a whole. What fills
/// the room may go on.
fn read_setting(directory: &OwnedFd, file: &str) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut opened = fs::File::from(rustix::fs::openat(directory, file, flags, Mode::empty())?);
    let mut room = [0; 256];
    let length = opened.read(&mut room)?;
    let mut text = String::from_utf8_lossy(&room[..length]).into_owned();
    if length == room.len() {
        opened.read_to_string(&mut text)?;
    }
    Ok(text.trim_end().replace('\t', " "))
}

/// A device's setting as sysctl(8) writes it, with a slash for a dot in the device's name.
fn setting_of(link: &Link, family: &str, setting: &str) -> String {
    format!("net.{family}.conf.{}.{setting}", link.name.replace('.', "/"))
}
