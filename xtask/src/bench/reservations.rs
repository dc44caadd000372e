//! `host-local` alone, in directories with few reservations and with many.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::contender::{Contender, called};
use super::machine::{Machine, timed};
use super::report::{percentile, verdict};

/// The networks that are compared.
const NETWORKS: [Network; 6] = [
    Network { name: "0", reserved: 0, length: 12, is_wrapped: false },
    Network { name: "100", reserved: 100, length: 12, is_wrapped: false },
    Network { name: "1,000", reserved: 1_000, length: 12, is_wrapped: false },
    Network { name: "60,000", reserved: 60_000, length: 12, is_wrapped: false },
    Network { name: "250,000", reserved: 250_000, length: 12, is_wrapped: false },
    Network { name: "a /16 full to 99 %", reserved: 64_880, length: 16, is_wrapped: true },
];

/// From here on the reference takes seconds, and is called in one round of some only.
const MANY: u32 = 10_000;
const SOME: usize = 8;
/// And from here on it is not called at all.
const TOO_MANY: u32 = 100_000;

/// How many pods come and go in a round in each network.
const PODS: usize = 6;
/// After what takes long.
const REST: Duration = Duration::from_millis(50);

/// How many times as fast as the reference it shall be at so many reservations.
const GOAL: (&str, f64) = ("60,000", 200.0);
/// How much more than with so many reservations it may cost with others.
const FLAT: (&str, f64) = ("100", 1.2);

const CONTENDERS: [Contender; 2] = [Contender::Podwire, Contender::Go];

/// A network with reservations in it.
#[derive(Clone, Copy, Debug)]
struct Network {
    name: &'static str,
    reserved: u32,
    /// Of the prefix of its subnet.
    length: u8,
    /// The last address that was given out is the last one of the range, and all reserved ones come
    /// first.
    is_wrapped: bool,
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Add,
    Del,
    DelNothing,
    /// After somebody who knows of no index has changed the directory.
    AddAfterOthers,
}

const WHAT: [(What, &str); 4] = [
    (What::Add, "ADD"),
    (What::Del, "DEL"),
    (What::DelNothing, "DEL that finds nothing"),
    (What::AddAfterOthers, "ADD after others have written"),
];

/// The samples, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    samples: BTreeMap<(&'static str, What, Contender), Vec<f64>>,
    rounds: usize,
}

impl Reservations {
    /// One round: in each network some pods come and go, of each contender in its own directory.
    pub(crate) fn round(&mut self, machine: &Machine) -> Result<()> {
        if self.rounds == 0 {
            for network in NETWORKS {
                for contender in CONTENDERS.into_iter().filter(|it| network.takes(*it)) {
                    network.prepare(machine, contender)?;
                }
            }
        }
        let is_slow =
            |network: &Network, contender| contender == Contender::Go && network.reserved >= MANY;
        for _ in 0..PODS {
            for network in &NETWORKS {
                for contender in CONTENDERS.into_iter().filter(|it| !is_slow(network, *it)) {
                    self.visit(machine, network, contender)?;
                }
            }
        }
        // What takes long comes last: it makes everything behind it slow for a while.
        for network in &NETWORKS {
            self.disturb(machine, network)?;
        }
        if self.rounds.is_multiple_of(SOME) {
            let slow = NETWORKS.iter().filter(|it| is_slow(it, Contender::Go));
            for network in slow.filter(|it| it.takes(Contender::Go)) {
                self.visit(machine, network, Contender::Go)?;
            }
        }
        std::thread::sleep(REST);
        self.rounds += 1;
        Ok(())
    }

    /// A pod comes and goes, and goes again.
    fn visit(&mut self, machine: &Machine, network: &Network, contender: Contender) -> Result<()> {
        // The first call after the other contender's pays for what that one has pushed out of the
        // caches.
        network.call(machine, contender, "VERSION")?;
        for (what, verb) in [(What::Add, "ADD"), (What::Del, "DEL"), (What::DelNothing, "DEL")] {
            network.set_cursor(&network.directory(machine, contender))?;
            self.note(network, what, contender, network.call(machine, contender, verb)?);
        }
        Ok(())
    }

    /// A pod comes after somebody who knows of no index has changed the directory, and goes.
    fn disturb(&mut self, machine: &Machine, network: &Network) -> Result<()> {
        let other = network.directory(machine, Contender::Podwire).join("10.255.255.254");
        fs::write(&other, "other\r\neth0").and_then(|()| fs::remove_file(&other))?;
        network.call(machine, Contender::Podwire, "VERSION")?;
        let took = network.call(machine, Contender::Podwire, "ADD")?;
        self.note(network, What::AddAfterOthers, Contender::Podwire, took);
        network.call(machine, Contender::Podwire, "DEL").map(drop)
    }

    fn note(&mut self, network: &Network, what: What, contender: Contender, took: Duration) {
        let samples = self.samples.entry((network.name, what, contender)).or_default();
        samples.push(took.as_secs_f64() * 1e6);
    }

    fn median(&self, network: &'static str, what: What, contender: Contender) -> Option<f64> {
        percentile(self.samples.get(&(network, what, contender))?, 50)
    }

