//! `podwire cni` as it is typed.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::{Directories, Format, path};

/// What to do with networks.
#[derive(Debug, Subcommand)]
pub(crate) enum CniCommand {
    /// Attach a namespace to a network; if a plugin fails, what was done is taken back.
    #[command(after_help = "Examples:\n  podwire cni add mynet pod1\n  \
        podwire cni add mynet /proc/4711/ns/net --ifname net1 -o json\n  \
        podwire cni add mynet pod1 --capability-args \
        '{\"portMappings\":[{\"hostPort\":8080,\"containerPort\":80,\"protocol\":\"tcp\"}]}'")]
    Add(Attachment),
    /// Ask the plugins whether an attachment is as it was made.
    Check(Attachment),
    /// Detach a namespace from a network, however little is left of either.
    #[command(after_help = "What is not said is as it was for add: arguments, capabilities and, \
        with --container-id, the namespace. A network whose configuration is gone is detached with \
        the one that was remembered.")]
    Del(Attachment),
    /// Remove what belongs to no valid attachment of a network.
    #[command(
        after_help = "Without --keep and --none-valid, an attachment is valid as long as its \
        namespace exists, and where no attachment of the network is remembered, nothing is done. \
        Plugins are told of the valid ones from CNI 1.1.0 on."
    )]
    Gc(Collect),
    /// Ask the plugins whether they could attach anything.
    Status(Network),
    /// Show which versions each plugin of a network speaks.
    Version(Network),
    /// List networks with their plugins, and what is attached to them.
    #[command(visible_alias = "ls")]
    List(List),
}

/// Where things are.
#[derive(Debug, Args)]
pub(crate) struct Places {
    #[command(flatten)]
    pub(crate) directories: Directories,
    /// A directory of plugins; may be given more than once, or with colons [default: /opt/cni/bin].
    #[arg(long, value_name = "DIR", env = "CNI_PATH", value_parser = path, value_delimiter = ':', hide_env_values = true)]
    plugin_dir: Vec<PathBuf>,
    /// How long each plugin may take, such as 30s or 500ms; then it is killed.
    #[arg(long, value_name = "TIME", env = "PODWIRE_CNI_TIMEOUT", default_value = "60s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
}

impl Places {
    /// The directories of plugins.
    pub(crate) fn plugin_dirs(&self) -> Vec<PathBuf> {
        let dirs = self.plugin_dir.iter().filter(|dir| !dir.as_os_str().is_empty());
        let dirs: Vec<_> = dirs.cloned().collect();
        if dirs.is_empty() { vec!["/opt/cni/bin".into()] } else { dirs }
    }
}

/// `podwire cni add|check|del`
#[derive(Debug, Args)]
pub(crate) struct Attachment {
    /// The network's name, as its configuration has it.
    pub(crate) network: String,
    /// The namespace: a path, or the name that `ip netns` knows.
    #[arg(required_unless_present = "container_id")]
    pub(crate) netns: Option<String>,
    /// The interface's name in the namespace [default: eth0].
    #[arg(short, long, value_name = "NAME", env = "CNI_IFNAME", hide_env_values = true)]
    ifname: Option<String>,
    /// The container's identifier; without it the one that cnitool makes of the namespace's path.
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) container_id: Option<String>,
    /// Capability arguments, for the plugins that declare them: a JSON object.
    #[arg(long, value_name = "JSON", env = "CAP_ARGS", value_parser = capability_args, hide_env_values = true)]
    pub(crate) capability_args: Option<CapabilityArgs>,
    /// Arguments for all plugins: K=V;K=V.
    #[arg(long, value_name = "ARGS", env = "CNI_ARGS", hide_env_values = true)]
    pub(crate) args: Option<CniArgs>,
    #[command(flatten)]
    pub(crate) places: Places,
}

impl Attachment {
    /// The interface's name in the namespace.
    pub(crate) fn ifname(&self) -> String {
        self.ifname.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| "eth0".to_owned())
    }
}

/// `podwire cni gc`
#[derive(Debug, Args)]
pub(crate) struct Collect {
    /// The network's name, as its configuration has it.
    pub(crate) network: String,
    /// Of no effect; cnitool wants one.
    #[arg(hide = true)]
    netns: Option<String>,
    /// An attachment that is valid, while those that are not named are not; may be given more than
    /// once. Without an interface, all that are remembered of the container, or eth0.
    #[arg(long, value_name = "CONTAINER[/IFNAME]", conflicts_with = "none_valid")]
    pub(crate) keep: Vec<String>,
    /// No attachment is valid: all of the network goes.
    #[arg(long)]
    pub(crate) none_valid: bool,
    /// Only show what is valid and what would go.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) places: Places,
}

/// `podwire cni status|version`
#[derive(Debug, Args)]
pub(crate) struct Network {
    /// The network's name, as its configuration has it.
    pub(crate) network: String,
    /// Of no effect; cnitool wants one.
    #[arg(hide = true)]
    netns: Option<String>,
    #[command(flatten)]
    pub(crate) places: Places,
}

/// `podwire cni list`
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only this network.
    pub(crate) network: Option<String>,
    /// Leave the first lines out.
    #[arg(long)]
    pub(crate) no_headers: bool,
    #[command(flatten)]
    pub(crate) places: Places,
}

/// The pairs of `CNI_ARGS`.
#[derive(Clone, Debug)]
pub(crate) struct CniArgs(pub(crate) Vec<(String, String)>);

impl FromStr for CniArgs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let pair = |pair: &str| match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() && !value.contains('=') => {
                Ok((key.to_owned(), value.to_owned()))
            }
            _ => Err(format!("invalid CNI_ARGS pair {pair:?}: expected KEY=VALUE")),
        };
        let pairs = text.split(';').filter(|_| !text.is_empty());
        pairs.map(pair).collect::<Result<_, _>>().map(Self)
    }
}

/// The members of `CAP_ARGS`.
#[derive(Clone, Debug)]
pub(crate) struct CapabilityArgs(pub(crate) Map<String, Value>);

fn capability_args(text: &str) -> Result<CapabilityArgs, String> {
    if text.is_empty() {
        return Ok(CapabilityArgs(Map::new()));
    }
    match cni::json::parse(text.as_bytes()) {
        Ok(Value::Object(members)) => Ok(CapabilityArgs(members)),
        Ok(_) => Err("expected a JSON object such as {\"mac\":\"02:00:00:00:00:01\"}".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|char: char| !char.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        _ => return Err("expected a time such as 30s, 500ms or 2m".to_owned()),
    };
    let number: Option<u64> = digits.parse().ok().filter(|number| *number > 0);
    let millis = number.and_then(|number| number.checked_mul(unit));
    millis.map(Duration::from_millis).ok_or_else(|| "expected a whole number from 1 on".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, millis) in [("30", 30_000), ("30s", 30_000), ("500ms", 500), ("2m", 120_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)));
        }
        for text in ["", "s", "0", "1h", "-1", "1.5", "18446744073709551615m"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn arguments_are_pairs() {
        let pairs = |text: &str| text.parse::<CniArgs>().map(|CniArgs(pairs)| pairs.len());
        assert_eq!(pairs(""), Ok(0));
        assert_eq!(pairs("IgnoreUnknown=1;IP=10.0.0.2"), Ok(2));
        for bad in ["x", "x=", "=x", "a=b;", "a=b=c"] {
            assert!(pairs(bad).unwrap_err().starts_with("invalid CNI_ARGS pair "), "{bad}");
        }
    }
}
