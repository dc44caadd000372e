//! The command line as it is typed.

pub(crate) mod agent;
pub(crate) mod cni;
pub(crate) mod explain;
pub(crate) mod faults;
pub(crate) mod ipam;
pub(crate) mod lab;
pub(crate) mod responder;
pub(crate) mod verify;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use self::cni::CniCommand;
use self::ipam::IpamCommand;
use crate::drawing::Drawing;
use crate::failure::{Exit, Failure, Result};
use crate::terminal::Terminal;
use crate::{completion, demo, install, snapshot};

/// Gives every pod a network, and shows how that network works.
#[derive(Debug, Parser)]
#[command(name = "podwire", version, propagate_version = true)]
#[command(after_help = "Exit codes: 0 yes, 1 no, 2 wrong use, 3 could not tell, 4 not found, \
    5 failed and taken back, 129, 130 and 143 interrupted.")]
pub(crate) struct Cli {
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, env = "PODWIRE_COLOR")]
    color: Color,
    /// Draw with ASCII characters only.
    #[arg(long, global = true, env = "PODWIRE_ASCII")]
    ascii: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make, look at and remove virtual networks out of network namespaces.
    #[command(subcommand)]
    Lab(LabCommand),
    /// Give pods a network, prove with packets that it works, show how, and leave nothing behind.
    #[command(after_help = "Needs no rights: an ordinary user gets a machine of their own for it.")]
    Demo(Demo),
    /// Attach namespaces to networks by any CNI plugins, as a container runtime does.
    #[command(subcommand)]
    Cni(Box<CniCommand>),
    /// Show and repair the addresses that host-local has given out on this node.
    #[command(subcommand)]
    Ipam(IpamCommand),
    /// Join this node to the others, and keep it joined.
    #[command(after_help = agent::EXAMPLES)]
    Agent(agent::Agent),
    /// Tell how a pod, a node or a lab is put together, and what is wrong with it.
    #[command(after_help = explain::EXAMPLES)]
    Explain(explain::Explain),
    /// Prove with packets that a network keeps its promises, and say why where it does not.
    #[command(after_help = verify::EXAMPLES)]
    Verify(Box<verify::Verify>),
    /// Let those who have a certificate send packets from this node and its pods, to prove that the
    /// network between nodes keeps its promises.
    #[command(after_help = responder::EXAMPLES)]
    Responder(responder::Responder),
    /// Write all that there is to see of this machine's network to a file, to be asked elsewhere.
    #[command(
        after_help = "Changes nothing. What this user may not see is told: use sudo for all \
        of it.\n\nExamples:\n  podwire snapshot node.json\n  podwire snapshot - | jq .namespaces[].name"
    )]
    Snapshot(Snapshot),
    /// Tell what became different between two snapshots, in words of networks.
    #[command(
        after_help = "Counters, ages and what is known of neighbours do not count. Exit code 0: \
        the same, 1: different, 2 or 3: a file cannot be read or understood.\n\nExamples:\n  \
        podwire diff before.json after.json\n  podwire snapshot - | podwire diff before.json - -o json"
    )]
    Diff(Diff),
    /// Print the JSON Schema of a document.
    Schema {
        /// The kind of document.
        #[arg(value_enum, default_value_t = Kind::Topology)]
        kind: Kind,
    },
    /// Tell what this machine can do, what is in the way of pods, and what is left over.
    #[command(after_help = "Everything is tried in a namespace that is thrown away; nothing is \
        changed without --fix.\n\nExamples:\n  podwire doctor\n  podwire doctor --fix --dry-run\n  \
        podwire doctor -o json")]
    Doctor(Doctor),
    /// Put the plugins where container runtimes look for them; what is there already is kept.
    Install(Install),
    /// Print the completion script of a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Print the version.
    Version,
}

/// `podwire doctor`
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Take away what is podwire's and left over; for everything else the remedy is told.
    #[arg(long)]
    pub(crate) fix: bool,
    /// With --fix: only show what would be done.
    #[arg(long, requires = "fix")]
    pub(crate) dry_run: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// `podwire snapshot`
