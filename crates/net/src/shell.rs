//! A plan in the words of a shell: `ip`, `bridge`, `tc`, `ethtool`, `nft`, `sysctl`, as a person would
//! type it.

#[cfg(test)]
mod tests;

use std::fmt::Write;

use ipnet::IpNet;

use crate::change::{Action, Change, File, Flow, Sysctl, Tracked};
use crate::nft;
use crate::{
    Address, Encap, Fdb, Link, LinkKind, LinkName, Neighbour, Object, PROTOCOL_BOOT, Peer, Plan,
};
use crate::{MAIN_TABLE, Mac, Qdisc, QdiscKind, Route, RouteKind, Rule, Scope, Space, Step};
use crate::{Vni, Vxlan, VxlanForm};

/// The commands that make one step, in order; a comment for what no common command does.
pub fn shell(step: &Step) -> Vec<String> {
    commands(&step.space, &step.change, false)
}

/// A script for `sh` that makes the whole plan and stops at the first failure. As in the plan, what
/// is shared may be there already, and what is deleted may be gone already.
pub fn script(plan: &Plan) -> String {
    let mut text = String::from("#!/bin/sh\nset -eu\n");
    let mut rest = &plan[..];
    while let Some(step) = rest.first() {
        let space = &step.space;
        let is_nft =
            |step: &&Step| step.space == *space && !nft::text::command(&step.change).is_empty();
        let run = rest.iter().take_while(is_nft).count();
        if run > 0 {
            // Adjacent nftables changes are one transaction, as in the executor.
            let _ = writeln!(text, "\n{} -f - <<'RULES'", tool(space, "nft"));
            for step in &rest[..run] {
                let _ = writeln!(text, "# {}", step.why);
                for line in nft::text::command(&step.change) {
                    let _ = writeln!(text, "{line}");
                }
            }
            text.push_str("RULES\n");
        } else {
            let _ = writeln!(text, "\n# {}", step.why);
            for command in commands(space, &step.change, true) {
                let _ = writeln!(text, "{command}");
            }
        }
        rest = &rest[run.max(1)..];
    }
    text
}

/// With `guarded`, commands also succeed where the change has nothing to do.
fn commands(space: &Space, change: &Change, guarded: bool) -> Vec<String> {
    let lines = nft::text::command(change);
    if !lines.is_empty() {
        return lines
            .iter()
            .map(|line| format!("{} {}", tool(space, "nft"), quote(line)))
            .collect();
    }
    match change {
        Change::Create(object) => create(space, object, "add"),
        Change::Ensure(Object::Link(link)) => ensure_link(space, link, guarded),
        Change::Ensure(object) => create(space, object, "replace"),
        Change::Replace { to: Object::Link(link), .. } => set_link(space, link),
        Change::Replace { to, .. } => create(space, to, "replace"),
        Change::Delete(object) => {
            let guard = if guarded { " || true" } else { "" };
            delete(space, object).into_iter().map(|line| line + guard).collect()
        }
        Change::Act(action) => act(space, action, guarded),
    }
}

fn create(space: &Space, object: &Object, verb: &str) -> Vec<String> {
    let (ip, bridge, tc) = (tool(space, "ip"), tool(space, "bridge"), tool(space, "tc"));
    match object {
        Object::Netns(netns) => match Space::At(netns.path.clone()).name() {
            Some(name) => vec![format!("ip netns add {}", quote(name))],
            None => {
                let path = quote(&netns.path.display().to_string());
                vec![format!("touch {path}"), format!("unshare --net={path} true")]
            }
        },
        Object::Link(link) => {
            let mut lines = vec![add_link(space, link)];
            lines.extend(set_link(space, &link.without_hardware()));
            lines
        }
        Object::Address(it) => vec![format!("{ip} address {verb} {}", address(it))],
        Object::Route(it) => {
            vec![format!("{} route {verb} {}", family(&ip, it.destination), route(it))]
        }
        Object::Rule(it) => vec![format!("{} rule add {}", rule_tool(&ip, it), rule(it))],
        Object::Neighbour(it) => vec![format!("{ip} neighbour {verb} {}", neighbour(it))],
        Object::Fdb(it) => vec![format!("{bridge} fdb {verb} {}", fdb(it))],
        Object::Vni(it) => vec![format!("{bridge} vni add {}", vni(it))],
        Object::Qdisc(it) => vec![format!("{tc} qdisc {verb} {}", qdisc(it))],
        Object::Sysctl(it) => vec![sysctl(space, it)],
        Object::Tracked(it) => {
            let (tool, flow) = (tool(space, "conntrack"), tracked(it));
            let state = "-u ASSURED,SEEN_REPLY -t";
            vec![format!("{tool} -I {flow} -g {} {state} {}", it.led_to, Tracked::SECONDS)]
        }
        Object::File(it) => vec![file(it)],
        Object::Nft(_) => Vec::new(),
    }
}

