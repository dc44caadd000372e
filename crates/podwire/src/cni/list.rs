//! `podwire cni list`.

use std::path::Path;
use std::process::ExitCode;

use cni::CniResult;
use cni::runtime::directory::{self, Found};
use cni::runtime::{Cache, Error, Record};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use topology::Document;

use super::Told;
use super::place::is_gone;
use crate::cli::cni::List;
use crate::cli::{Format, document, print};
use crate::failure::{Exit, Failure, Result};
use crate::lab::tell;
use crate::table::table;
use crate::terminal::Terminal;

/// Runs it.
pub(super) fn run(arguments: &List, terminal: Terminal) -> Result<ExitCode> {
    let wanted = |name: &str| arguments.network.as_deref().is_none_or(|wanted| wanted == name);
    let (mut networks, unreadable) = directory::list(&arguments.places.directories.conf_dir())?;
    networks.retain(|found| wanted(&found.network.name));
    super::warn(&unreadable);
    let mut exit = Exit::Yes;
    // An ordinary user may see the networks, and mostly not what is attached to them.
    let remembered =
        Cache::new(arguments.places.directories.cache_dir()).list().unwrap_or_else(|error| {
            let failure = Failure::from(error);
            tell(&failure.to_string());
            exit = failure.exit;
            Default::default()
        });
    let (mut records, unusable) = remembered;
    records.retain(|record| wanted(&record.network));
    for unusable in &unusable {
        tell(&format!("warning: {} {}", unusable.path.display(), unusable.why));
    }
    if let Some(name) = &arguments.network
        && networks.is_empty()
        && records.is_empty()
        && exit == Exit::Yes
    {
        let dir = arguments.places.directories.conf_dir();
        return Err(Error::NoNetwork { dir, name: name.clone(), unreadable: Vec::new() }.into());
    }
    print(&match arguments.places.output {
        Format::Json => document(&told(&networks, &records))?,
        Format::Text => text(arguments, &networks, &records, terminal),
    })?;
    Ok(exit.into())
}

fn text(arguments: &List, networks: &[Found], records: &[Record], terminal: Terminal) -> String {
    let row = |cells: [&str; 4]| cells.map(str::to_owned);
    let mut rows = vec![row(["NETWORK", "VERSION", "PLUGINS", "FILE"])];
    rows.extend(networks.iter().map(|Found { network, file }| {
        let plugins: Vec<_> = network.plugins.iter().map(|it| it.plugin_type.as_str()).collect();
        row([&network.name, &network.version, &plugins.join(","), &file.display().to_string()])
    }));
    let mut text = table(rows, arguments.no_headers);
    if records.is_empty() {
        return text;
    }
    text.push('\n');
    let row = |cells: [&str; 5]| cells.map(str::to_owned);
    let mut rows = vec![row(["ATTACHED TO", "INTERFACE", "ADDRESSES", "NAMESPACE", "CONTAINER"])];
    rows.extend(records.iter().map(|record| {
        let parameters = &record.parameters;
        let netns = match &parameters.netns {
            None => "-".to_owned(),
            Some(path) if is_gone(path) => {
                format!("{} {}", path.display(), terminal.bad("(gone)"))
            }
            Some(path) => path.display().to_string(),
        };
        let addresses = match &record.result {
            None => "(unfinished)".to_owned(),
            Some(result) => addresses(result).join(","),
        };
        let cni::Attachment { container_id, ifname } = &parameters.attachment;
        row([&record.network, ifname, &addresses, &netns, container_id])
    }));
    text + &table(rows, arguments.no_headers)
}

fn addresses(result: &Value) -> Vec<String> {
    let result = CniResult::parse(result, "").unwrap_or_default();
    result.ips.iter().map(|ip| ip.address.to_string()).collect()
}

/// All of it for programs.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Networks<'a> {
    /// The networks that are configured.
    items: Vec<Network<'a>>,
    /// What is remembered of attachments to them, and to others.
    attachments: Vec<Attached<'a>>,
}

/// A network that is configured.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Network<'a> {
    /// What it is called.
    name: &'a str,
    /// The version of CNI that it is written in.
    cni_version: &'a str,
    /// Its plugins, in their order.
    plugins: Vec<&'a str>,
    /// Where it is written.
    file: &'a Path,
}

/// What is remembered of an attachment.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Attached<'a> {
    #[serde(flatten)]
    attachment: Told<'a>,
    /// The network.
    network: &'a str,
    /// Whether nothing is where the network namespace was.
    netns_is_gone: bool,
    /// What the plugins said at last; `null` where an ADD has not ended.
    result: Option<&'a Value>,
}

impl Document for Networks<'_> {
    const KIND: &'static str = "CniNetworkList";
}

fn told<'a>(networks: &'a [Found], records: &'a [Record]) -> Networks<'a> {
    let network = |Found { network, file }: &'a Found| Network {
        name: &network.name,
        cni_version: &network.version,
        plugins: network.plugins.iter().map(|it| it.plugin_type.as_str()).collect(),
        file,
    };
    let attached = |record: &'a Record| Attached {
        attachment: Told::of(&record.parameters),
        network: &record.network,
        netns_is_gone: record.parameters.netns.as_deref().is_some_and(is_gone),
        result: record.result.as_ref(),
    };
    Networks {
        items: networks.iter().map(network).collect(),
        attachments: records.iter().map(attached).collect(),
    }
}