#[derive(Debug, Args)]
pub(crate) struct Snapshot {
    /// The file; `-` for standard output.
    pub(crate) file: PathBuf,
}

/// `podwire diff`
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The snapshot from before; `-` for standard input.
    pub(crate) before: PathBuf,
    /// The one from after; `-` for standard input.
    pub(crate) after: PathBuf,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
}

/// The kinds of documents that have a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// What `podwire snapshot` writes.
    #[value(alias = "Topology")]
    Topology,
    /// What `podwire diff -o json` prints.
    #[value(alias = "Diff")]
    Diff,
    /// What `podwire verify -o json` prints.
    #[value(alias = "VerifyReport")]
    Verify,
    /// What `podwire explain -o json` prints.
    #[value(alias = "Explanation")]
    Explanation,
    /// What `podwire lab graph -o json` prints.
    #[value(alias = "Scene")]
    Scene,
    /// What `podwire doctor -o json` prints.
    #[value(alias = "DoctorReport")]
    DoctorReport,
    /// What `podwire lab status -o json` and `lab up -o json` print.
    #[value(alias = "Lab")]
    Lab,
    /// What `podwire agent status -o json` and `agent --once -o json` print.
    #[value(alias = "AgentStatus")]
    AgentStatus,
    /// What `podwire cni list -o json` prints.
    #[value(alias = "CniNetworkList")]
    CniNetworkList,
    /// What `podwire cni status -o json` prints.
    #[value(alias = "CniStatus")]
    CniStatus,
    /// What `podwire ipam list -o json` prints.
    #[value(alias = "IpamReservationList")]
    IpamReservationList,
    /// What `podwire ipam check -o json` prints.
    #[value(alias = "IpamCheck")]
    IpamCheck,
}

/// What to do with labs.
#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Make a lab: a node with pods, wired by CNI plugins; or several nodes, joined by agents.
    #[command(visible_aliases = ["create", "deploy"])]
    #[command(after_help = "Examples:\n  podwire lab up\n  podwire lab up --plain\n  \
        podwire lab up --nodes 3 --pods 2 --backend vxlan\n  \
        podwire lab up blue --pods 5 --dual-stack\n  podwire lab up --dry-run -o sh")]
    Up(Up),
    /// Take a lab down, whatever is left of it.
    #[command(visible_aliases = ["delete", "destroy"])]
    Down(Down),
    /// List the labs of this machine.
    #[command(visible_alias = "list")]
    Ls(List),
    /// Show a lab, and whether all of it is as it was made.
    Status(Status),
    /// Draw a lab: as text, a drawing, a page, or for other programs.
    #[command(after_help = "Examples:\n  podwire lab graph -O lab.html\n  \
        podwire lab graph blue -o mermaid")]
    Graph(Graph),
    /// Run a command inside a namespace of a lab; its exit code is passed on.
    #[command(after_help = "Examples:\n  podwire lab exec pod/pod1 -- ip route\n  \
        podwire lab exec node/node1 -- nft list ruleset")]
    Exec(Exec),
    /// Answer for the names of a file, as the resolver of a lab does.
    #[command(hide = true)]
    Resolver(Resolver),
    /// Add a node to a lab of several, or remove one with its pods.
    #[command(subcommand)]
    Node(lab::NodeCommand),
    /// Add a pod to a lab, or remove one.
    #[command(subcommand)]
    Pod(lab::PodCommand),
    /// Start, stop or restart the agents that keep the nodes of a lab joined.
    #[command(subcommand)]
    Agent(lab::AgentCommand),
    /// Break something in a lab on purpose: one of the faults that `podwire lab faults` lists.
    #[command(
        after_help = "Examples:\n  podwire lab break default-route-missing --on pod/pod1\n  \
        podwire lab break tunnel-blocked --dry-run -o sh"
    )]
    Break(faults::Break),
    /// Take back what was broken, whoever has repaired what of it.
    Fix(faults::Fix),
    /// List the faults, or tell about one: what it is, what one notices, how it is repaired.
    #[command(after_help = "Examples:\n  podwire lab faults\n  podwire lab faults mtu-underlay")]
    Faults(faults::Faults),
    /// Have a fault hidden in a lab, to find and repair it.
    #[command(after_help = "Examples:\n  podwire lab quiz\n  podwire lab quiz --hint\n  \
        podwire lab quiz --check")]
    Quiz(faults::Quiz),
}