fn delete(space: &Space, object: &Object) -> Vec<String> {
    let (ip, bridge, tc) = (tool(space, "ip"), tool(space, "bridge"), tool(space, "tc"));
    let line = match object {
        Object::Netns(netns) => match Space::At(netns.path.clone()).name() {
            Some(name) => format!("ip netns delete {}", quote(name)),
            None => {
                let path = quote(&netns.path.display().to_string());
                format!("umount {path} && rm {path}")
            }
        },
        Object::Link(it) => format!("{ip} link delete {}", word(&it.name)),
        Object::Address(it) => format!("{ip} address delete {} dev {}", it.address, word(&it.link)),
        Object::Route(it) => format!("{} route delete {}", family(&ip, it.destination), route(it)),
        Object::Rule(it) => format!("{} rule delete {}", rule_tool(&ip, it), rule(it)),
        Object::Neighbour(it) => {
            format!("{ip} neighbour delete {} dev {}", it.address, word(&it.link))
        }
        Object::Fdb(it) => format!("{bridge} fdb delete {}", fdb(it)),
        Object::Vni(it) => format!("{bridge} vni delete {}", vni(it)),
        Object::Qdisc(it) => format!("{tc} qdisc delete dev {} root", word(&it.link)),
        Object::Tracked(it) => format!("{} -D {}", tool(space, "conntrack"), tracked(it)),
        Object::File(it) => format!("rm {}", quote(&it.path.display().to_string())),
        Object::Sysctl(_) | Object::Nft(_) => return Vec::new(),
    };
    vec![line]
}

fn act(space: &Space, action: &Action, guarded: bool) -> Vec<String> {
    match action {
        Action::WaitUp { link, millis } => {
            let show = format!("{} link show dev {}", tool(space, "ip"), word(link));
            vec![wait(&format!("{show} | grep -q 'state UP'"), *millis)]
        }
        Action::WaitAddresses { link, addresses, millis } => {
            let show = format!("{} address show dev {} tentative", tool(space, "ip"), word(link));
            let one = |to: &str| wait(&format!("[ -z \"$({show}{to})\" ]"), *millis);
            match addresses.as_slice() {
                [] => vec![one("")],
                some => some.iter().map(|address| one(&format!(" to {address}"))).collect(),
            }
        }
        Action::Announce { link, mac } => {
            vec![format!("{} link set {} address {mac}", tool(space, "ip"), word(link))]
        }
        Action::FlushConntrack { addresses } => {
            // `conntrack` also fails when there was nothing to delete.
            let guard = if guarded { " || true" } else { "" };
            let tool = tool(space, "conntrack");
            let ends = ["--orig-src", "--orig-dst", "--reply-src", "--reply-dst"];
            let lines = |a| ends.iter().map(move |end| (end, a));
            let lines = addresses.iter().flat_map(lines);
            lines.map(|(end, a)| format!("{tool} -D {end} {a}{guard}")).collect()
        }
        Action::FlushFlows { flows } => {
            let guard = if guarded { " || true" } else { "" };
            let tool = tool(space, "conntrack");
            let line = |Flow { destination, protocol, port }: &Flow| {
                let family = if destination.addr().is_ipv4() { "ipv4" } else { "ipv6" };
                let to = match destination.prefix_len() {
                    0 => String::new(),
                    _ => format!(" --orig-dst {destination}"),
                };
                format!("{tool} -D -f {family} -p {protocol} --orig-port-dst {port}{to}{guard}")
            };
            flows.iter().map(line).collect()
        }
    }
}

/// How `conntrack` names a flow, by what was sent.
fn tracked(it: &Tracked) -> String {
    let Tracked { protocol, from, to, .. } = it;
    let ends = format!("-s {} -d {}", from.ip(), to.ip());
    format!("-p {protocol} {ends} --sport {} --dport {}", from.port(), to.port())
}

/// A loop that ends when `test` succeeds, and fails after `millis`.
fn wait(test: &str, millis: u32) -> String {
    let tries = millis.div_ceil(50).max(1);
    format!("n=0; until {test}; do n=$((n + 1)); [ $n -lt {tries} ] || exit 1; sleep 0.05; done")
}

