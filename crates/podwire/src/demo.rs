//! `podwire demo`: a network made, drawn, proved and removed, with every step explained.

mod explanation;
mod proof;
mod snapshot;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use lab::{Cluster, Error, Lab, Made, Name, Network, Step, Store};
use render::Picture;
use serde_json::Value;

use crate::cli::{Demo, print};
use crate::demo::snapshot::Snapshot;
use crate::failure::{Exit, Failure, Result};
use crate::interrupt::Interrupt;
use crate::lab::{Defaults, flags, machine, network, remarks, store};
use crate::terminal::Terminal;

/// How many pods may talk to each other without hurting others: the kernel's table of neighbours
/// has 1,024 places (gc_thresh3) for all namespaces together, and each pair takes up to two.
const MAX_PODS: u16 = 16;
/// How far what belongs to a heading is moved to the right.
const INDENT: usize = 3;

/// Runs the demo.
pub(crate) fn run(demo: Demo, terminal: Terminal) -> Result<ExitCode> {
    let started = Instant::now();
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        isolate()?;
    }
    let network = network(demo.network, Defaults { nodes: Some(2) })?;
    let pods = match &network {
        Network::Plain => 0,
        Network::Pods(pods) => pods.count,
        Network::Cluster(cluster) => cluster.nodes.saturating_mul(cluster.pods),
    };
    if pods > MAX_PODS {
        let what = format!("a demo of {pods} pods cannot be run: it has at most {MAX_PODS}");
        let remedy = "more would fill the kernel's neighbour table, which all namespaces share; \
                      `podwire lab up` takes more";
        return Err(Failure::new(Exit::Usage, what).remedy(remedy));
    }
    let same = flags(&network);
    let interrupt = Interrupt::listen();
    print(&introduction(&network, is_root, terminal))?;
    let before = Snapshot::take()?;
    let names = Path::new(net::NAMED);
    let had_names = kernel::is_prepared(names);
    let store = store();
    let lab = up(&store, network, &interrupt, terminal)?;
    let proved = show(&store, &lab, &interrupt, terminal);
    let removed = down(&store, &lab, &before, terminal);
    if !had_names {
        kernel::release_directory(names);
    }
    if let Some(exit) = interrupt.exit() {
        return Ok(exit.into());
    }
    if proved? && removed? {
        let seconds = started.elapsed().as_secs_f64();
        print(&format!(
            "\nDone in {seconds:.2} s. {}\n",
            terminal.dim(&format!("To play with the same network: podwire lab up{same}"))
        ))?;
        Ok(Exit::Yes.into())
    } else {
        Ok(Exit::No.into())
    }
}

/// Gives an ordinary user a machine of their own. No thread has been started yet.
fn isolate() -> Result<()> {
    kernel::isolate_process().map_err(|error| {
        Failure::new(Exit::Unknown, error.to_string()).remedy(
            "run it as root, or allow user namespaces (sysctl user.max_user_namespaces, \
             kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)",
        )
    })
}

fn introduction(network: &Network, is_root: bool, terminal: Terminal) -> String {
    let what = match network {
        Network::Plain => "Two namespaces on a bridge, wired by hand.".to_owned(),
        Network::Pods(pods) => format!(
            "A node with {} pod{}, wired by CNI plugins as a container runtime has it done.",
            pods.count,
            if pods.count == 1 { "" } else { "s" }
        ),
        Network::Cluster(Cluster { nodes, pods, .. }) => format!(
            "{nodes} node{} with {pods} pod{} each: wired by CNI plugins as a container runtime has \
             it done,\njoined by podwire's agent.",
            if *nodes == 1 { "" } else { "s" },
            if *pods == 1 { "" } else { "s" }
        ),
    };
    let whose = match is_root {
        true => "",
        false => {
            "\nYou are not root, so all of it happens on a machine of your own: in user, network\n\
             and mount namespaces that go with this process."
        }
    };
    format!("{}{whose}\n", terminal.bold(&what))
}

/// Makes the lab. Its namespaces have bare names unless somebody has one of them.
fn up(store: &Store, network: Network, interrupt: &Interrupt, terminal: Terminal) -> Result<Lab> {
    let id = format!("demo-{}", std::process::id());
    let name: Name = id.parse().map_err(Error::from)?;
    let interrupted = || interrupt.exit().is_some();
    let up = |lab: &Lab| {
        let mut narrator = Narrator {
            terminal,
            section: Section::None,
            has_explained: false,
            has_explained_agent: false,
            last: Default::default(),
            lab: lab.clone(),
            directory: store.directory(&lab.name),
        };
        store.up(lab, &interrupted, &mut |made| {
            // Where nobody reads, the demo goes on to clean up.
            let _ = narrator.tell(made);
        })
    };
    let bare = Lab::new(name.clone(), "", network.clone())?;
    let (lab, made) = match up(&bare) {
        Err(Error::Taken { .. }) => {
            let lab = Lab::new(name, &format!("{id}-"), network)?;
            let made = up(&lab);
            (lab, made)
        }
        made => (bare, made),
    };
    made.map_err(|error| interrupt.failure(error))?;
    Ok(lab)
}

/// Tells each part as it comes.
struct Narrator {
    terminal: Terminal,
    section: Section,
    /// What the plugin did for the first pod was told; for the others it does the same.
    has_explained: bool,
    /// So is what the agent did on the first node.
    has_explained_agent: bool,
    /// Where the last step was taken, and why.
    last: (String, String),
    lab: Lab,
    directory: PathBuf,
}