/// `podwire lab up`
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// What to call the lab. Its namespaces are called NAME-…; without a name, just node1, pod1 …
    #[arg(default_value = ::lab::Name::DEFAULT, env = "PODWIRE_LAB_NAME")]
    pub(crate) name: ::lab::Name,
    #[command(flatten)]
    pub(crate) network: Network,
    /// Only show what would be done; `-o sh` prints a script that does it.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// `podwire lab resolver`
#[derive(Debug, Args)]
pub(crate) struct Resolver {
    /// The names and their addresses, as hosts(5) has them; read anew for each question.
    #[arg(long, value_name = "FILE")]
    pub(crate) hosts: PathBuf,
    /// Where to answer, at port 53; several may be given.
    #[arg(long, value_name = "ADDRESS", required = true)]
    pub(crate) listen: Vec<std::net::IpAddr>,
}

/// What a lab is made of.
#[derive(Debug, Args)]
pub(crate) struct Network {
    /// What a teacher draws first: two namespaces on a bridge, by hand, no plugins.
    #[arg(long, conflicts_with_all = ["pods", "dual_stack", "plugin_dir", "nodes"], env = "PODWIRE_LAB_PLAIN")]
    pub(crate) plain: bool,
    /// Several nodes that agents join, a network between them, and a host outside [up to 50].
    #[arg(long, env = "PODWIRE_LAB_NODES")]
    pub(crate) nodes: Option<u16>,
    /// How many pods, on each node [default: 2; in the demo of several nodes 1].
    #[arg(long, env = "PODWIRE_LAB_PODS")]
    pub(crate) pods: Option<u16>,
    /// How nodes are joined [default: vxlan].
    #[arg(long, value_enum, env = "PODWIRE_LAB_BACKEND")]
    pub(crate) backend: Option<Backend>,
    /// With vxlan: forwarding entries say where a packet goes, as flannel has it, instead of routes.
    #[arg(long, env = "PODWIRE_LAB_CLASSIC")]
    pub(crate) classic: bool,
    /// With host-gw: how nodes are joined that share no link.
    #[arg(long, value_enum, env = "PODWIRE_LAB_FALLBACK")]
    pub(crate) fallback: Option<Fallback>,
    /// This port of each node leads to port 80 of its first pod.
    #[arg(long, value_name = "PORT", env = "PODWIRE_LAB_HOST_PORT")]
    pub(crate) host_port: Option<std::num::NonZeroU16>,
    /// Pods are told a resolver, which knows the names of nodes and answers from outside.
    #[arg(long, env = "PODWIRE_LAB_DNS")]
    pub(crate) dns: bool,
    /// A router between the nodes: odd ones on one side, even ones on the other.
    #[arg(long, env = "PODWIRE_LAB_ROUTED")]
    pub(crate) routed: bool,
    /// IPv6 instead of IPv4.
    #[arg(long, conflicts_with = "dual_stack", env = "PODWIRE_LAB_IPV6")]
    pub(crate) ipv6: bool,
    /// IPv6 beside IPv4.
    #[arg(long, env = "PODWIRE_LAB_DUAL_STACK")]
    pub(crate) dual_stack: bool,
    /// Agents stay and keep the nodes joined, whatever happens to them; else each runs once.
    #[arg(long, env = "PODWIRE_LAB_AGENTS")]
    pub(crate) agents: bool,
    /// Wire the pods with the plugins of this directory instead of podwire's own.
    #[arg(long, value_name = "DIR", env = "PODWIRE_LAB_PLUGIN_DIR")]
    pub(crate) plugin_dir: Option<PathBuf>,
}