fn ensure_link(space: &Space, link: &Link, guarded: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if link.kind.is_some() {
        let add = add_link(space, link);
        let show =
            format!("{} link show dev {} >/dev/null 2>&1", tool(space, "ip"), word(&link.name));
        lines.push(if guarded { format!("{show} || {add}") } else { add });
        lines.extend(set_link(space, &link.without_hardware()));
    } else {
        lines.extend(set_link(space, link));
    }
    lines
}

fn add_link(space: &Space, link: &Link) -> String {
    let mut line = format!("{} link add {}", tool(space, "ip"), word(&link.name));
    line += &hardware(link.mac, link.mtu);
    match &link.kind {
        Some(LinkKind::Bridge) => line += " type bridge",
        Some(LinkKind::Veth { peer }) => {
            let Peer { space: there, name, mac, mtu } = peer.as_ref();
            let name = word(name);
            let _ = write!(line, " type veth peer name {name}{}", hardware(*mac, *mtu));
            match there {
                _ if there == space => {}
                Space::Here => line += " netns 1",
                Space::At(path) => {
                    let place =
                        there.name().map_or_else(|| path.display().to_string(), str::to_owned);
                    let _ = write!(line, " netns {}", quote(&place));
                }
            }
        }
        Some(LinkKind::Vxlan(it)) => {
            let _ = write!(line, " type vxlan {}", vxlan(it));
        }
        Some(LinkKind::Other(kind)) => {
            let _ = write!(line, " type {}", quote(kind));
        }
        None => {}
    }
    line
}

fn vxlan(it: &Vxlan) -> String {
    let form = match &it.form {
        VxlanForm::Classic { vni, underlay, local } => {
            let local = local.map(|local| format!(" local {local}")).unwrap_or_default();
            let dev = underlay.as_ref().map(|link| format!(" dev {}", word(link)));
            format!("id {vni}{local}{} nolearning", dev.unwrap_or_default())
        }
        VxlanForm::External { gpe, filtered } => {
            let words = [("external", true), (" vnifilter", *filtered), (" gpe", *gpe)];
            words.iter().filter(|(_, on)| *on).map(|(word, _)| *word).collect()
        }
    };
    format!("{form} dstport {}", it.port)
}

fn set_link(space: &Space, link: &Link) -> Vec<String> {
    let ip = tool(space, "ip");
    let name = word(&link.name);
    let mut lines = Vec::new();
    let hardware = hardware(link.mac, link.mtu);
    if !hardware.is_empty() {
        lines.push(format!("{ip} link set {name}{hardware}"));
    }
    if let Some(on) = link.promiscuous {
        lines.push(format!("{ip} link set {name} promisc {}", on_off(on)));
    }
    if let Some(on) = link.tx_checksum {
        lines.push(format!("{} -K {name} tx {}", tool(space, "ethtool"), on_off(on)));
    }
    if let Some(master) = &link.master {
        lines.push(format!("{ip} link set {name} master {}", word(master)));
    }
    if link.free {
        lines.push(format!("{ip} link set {name} nomaster"));
    }
    let flags: String = [("hairpin", link.port.hairpin), ("isolated", link.port.isolated)]
        .iter()
        .filter_map(|(flag, value)| value.map(|on| format!(" {flag} {}", on_off(on))))
        .collect();
    if !flags.is_empty() {
        lines.push(format!("{} link set dev {name}{flags}", tool(space, "bridge")));
    }
    if let Some(up) = link.up {
        lines.push(format!("{ip} link set {name} {}", if up { "up" } else { "down" }));
    }
    lines
}

fn hardware(mac: Option<Mac>, mtu: Option<u32>) -> String {
    let mac = mac.map(|mac| format!(" address {mac}")).unwrap_or_default();
    mac + &mtu.map(|mtu| format!(" mtu {mtu}")).unwrap_or_default()
}

fn address(it: &Address) -> String {
    let broadcast = it.broadcast.map(|brd| format!(" broadcast {brd}")).unwrap_or_default();
    let nodad = if it.nodad { " nodad" } else { "" };
    format!("{}{broadcast} dev {}{nodad}", it.address, word(&it.link))
}

