//! The network that a teacher draws first: two namespaces, two cables, one bridge, no plugin.

use std::path::Path;

use ipnet::IpNet;
use net::{Action, Address, Change, Link, LinkName, Peer, Space};

use crate::{Lab, Plan, Step};

/// The namespaces: what plays the host, and the two that act like containers.
pub(crate) const NAMESPACES: [&str; 3] = ["host", "node1", "node2"];

/// A cable as the textbook has it.
struct Cable {
    /// The end in the namespace.
    far: &'static str,
    /// The end in the bridge.
    near: &'static str,
    /// The address of the far end.
    address: [u8; 4],
}

const CABLES: [Cable; 2] = [
    Cable { far: "vethA", near: "vethB", address: [10, 10, 0, 2] },
    Cable { far: "vethX", near: "vethY", address: [10, 10, 0, 3] },
];

const PREFIX_LENGTH: u8 = 24;

/// How long a cable may take, in milliseconds; the kernel looks at its cables once a second.
const PATIENCE: u32 = 3000;

pub(crate) fn plan(lab: &Lab, directory: &Path) -> Plan {
    let mut spaces = lab.namespaces.iter().map(|namespace| Space::named(&namespace.public));
    let steps = spaces.next().and_then(|host| steps(&host, spaces)).unwrap_or_default();
    let (namespaces, files) = (lab.namespaces.clone(), Vec::new());
    Plan { lab: lab.clone(), directory: directory.to_owned(), namespaces, files, steps }
}

/// `None` would mean that a name or an address above is wrong, which a test rules out.
fn steps(host: &Space, nodes: impl Iterator<Item = Space>) -> Option<Vec<Step>> {
    let step = |space: &Space, change, why| Step::Machine(net::Step::new(space, change, why));
    let name = |text: &str| text.parse::<LinkName>().ok();
    let bridge = Link::bridge(name("br0")?).up();
    let mut steps =
        vec![step(host, Change::Create(bridge.into()), "is the switch that joins the namespaces")];
    let mut waits = Vec::new();
    for (node, Cable { far, near, address }) in nodes.zip(&CABLES) {
        let peer = Peer { space: node.clone(), name: name(far)?, mac: None, mtu: None };
        let cable = Link { master: name("br0"), ..Link::veth(name(near)?, peer).up() };
        let address = IpNet::new((*address).into(), PREFIX_LENGTH).ok()?;
        // Without a broadcast address, as `ip address add` leaves it.
        let address = Address { broadcast: None, ..Address::new(name(far)?, address) };
        let up = Link::existing(name(far)?).up();
        steps.extend([
            step(
                host,
                Change::Create(cable.into()),
                "is a cable with one end in the bridge and one in the namespace",
            ),
            step(&node, Change::Create(address.into()), "is the address by which others find it"),
            step(&node, Change::Ensure(up.into()), "switches the far end on"),
        ]);
        for (space, end) in [(host, near), (&node, far)] {
            let wait = Action::WaitUp { link: name(end)?, millis: PATIENCE };
            waits.push(step(space, Change::Act(wait), "waits until the cable carries packets"));
        }
    }
    // A person is slow enough; a program would send its first packet into a cable that the kernel
    // has not looked at since both ends were switched on.
    steps.extend(waits);
    Some(steps)
}

#[cfg(test)]
mod tests {
    use crate::{Name, Network};

    use super::*;

    /// The commands of the textbook, except that cables are not moved: they are made in place.
    #[test]
    fn the_steps_are_those_of_the_textbook() {
        let name: Name = "default".parse().unwrap();
        let lab = Lab::new(name, "", Network::Plain).unwrap();
        let plan = lab.plan(Path::new("/run/podwire/lab/default"));
        let commands: Vec<String> = plan
            .steps
            .iter()
            .flat_map(|step| match step {
                Step::Machine(step) if !matches!(step.change, Change::Act(_)) => net::shell(step),
                _ => Vec::new(),
            })
            .collect();
        assert_eq!(
            commands,
            [
                "ip -n host link add br0 type bridge",
                "ip -n host link set br0 up",
                "ip -n host link add vethB type veth peer name vethA netns node1",
                "ip -n host link set vethB master br0",
                "ip -n host link set vethB up",
                "ip -n node1 address add 10.10.0.2/24 dev vethA",
                "ip -n node1 link set vethA up",
                "ip -n host link add vethY type veth peer name vethX netns node2",
                "ip -n host link set vethY master br0",
                "ip -n host link set vethY up",
                "ip -n node2 address add 10.10.0.3/24 dev vethX",
                "ip -n node2 link set vethX up",
            ]
        );
    }
}
