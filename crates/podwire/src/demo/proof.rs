//! Packets between all pods, and between the node and the pods in both directions.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

use kernel::Netns;
use lab::{Lab, Role};
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
    /// One end is the node.
    of_node: bool,
    from: (String, IpAddr),
    to: (String, IpAddr),
    outcome: std::result::Result<Answer, Failure>,
}

/// An address that packets start from and arrive at.
struct Host {
    role: Role,
    name: String,
    netns: Netns,
    address: IpAddr,
}

impl Host {
    fn place(&self) -> Place<'_> {
        Place { netns: &self.netns, address: self.address }
    }
}

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
        asked.extend(hosts.iter().filter(is_other).map(|to| (from, to)));
    }
    // Pods among themselves first, as the promises come.
    asked.sort_by_key(|(from, to)| is_of_node(from, to));
    let pairs: Vec<_> =
        asked.iter().map(|(from, to)| Pair { from: from.place(), to: to.place() }).collect();
    // Few packets go one after the other, so that each one's time is its own.
    let at_once = if pairs.len() <= SHOWN { 1 } else { Limits::default().at_once };
    let mut outcomes = Vec::new();
    for batch in pairs.chunks(at_once) {
        if stop() {
            break;
        }
        let seed = u64::from_ne_bytes(kernel::random());
        outcomes.extend(probe::exchange(batch, Shape::default(), Limits::default(), seed));
    }
    let rows = asked.into_iter().zip(outcomes).map(|((from, to), outcome)| Row {
        of_node: is_of_node(from, to),
        from: (from.name.clone(), from.address),
        to: (to.name.clone(), to.address),
        outcome,
    });
    Ok(Proof { rows: rows.collect() })
}

fn is_of_node(from: &Host, to: &Host) -> bool {
    from.role == Role::Node || to.role == Role::Node
}

fn hosts(lab: &Lab, directory: &Path, machine: &Machine) -> Result<Vec<Host>> {
    let mut hosts = Vec::new();
    for namespace in &lab.namespaces {
        let path = namespace.private_path(directory);
        let seen = machine.namespaces.iter().filter(|seen| seen.path == path);
        let links = seen.flat_map(|seen| seen.links().map(move |link| (seen, link)));
        let addresses = links
            .filter(|(_, link)| link.name != "lo")
            .flat_map(|(seen, link)| seen.addresses(link));
        for address in addresses {
            hosts.push(Host {
                role: namespace.role,
                name: namespace.public.clone(),
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
                Err(failure) => {
                    writeln!(text, "   {}  {}  {failure}", terminal.bad("FAIL"), line.trim_end())
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
        let rows: Vec<&Row> = self.rows.iter().collect();
        let (node, pods): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.of_node);
        let alike = if node.is_empty() { "namespace" } else { "pod" };
        promise(&pods, Row::has_arrived, &format!("every {alike} reaches every other"));
        promise(&node, Row::has_arrived, "the node reaches every pod, and every pod the node");
        let no_nat = "the address that others see is the address that one has: there is no NAT";
        promise(&rows, |row| row.outcome.is_ok(), no_nat);
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
        matches!(self.outcome, Ok(_) | Err(Failure::SourceChanged { .. }))
    }
}
