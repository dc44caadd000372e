//! `podwire cni list`.

use std::process::ExitCode;

use cni::CniResult;
use cni::runtime::directory::{self, Found};
use cni::runtime::{Cache, Error, Record};
use serde_json::{Value, json};

use super::place::is_gone;
use crate::cli::cni::List;
use crate::cli::{Format, print};
use crate::failure::{Exit, Failure, Result};
use crate::lab::{pretty, tell};
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
        Format::Json => pretty(&value(&networks, &records)),
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

fn value(networks: &[Found], records: &[Record]) -> Value {
    let networks = networks.iter().map(|Found { network, file }| {
        let plugins: Vec<_> = network.plugins.iter().map(|it| &it.plugin_type).collect();
        json!({
            "name": network.name,
            "cniVersion": network.version,
            "plugins": plugins,
            "file": file,
        })
    });
    let attachments = records.iter().map(|record| {
        let mut item = super::attachment(&record.parameters);
        item["network"] = record.network.as_str().into();
        item["netnsIsGone"] = record.parameters.netns.as_deref().is_some_and(is_gone).into();
        item["result"] = record.result.clone().into();
        item
    });
    json!({
        "apiVersion": "podwire/v1",
        "kind": "CniNetworkList",
        "items": networks.collect::<Vec<_>>(),
        "attachments": attachments.collect::<Vec<_>>(),
    })
}
