//! A bridge, its ports, and the gateway that it is.

use topology::dump::{Link, LinkInfo};
use topology::{End, origin};

use crate::explanation::Sentence;
use crate::view::View;
use crate::words;

/// How many ports are named.
const MOST_PORTS: usize = 12;

pub(super) fn sentences(view: &View<'_>, bridge: End) -> Vec<Sentence> {
    let Some(link) = view.link(bridge) else { return Vec::new() };
    let (at, name) = (bridge.namespace, &link.name);
    let about = vec![view.thing(bridge)];
    let ports = view.ports(bridge);
    let mut sentences = Vec::new();
    let text = match link.kind.as_str() {
        "bridge" => format!(
            "{} is a bridge: a switch inside the kernel. It learns behind which port a hardware \
             address is, and passes frames between its ports, past all routes.",
            view.device(bridge)
        ),
        kind => format!("{} is a {kind} with ports.", view.device(bridge)),
    };
    let maker = origin::of_link(view.namespace(at), link);
    let text = text + &words::made_by(maker, "Its name tells who made it:");
    let show = view.command(at, &format!("ip -d link show dev {}", net::quote(name)));
    sentences.push(Sentence::new(text, about.clone()).shown_by(show));
    let named = ports.iter().map(|port| {
        let name = view.name(at, port.link);
        match view.peer(*port) {
            Some(far) => format!("{name} (to {})", view.called(far.namespace)),
            None => name,
        }
    });
    let text = match ports.len() {
        0 => "It has no port, and so carries nothing.".to_owned(),
        number => {
            format!("It has {}: {}.", words::count(number, "port"), words::some(named, MOST_PORTS))
        }
    };
    let mut things = about.clone();
    things.extend(ports.iter().take(MOST_PORTS).map(|port| view.thing(*port)));
    let show = view.command(at, &format!("ip link show master {}", net::quote(name)));
    sentences.push(Sentence::new(text, things).shown_by(show));
    sentences.extend(ports.iter().filter_map(|port| flags(view, *port)).take(MOST_PORTS));
    if keeps_vlans_apart(link) {
        let text = format!(
            "{name} keeps VLANs apart (vlan_filtering): it passes frames only between ports of one \
             VLAN. Which ones its ports are in, podwire does not read."
        );
        let show = view.command(at, "bridge vlan show");
        sentences.push(Sentence::new(text, about.clone()).shown_by(show));
    }
    let learned = view
        .namespace(at)
        .dump
        .neighbours
        .iter()
        .filter(|it| it.bridge && it.master == Some(bridge.link) && !it.permanent);
    let learned = learned.count();
    if learned > 0 {
        let text = format!("By now it has learned {}.", words::count(learned, "hardware address"));
        let show = view.command(at, &format!("bridge fdb show br {}", net::quote(name)));
        sentences.push(Sentence::new(text, about.clone()).shown_by(show));
    }
    let own: Vec<String> = view.addresses(bridge).map(|it| it.address.to_string()).collect();
    let text = match own.is_empty() {
        true => {
            format!("{name} has no address: {} itself is not on this segment.", view.called(at))
        }
        false => format!(
            "{name} is also a device of {} itself, with {}: on this segment that is the gateway, by \
             which its hosts leave.",
            view.called(at),
            words::addresses(own)
        ),
    };
    let show = view.command(at, &format!("ip addr show dev {}", net::quote(name)));
    sentences.push(Sentence::new(text, about).shown_by(show));
    sentences
}

/// Whether a bridge passes frames only between ports of one VLAN.
pub(crate) fn keeps_vlans_apart(link: &Link) -> bool {
    matches!(&link.info, Some(LinkInfo::Bridge(bridge)) if bridge.vlan_filtering)
}

/// What a port does that others do not.
fn flags(view: &View<'_>, port: End) -> Option<Sentence> {
    let link = view.link(port)?;
    let flags = link.port?;
    let mut said = Vec::new();
    if flags.hairpin {
        said.push("may send a frame back by the port it came in by (hairpin)".to_owned());
    }
    if flags.isolated {
        said.push("passes nothing to other isolated ports".to_owned());
    }
    if flags.state != FORWARDING {
        said.push(format!("is {}", state(flags.state)));
    }
    if said.is_empty() {
        return None;
    }
    let text = format!("Its port {} {}.", link.name, words::list(said));
    let show = format!("bridge -d link show dev {}", net::quote(&link.name));
    let show = view.command(port.namespace, &show);
    Some(Sentence::new(text, vec![view.thing(port)]).shown_by(show))
}

/// `BR_STATE_FORWARDING` (include/uapi/linux/if_bridge.h).
pub(crate) const FORWARDING: u8 = 3;

/// What `bridge link` calls the state of a port.
pub(crate) fn state(number: u8) -> String {
    match number {
        0 => "disabled".to_owned(),
        1 => "listening".to_owned(),
        2 => "learning".to_owned(),
        3 => "forwarding".to_owned(),
        4 => "blocking".to_owned(),
        number => format!("in state {number}"),
    }
}
