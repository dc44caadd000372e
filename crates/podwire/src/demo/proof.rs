//! Packets between all pods, between nodes and pods in both directions, and from pods to a host
//! outside.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

use kernel::Netns;
use lab::{Lab, Network, Role};
use probe::{Answer, Failure, Limits, Pair, Place, Shape};
use topology::Machine;

use crate::failure::Result;
use crate::terminal::Terminal;

/// How many packets are shown one by one; of the others only those that failed are.
const SHOWN: usize = 12;

/// What came of all packets.
pub(crate) struct Proof {
    rows: Vec<Row>,
}

/// A packet there and back.
struct Row {
    kind: Kind,
    from: (String, IpAddr),
    to: (String, IpAddr),
    outcome: std::result::Result<Answer, Fault>,
}

/// Which promise a packet is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Both ends are pods, or neither of Kubernetes.
    Pods,
    /// One end is a node.
    Node,
    /// It leaves the cluster.
    Outside,
}

/// What was not as promised.
struct Fault {
    /// It came to its end all the same.
    arrived: bool,
    what: String,
}

/// An address that packets start from and arrive at.
struct Host {
    role: Role,
    name: String,
    /// The name of its node, if it is a pod of one of several.
    node: Option<String>,
    netns: Netns,
    address: IpAddr,
}

impl Host {
    fn place(&self) -> Place<'_> {
        Place { netns: &self.netns, address: self.address }
    }
}

/// How many are asked between two looks at whether to stop.
const AT_ONCE: usize = 64;

/// Sends packets between all addresses of each family, in both directions, until `stop` says so.
pub(crate) fn run(
    lab: &Lab,
    directory: &Path,
    machine: &Machine,
    stop: impl Fn() -> bool,
) -> Result<Proof> {
    let hosts = hosts(lab, directory, machine)?;
    let mut asked = Vec::new();
    for from in &hosts {
        let is_other =
            |to: &&Host| to.name != from.name && to.address.is_ipv4() == from.address.is_ipv4();
        let pairs = hosts.iter().filter(is_other);
        asked.extend(pairs.filter_map(|to| Some((kind(from, to)?, from, to))));
    }
    // Pods among themselves first, as the promises come.
    asked.sort_by_key(|(kind, ..)| *kind);
    let pairs: Vec<_> =
        asked.iter().map(|(_, from, to)| Pair { from: from.place(), to: to.place() }).collect();
    // Few packets go one after the other, so that each one's time is its own.
    let at_once = if pairs.len() <= SHOWN { 1 } else { AT_ONCE };
    let mut outcomes = Vec::new();
    for batch in pairs.chunks(at_once) {
        if stop() {
            break;
        }
        let seed = u64::from_ne_bytes(kernel::random());
        outcomes.extend(probe::exchange(batch, Shape::default(), Limits::default(), seed));
    }
    let rows = asked.into_iter().zip(outcomes).map(|((kind, from, to), outcome)| Row {
        kind,
        from: (from.name.clone(), from.address),
        to: (to.name.clone(), to.address),
        outcome: match kind {
            Kind::Outside => masqueraded(outcome, node_address(from, &hosts)),
            _ => outcome.map_err(|failure| Fault {
                arrived: matches!(failure, Failure::SourceChanged { .. }),
                what: failure.to_string(),
            }),
        },
    });
    Ok(Proof { rows: rows.collect() })
}

/// Which promise a packet is about; none where nothing is promised.
fn kind(from: &Host, to: &Host) -> Option<Kind> {
    match (from.role, to.role) {
        (Role::Pod, Role::Pod) | (Role::Plain, Role::Plain) => Some(Kind::Pods),
        (Role::Pod, Role::Node) | (Role::Node, Role::Pod) => Some(Kind::Node),
        (Role::Pod, Role::Outside) => Some(Kind::Outside),
        _ => None,
    }
}

/// The address of a pod's node in the pod's family.
fn node_address(pod: &Host, hosts: &[Host]) -> Option<IpAddr> {
    let is_its = |host: &&Host| {
        host.role == Role::Node
            && Some(&host.name) == pod.node.as_ref()
            && host.address.is_ipv4() == pod.address.is_ipv4()
    };
    hosts.iter().find(is_its).map(|host| host.address)
}

/// Whether a packet that left the cluster was seen as from its node.
fn masqueraded(
    outcome: std::result::Result<Answer, Failure>,
    node: Option<IpAddr>,
) -> std::result::Result<Answer, Fault> {
    match outcome {
        Err(Failure::SourceChanged { answer, .. }) if Some(answer.seen_source) == node => {
            Ok(answer)
        }
        Ok(answer) | Err(Failure::SourceChanged { answer, .. }) => Err(Fault {
            arrived: true,
            what: format!("seen as from {}, not as from its node", answer.seen_source),
        }),
        Err(failure) => Err(Fault { arrived: false, what: failure.to_string() }),
    }
}