#[derive(PartialEq)]
enum Section {
    None,
    Namespaces,
    Network,
}

impl Narrator {
    fn tell(&mut self, made: Made<'_>) -> Result<()> {
        match made {
            Made::Namespace(namespace) => {
                if self.section != Section::Namespaces {
                    self.section = Section::Namespaces;
                    print(&heading(
                        self.terminal,
                        "1. Namespaces",
                        "Each is a network of its own: devices, addresses, routes, firewall.",
                    ))?;
                }
                let plays = match namespace.role {
                    lab::Role::Node if matches!(self.lab.network, Network::Cluster(_)) => {
                        "plays a node"
                    }
                    lab::Role::Node => "plays the node",
                    lab::Role::Pod => "plays a pod",
                    lab::Role::Plain if namespace.name == "host" => "plays the host",
                    lab::Role::Plain => "plays a container",
                    lab::Role::Underlay => "plays the switch and the router between nodes",
                    lab::Role::Outside => "plays a host beyond the cluster",
                };
                print(&format!("   {:10} {plays}\n", namespace.public))
            }
            Made::Step(step, result) => {
                if self.section != Section::Network {
                    self.section = Section::Network;
                    print(&heading(
                        self.terminal,
                        "2. Network",
                        "What is done, why, and how you would type it.",
                    ))?;
                }
                let text = self.step(step, result);
                print(&text)
            }
        }
    }

    fn step(&mut self, step: &Step, result: Option<&Value>) -> String {
        let place = step.subject();
        // What is said once is not said again.
        let said = (place, step.why().to_owned());
        let mut text = match self.last == said {
            true => String::new(),
            false => format!("   {:10} {}\n", said.0, said.1),
        };
        self.last = said;
        let mut below = |line: &str| {
            text += &format!("   {:10} {}\n", "", self.terminal.dim(line));
        };
        match step {
            Step::Machine(_) | Step::Resolver(_) => {
                step.commands().iter().for_each(|line| below(line));
            }
            Step::Agent(run) => {
                step.commands().iter().for_each(|line| below(line.trim_end()));
                if !std::mem::replace(&mut self.has_explained_agent, true) {
                    let changes = self.lab.agent_changes(&self.directory, &run.node);
                    text += &explanation::agent(&changes, self.terminal);
                }
            }
            Step::Cni(invocation) => {
                below(&invocation.to_string());
                let addresses: Vec<&str> = result
                    .and_then(|result| result["ips"].as_array())
                    .into_iter()
                    .flatten()
                    .filter_map(|ip| ip["address"].as_str())
                    .collect();
                let attachment = &invocation.parameters.attachment;
                if !addresses.is_empty() && attachment.ifname != "lo" {
                    below(&format!("answer: {}", addresses.join(", ")));
                }
                let explanation = result.and_then(|result| invocation.explanation(result));
                if let Some(script) = explanation.filter(|_| !self.has_explained) {
                    self.has_explained = true;
                    text += &explanation::text(&script, self.terminal);
                }
            }
        }
        text
    }
}

/// Draws the network and proves that it keeps its promises.
fn show(store: &Store, lab: &Lab, interrupt: &Interrupt, terminal: Terminal) -> Result<bool> {
    let directory = store.directory(&lab.name);
    let machine = machine(lab, &directory)?;
    let about = "Boxes are namespaces and devices; a line is a veth pair: a cable with two ends.";
    print(&heading(terminal, "3. Picture", about))?;
    let Picture { width, unicode } = terminal.picture();
    let picture = Picture { width: width.saturating_sub(INDENT), unicode };
    for line in render::text(&machine, &picture).lines() {
        print(&format!("{:INDENT$}{line}\n", ""))?;
    }
    let about = "Our own packets, each answered with the source address that its receiver saw.";
    print(&heading(terminal, "4. Proof", about))?;
    let proof = proof::run(lab, &directory, &machine, || interrupt.exit().is_some())?;
    print(&proof.text(terminal))?;
    Ok(proof.holds())
}

/// Takes the lab down and looks whether the machine is as it was.
fn down(store: &Store, lab: &Lab, before: &Snapshot, terminal: Terminal) -> Result<bool> {
    let about = "The plugins are asked to take each pod out; then the namespaces go.";
    let about = match lab.network {
        Network::Plain => "With the namespaces goes all that is inside.",
        Network::Pods(_) | Network::Cluster(_) => about,
    };
    // Nothing is in the way of taking down, not even a reader who has gone away.
    let _ = print(&heading(terminal, "5. Teardown", about));
    let report = store.down(&lab.name)?;
    for line in remarks(&report) {
        print(&format!("   {line}\n"))?;
    }
    let changes = before.changes(&Snapshot::take()?);
    if changes.is_empty() && report.failures.is_empty() {
        print(&format!(
            "   {}  The machine is as before: its devices, addresses, routes, rules, firewall,\n         \
             settings and namespaces.\n",
            terminal.good("PASS")
        ))?;
        return Ok(true);
    }
    print(&format!("   {}  The machine is not as before:\n", terminal.bad("FAIL")))?;
    for change in changes {
        print(&format!("         {change}\n"))?;
    }
    Ok(false)
}

fn heading(terminal: Terminal, title: &str, about: &str) -> String {
    format!("\n{}  {}\n", terminal.bold(title), terminal.dim(about))
}