fn route(it: &Route) -> String {
    let mut text = match it.kind {
        RouteKind::Unicast => String::new(),
        RouteKind::Blackhole => "blackhole ".to_owned(),
        RouteKind::Unreachable => "unreachable ".to_owned(),
    };
    match it.destination.prefix_len() {
        0 => text += "default",
        _ => {
            let _ = write!(text, "{}", it.destination);
        }
    }
    if let Some(Encap { vni, to, checksum }) = it.encap {
        let kind = if to.is_ipv4() { "ip" } else { "ip6" };
        let checksum = if checksum { " csum" } else { "" };
        let _ = write!(text, " encap {kind} id {vni} dst {to}{checksum}");
    }
    if let Some(gateway) = it.gateway {
        let inet6 =
            if gateway.is_ipv6() && it.destination.addr().is_ipv4() { "inet6 " } else { "" };
        let _ = write!(text, " via {inet6}{gateway}");
    }
    if let Some(link) = &it.link {
        let _ = write!(text, " dev {}", word(link));
    }
    if it.onlink {
        text += " onlink";
    }
    if it.protocol != PROTOCOL_BOOT {
        let _ = write!(text, " proto {}", it.protocol);
    }
    match it.scope {
        Some(Scope::Universe) => text += " scope global",
        Some(scope) => {
            let _ = write!(text, " scope {}", scope.number());
        }
        // `ip` would take link scope for a route without a next hop.
        None if it.gateway.is_none() && it.destination.addr().is_ipv4() => text += " scope global",
        None => {}
    }
    if let Some(source) = it.source {
        let _ = write!(text, " src {source}");
    }
    let numbers = [
        ("metric", it.metric),
        ("table", Some(it.table).filter(|table| *table != MAIN_TABLE)),
        ("mtu", it.mtu),
        ("advmss", it.advmss),
    ];
    for (word, number) in numbers {
        if let Some(number) = number {
            let _ = write!(text, " {word} {number}");
        }
    }
    text
}

fn rule(it: &Rule) -> String {
    let mut text = format!("priority {}", it.priority);
    match it.from {
        Some(from) => {
            let _ = write!(text, " from {from}");
        }
        None => text += " from all",
    }
    if let Some(to) = it.to {
        let _ = write!(text, " to {to}");
    }
    if let Some((mark, mask)) = it.fwmark {
        let _ = write!(text, " fwmark {mark:#x}/{mask:#x}");
    }
    let _ = write!(text, " lookup {} protocol {}", it.table, it.protocol);
    text
}

fn rule_tool(ip: &str, it: &Rule) -> String {
    match it.from.or(it.to) {
        Some(net) => family(ip, net),
        None if it.v6 => format!("{ip} -6"),
        None => ip.to_owned(),
    }
}

fn neighbour(it: &Neighbour) -> String {
    let protocol = match it.protocol {
        0 => String::new(),
        number => format!(" protocol {number}"),
    };
    format!("{} lladdr {} dev {} nud permanent{protocol}", it.address, it.mac, word(&it.link))
}

fn fdb(it: &Fdb) -> String {
    match it.to {
        Some(to) => format!("{} dev {} dst {to} self permanent", it.mac, word(&it.link)),
        None => format!("{} dev {} master static", it.mac, word(&it.link)),
    }
}

fn vni(it: &Vni) -> String {
    format!("dev {} vni {}", word(&it.link), it.vni)
}

fn qdisc(it: &Qdisc) -> String {
    let QdiscKind::Tbf { rate, burst, limit } = it.kind;
    format!("dev {} root handle 1: tbf rate {rate}bps burst {burst} limit {limit}", word(&it.link))
}

fn sysctl(space: &Space, it: &Sysctl) -> String {
    let guard = if it.best_effort { " || true" } else { "" };
    format!("{} -qw {}{guard}", tool(space, "sysctl"), quote(&format!("{}={}", it.key, it.value)))
}

fn file(it: &File) -> String {
    let path = quote(&it.path.display().to_string());
    let newline = if it.content.ends_with('\n') { "" } else { "\n" };
    format!("cat >{path} <<'CONTENT'\n{}{newline}CONTENT", it.content)
}

/// How `name` is called so that it works in `space`.
fn tool(space: &Space, name: &str) -> String {
    match (space, space.name()) {
        (Space::Here, _) => name.to_owned(),
        (_, Some(netns)) if ["ip", "bridge", "tc"].contains(&name) => {
            format!("{name} -n {}", quote(netns))
        }
        (_, Some(netns)) => format!("ip netns exec {} {name}", quote(netns)),
        (Space::At(path), None) => {
            format!("nsenter --net={} {name}", quote(&path.display().to_string()))
        }
    }
}

/// `ip` has to be told the family of a default route and of rules.
fn family(ip: &str, net: IpNet) -> String {
    match net {
        IpNet::V4(_) => ip.to_owned(),
        IpNet::V6(_) => format!("{ip} -6"),
    }
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// A device's name as one word: the kernel allows nearly every character in it.
fn word(name: &LinkName) -> String {
    quote(name.as_str())
}

/// `text` as one word of a shell.
pub fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