    /// The table; nothing where nothing was measured.
    pub(crate) fn text(&self) -> String {
        if self.rounds == 0 {
            return String::new();
        }
        let mut text = format!(
            "{:<52} {:>9} {:>9} {:>7} {:>9}  goals\n",
            "host-local alone [ms], medians", "podwire", "go", "go/pw", "to 100"
        );
        for row in self.rows() {
            let number = |number: Option<f64>, digits| {
                number.map_or("-".to_owned(), |number| format!("{number:.digits$}"))
            };
            let millis = |micros: Option<f64>| number(micros.map(|it| it / 1e3), 2);
            let (podwire, go) = (millis(row.podwire), millis(row.go));
            let (ratio, flat) = (number(row.ratio(), 1), number(row.flat, 2));
            let goals = row.goals().join(", ");
            text +=
                &format!("{:<52} {podwire:>9} {go:>9} {ratio:>7} {flat:>9}  {goals}\n", row.name());
        }
        text
    }

    /// The same for programs.
    pub(crate) fn json(&self) -> Value {
        let row = |row: Row| {
            json!({
                "name": row.name(), "podwire": row.podwire, "go": row.go,
                "go_per_podwire": row.ratio(), "podwire_per_100": row.flat, "goals": row.goals(),
            })
        };
        self.rows().into_iter().map(row).collect()
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (what, verb) in WHAT {
            for network in NETWORKS {
                let [podwire, go] = CONTENDERS.map(|it| self.median(network.name, what, it));
                let flat = podwire.zip(self.median(FLAT.0, what, Contender::Podwire));
                let flat = flat.map(|(this, few)| this / few);
                rows.push(Row { verb, what, network, podwire, go, flat });
            }
        }
        rows
    }
}

/// One kind of call in one network.
struct Row {
    verb: &'static str,
    what: What,
    network: Network,
    podwire: Option<f64>,
    go: Option<f64>,
    /// How much it costs against the network that others are compared with.
    flat: Option<f64>,
}

impl Row {
    fn name(&self) -> String {
        format!("{}, {} reservations", self.verb, self.network.name)
    }

    /// How many times as fast as the reference.
    fn ratio(&self) -> Option<f64> {
        Some(self.go? / self.podwire?)
    }

    fn goals(&self) -> Vec<String> {
        let mut goals = Vec::new();
        if let (Some(ratio), true) = (self.ratio(), self.network.name == GOAL.0) {
            goals.push(verdict(ratio >= GOAL.1, &format!("{}x go", GOAL.1)));
        }
        let counts = self.what != What::AddAfterOthers && self.network.reserved > 100;
        if let (Some(flat), true) = (self.flat, counts) {
            goals.push(verdict(flat <= FLAT.1, &format!("flat to {}", FLAT.1)));
        }
        goals
    }
}

impl Network {
    /// Whether a contender can be called here without taking the whole time of the benchmark.
    fn takes(&self, contender: Contender) -> bool {
        contender == Contender::Podwire || self.reserved < TOO_MANY
    }

    fn data(&self, machine: &Machine, contender: Contender) -> PathBuf {
        machine.place().join(format!("reservations/{}", contender.name()))
    }

    fn directory(&self, machine: &Machine, contender: Contender) -> PathBuf {
        self.data(machine, contender).join(self.network())
    }

    fn network(&self) -> String {
        format!("n{}", self.reserved)
    }

    /// Writes the reservations, as the plugins do.
    fn prepare(&self, machine: &Machine, contender: Contender) -> Result<()> {
        let directory = self.directory(machine, contender);
        fs::create_dir_all(&directory).context("make a place for reservations")?;
        for number in 0..self.reserved {
            let text = format!("{number:064x}\r\neth0");
            fs::write(directory.join(address(number)), text).context("write a reservation")?;
        }
        fs::write(directory.join("lock"), "")?;
        let last = self.reserved.saturating_sub(1);
        fs::write(directory.join("last_reserved_ip.0"), address(last))?;
        // The first call makes the index.
        self.call(machine, contender, "DEL").map(drop)
    }

    /// Puts the cursor at the end of the range, where it has to begin again.
    fn set_cursor(&self, directory: &Path) -> Result<()> {
        if self.is_wrapped {
            let last = Ipv4Addr::new(10, 16, 255, 254).to_string();
            fs::write(directory.join("last_reserved_ip.0"), last).context("write a cursor")?;
        }
        Ok(())
    }

    fn call(&self, machine: &Machine, contender: Contender, verb: &str) -> Result<Duration> {
        let config = json!({
            "cniVersion": "1.0.0", "name": self.network(), "type": "bridge",
            "ipam": {
                "type": "host-local", "dataDir": self.data(machine, contender),
                "ranges": [[{ "subnet": format!("10.16.0.0/{}", self.length) }]],
            },
        });
        let file = machine.place().join("reservations.json");
        fs::write(&file, config.to_string()).context("write a configuration")?;
        let mut command = called(machine.programs(), contender, "host-local");
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", format!("{:064x}", u32::MAX))
            .env("CNI_NETNS", "/nonexistent/netns")
            .env("CNI_IFNAME", "eth0")
            .stdin(Stdio::from(fs::File::open(&file).context("read a configuration")?));
        Ok(timed(&mut command)?.1)
    }
}

/// The address of that number: those of a range in their order, without the gateway.
fn address(number: u32) -> String {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 16, 0, 2)) + number).to_string()
}