/// How the nodes of a lab are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// Ethernet frames over UDP, as flannel's.
    Vxlan,
    /// IP packets over UDP.
    Gpe,
    /// Plain routes, where nodes share a link.
    HostGw,
    /// vxlan or gpe, as suits the machine.
    Auto,
}

/// How nodes are joined that share no link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fallback {
    /// Ethernet frames over UDP, as flannel's.
    Vxlan,
    /// IP packets over UDP.
    Gpe,
}

/// `podwire lab down`
#[derive(Debug, Args)]
pub(crate) struct Down {
    /// Which lab.
    #[arg(default_value = ::lab::Name::DEFAULT, env = "PODWIRE_LAB_NAME")]
    pub(crate) name: ::lab::Name,
    /// All labs of this machine.
    #[arg(long)]
    pub(crate) all: bool,
    /// Only show what would be done; `-o sh` prints a script that does it.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// `podwire lab ls`
#[derive(Debug, Args)]
pub(crate) struct List {
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
    /// Leave the first line out.
    #[arg(long)]
    pub(crate) no_headers: bool,
}

/// `podwire lab status`
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Which lab.
    #[arg(default_value = ::lab::Name::DEFAULT, env = "PODWIRE_LAB_NAME")]
    pub(crate) name: ::lab::Name,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
}

/// `podwire lab graph`
#[derive(Debug, Args)]
pub(crate) struct Graph {
    /// Which lab.
    #[arg(default_value = ::lab::Name::DEFAULT, env = "PODWIRE_LAB_NAME")]
    pub(crate) name: ::lab::Name,
    #[command(flatten)]
    pub(crate) drawing: Drawing,
}

/// `podwire lab exec`
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Where: pod/pod1, node/node1, or the name that `ip netns` knows.
    pub(crate) object: String,
    /// Which lab, if several have such an object.
    #[arg(long)]
    pub(crate) lab: Option<::lab::Name>,
    /// The command and its arguments.
    #[arg(required = true, last = true)]
    pub(crate) command: Vec<std::ffi::OsString>,
}

/// `podwire demo`
#[derive(Debug, Args)]
pub(crate) struct Demo {
    #[command(flatten)]
    pub(crate) network: Network,
}

/// `podwire install`
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// The directory of plugins.
    #[arg(long, default_value = "/opt/cni/bin", env = "PODWIRE_INSTALL_DIR")]
    pub(crate) dir: PathBuf,
    /// The agent as well: its systemd unit, and what keeps NetworkManager and systemd-networkd from
    /// removing what it makes.
    #[arg(long)]
    pub(crate) agent: bool,
    /// With --agent: the root of the file system that is written to.
    #[arg(long, default_value = "/", requires = "agent", value_name = "DIR")]
    pub(crate) root: PathBuf,
    /// Only print the commands that would do it.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Go back to what was there before.
    #[arg(long)]
    pub(crate) undo: bool,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Where container runtimes keep what they know.
#[derive(Debug, Args)]
pub(crate) struct Directories {
    /// The directory of network configurations [default: /etc/cni/net.d].
    #[arg(long, value_name = "DIR", env = "NETCONFPATH", value_parser = path, hide_env_values = true)]
    conf_dir: Option<PathBuf>,
    /// The directory in which attachments are remembered [default: /var/lib/cni].
    #[arg(long, value_name = "DIR", env = "PODWIRE_CNI_CACHE_DIR", value_parser = path, hide_env_values = true)]
    cache_dir: Option<PathBuf>,
}

impl Directories {
    /// The directory of network configurations.
    pub(crate) fn conf_dir(&self) -> PathBuf {
        given(self.conf_dir.as_ref(), "/etc/cni/net.d")
    }