fn hosts(lab: &Lab, directory: &Path, machine: &Machine) -> Result<Vec<Host>> {
    // Where nodes are joined, the address of a node is the one that other nodes know.
    let is_joined = matches!(lab.network, Network::Cluster(_));
    let public =
        |name: &String| lab.nodes().find(|node| node.name == *name).map(|node| node.public.clone());
    let mut hosts = Vec::new();
    for namespace in &lab.namespaces {
        let path = namespace.private_path(directory);
        let seen = machine.namespaces.iter().filter(|seen| seen.path() == Some(&path));
        let links = seen.flat_map(|seen| seen.links().map(move |link| (seen, link)));
        let addresses = links
            .filter(|(_, link)| if is_joined { link.name == "eth0" } else { link.name != "lo" })
            .flat_map(|(seen, link)| seen.addresses(link));
        for address in addresses {
            hosts.push(Host {
                role: namespace.role,
                name: namespace.public.clone(),
                node: namespace.node.as_ref().and_then(public),
                netns: Netns::open(&path)?,
                address: address.address.addr(),
            });
        }
    }
    Ok(hosts)
}

impl Proof {
    /// Whether all packets arrived, with the addresses they were sent from.
    pub(crate) fn holds(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.outcome.is_ok())
    }

    /// The packets, and what follows from them.
    pub(crate) fn text(&self, terminal: Terminal) -> String {
        let is_shown = |(place, row): &(usize, &Row)| *place < SHOWN || row.outcome.is_err();
        let shown: Vec<&Row> =
            self.rows.iter().enumerate().filter(is_shown).map(|(_, row)| row).collect();
        let cells: Vec<_> = shown.iter().map(|row| row.cells()).collect();
        let titles = ["FROM", "", "TO", "", "SOURCE SEEN"];
        let width = |column: usize| {
            let lengths = cells.iter().map(|cells| cells[column].len());
            lengths.fold(titles[column].len(), usize::max)
        };
        let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(width);
        let line = |cells: [&str; 5]| {
            let [from, from_address, to, to_address, seen] = cells;
            format!("{from:a$} {from_address:b$}  {to:c$} {to_address:d$}  {seen:e$}")
        };
        let mut text = format!("         {}  TIME\n", line(titles));
        for (row, cells) in shown.iter().zip(&cells) {
            let line = line(cells.each_ref().map(String::as_str));
            let _ = match &row.outcome {
                Ok(answer) => {
                    let time = answer.rtt.as_secs_f64() * 1000.0;
                    writeln!(text, "   {}  {line}  {time:.2} ms", terminal.good("PASS"))
                }
                Err(Fault { what, .. }) => {
                    writeln!(text, "   {}  {}  {what}", terminal.bad("FAIL"), line.trim_end())
                }
            };
        }
        let hidden = self.rows.len() - shown.len();
        if hidden > 0 {
            let _ = writeln!(text, "   {}  and {hidden} more, all alike", terminal.good("PASS"));
        }
        text + &self.verdict(terminal)
    }

    /// The three promises, each with how many packets kept it.
    fn verdict(&self, terminal: Terminal) -> String {
        let mut text = String::from("\n");
        let mut promise = |rows: &[&Row], kept: fn(&Row) -> bool, what: &str| {
            let (all, good) = (rows.len(), rows.iter().filter(|row| kept(row)).count());
            let word = if good == all { terminal.good("PASS") } else { terminal.bad("FAIL") };
            if all > 0 {
                let _ = writeln!(text, "   {word}  {what} ({good} of {all})");
            }
        };
        let of = |kind| -> Vec<&Row> { self.rows.iter().filter(|it| it.kind == kind).collect() };
        let [pods, node, outside] = [Kind::Pods, Kind::Node, Kind::Outside].map(of);
        let alike = if node.is_empty() { "namespace" } else { "pod" };
        promise(&pods, Row::has_arrived, &format!("every {alike} reaches every other"));
        let nodes = match outside.is_empty() {
            true => "the node reaches every pod, and every pod the node",
            false => "every node reaches every pod, and every pod every node",
        };
        promise(&node, Row::has_arrived, nodes);
        let no_nat = "the address that others see is the address that one has: there is no NAT";
        let inside: Vec<&Row> = pods.into_iter().chain(node).collect();
        promise(&inside, |row| row.outcome.is_ok(), no_nat);
        let masquerade = "a host outside sees the address of the pod's node: that is masquerade";
        promise(&outside, |row| row.outcome.is_ok(), masquerade);
        text
    }
}

impl Row {
    /// Both ends, and the source address that was seen if it was the right one.
    fn cells(&self) -> [String; 5] {
        let seen = self.outcome.as_ref().map(|answer| answer.seen_source.to_string());
        [
            self.from.0.clone(),
            self.from.1.to_string(),
            self.to.0.clone(),
            self.to.1.to_string(),
            seen.unwrap_or_default(),
        ]
    }

    /// Whether the packet came to its end, under whatever address.
    fn has_arrived(&self) -> bool {
        self.outcome.as_ref().map_or_else(|fault| fault.arrived, |_| true)
    }
}