    /// The directory in which attachments are remembered.
    pub(crate) fn cache_dir(&self) -> PathBuf {
        given(self.cache_dir.as_ref(), "/var/lib/cni")
    }
}

/// A path; an empty one, as a variable can be, counts as none.
fn path(text: &str) -> std::result::Result<PathBuf, std::convert::Infallible> {
    Ok(text.into())
}

fn given(path: Option<&PathBuf>, default: &str) -> PathBuf {
    path.filter(|path| !path.as_os_str().is_empty()).cloned().unwrap_or_else(|| default.into())
}

/// How to print an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How to print an answer or a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// A script for `sh`, together with --dry-run.
    Sh,
}

/// Understands the command line, runs the command and says how it ended.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, everything else is wrong use; clap prints either where
            // it belongs.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Yes }.into();
        }
    };
    let terminal = Terminal::detect(cli.color, cli.ascii);
    match run(cli.command, terminal) {
        Ok(code) => code,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "{failure}");
            failure.exit.into()
        }
    }
}

fn run(command: Command, terminal: Terminal) -> Result<ExitCode> {
    match command {
        Command::Lab(LabCommand::Up(up)) => crate::lab::up(up, terminal),
        Command::Lab(LabCommand::Down(down)) => crate::lab::down(&down),
        Command::Lab(LabCommand::Ls(list)) => crate::lab::list(&list),
        Command::Lab(LabCommand::Status(status)) => crate::lab::status(&status, terminal),
        Command::Lab(LabCommand::Graph(graph)) => crate::lab::graph(&graph, terminal),
        Command::Lab(LabCommand::Exec(exec)) => crate::lab::exec(&exec),
        Command::Lab(LabCommand::Resolver(resolver)) => crate::lab::resolver::run(&resolver),
        Command::Lab(LabCommand::Node(command)) => crate::lab::edit::node(&command, terminal),
        Command::Lab(LabCommand::Pod(command)) => crate::lab::edit::pod(&command, terminal),
        Command::Lab(LabCommand::Agent(command)) => crate::lab::edit::agent(&command),
        Command::Lab(LabCommand::Break(it)) => crate::lab::faults::inject(&it, terminal),
        Command::Lab(LabCommand::Fix(it)) => crate::lab::faults::fix(&it, terminal),
        Command::Lab(LabCommand::Faults(it)) => crate::lab::faults::list(&it, terminal),
        Command::Lab(LabCommand::Quiz(it)) => crate::lab::faults::quiz(&it, terminal),
        Command::Demo(demo) => demo::run(demo, terminal),
        Command::Cni(command) => crate::cni::run(&command, terminal),
        Command::Ipam(command) => crate::ipam::run(&command, terminal),
        Command::Agent(agent) => crate::agent::run(&agent, terminal),
        Command::Explain(explain) => crate::explain::run(&explain, terminal),
        Command::Verify(verify) => crate::verify::run(&verify, terminal),
        Command::Responder(responder) => crate::responder::run(&responder.config),
        Command::Doctor(doctor) => crate::doctor::run(&doctor, terminal),
        Command::Snapshot(snapshot) => snapshot::run(&snapshot),
        Command::Diff(diff) => snapshot::diff(&diff, terminal),
        Command::Schema { kind } => snapshot::schema(kind),
        Command::Install(install) => install::run(&install),
        Command::Completion { shell } => {
            completion::print(shell)?;
            Ok(Exit::Yes.into())
        }
        Command::Version => {
            print(&format!("podwire {}\n", env!("CARGO_PKG_VERSION")))?;
            Ok(Exit::Yes.into())
        }
    }
}

/// An answer for programs.
pub(crate) fn document(answer: &impl topology::Document) -> Result<String> {
    let failed = |error: serde_json::Error| Failure::new(Exit::Unknown, error.to_string());
    answer.to_document().map_err(failed)
}

/// Writes an answer to standard output. A reader who has gone away wanted no more of it.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Unknown, format!("write the answer: {error}")))
        }
        _ => Ok(()),
    }
}
