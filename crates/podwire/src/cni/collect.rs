//! `podwire cni gc`.

use std::process::ExitCode;

use cni::Attachment;
use cni::runtime::{self, Collected, NetworkList, Record, Runtime, Unusable};
use serde_json::{Value, json};

use super::place::is_gone;
use crate::cli::cni::Collect;
use crate::cli::{Format, print};
use crate::failure::{Exit, Failure, Result};
use crate::lab::{pretty, tell};

/// Runs it.
pub(super) fn run(arguments: &Collect, runtime: &Runtime<'_>) -> Result<ExitCode> {
    let network = super::network(&arguments.places, &arguments.network)?;
    let (records, mut unusable) = runtime.cache.list()?;
    unusable.retain(|it| !it.candidates(&network.name).is_empty());
    let known: Vec<Record> =
        records.into_iter().filter(|record| record.network == network.name).collect();
    let is_silent = known.is_empty() && arguments.keep.is_empty() && !arguments.none_valid;
    let valid = valid(arguments, &known)?;
    let is_valid = |record: &&Record| valid.contains(&record.parameters.attachment);
    let stale = known.iter().filter(|record| !is_valid(record));
    let stale: Vec<Attachment> = stale.map(|it| it.parameters.attachment.clone()).collect();
    let collected = if arguments.dry_run || is_silent {
        Collected { deleted: stale, unusable, ..Collected::default() }
    } else {
        let spared = spared(arguments, &network, &unusable);
        runtime.gc(&network, &[valid.clone(), spared].concat())?
    };
    for unusable in &collected.unusable {
        tell(&format!("warning: {} {}", unusable.path.display(), unusable.why));
    }
    let failures: Vec<Failure> = collected.failures.into_iter().map(Failure::from).collect();
    for failure in &failures {
        tell(&failure.to_string());
    }
    print(&match arguments.places.output {
        Format::Json => {
            let failures: Vec<String> = failures.iter().map(Failure::to_string).collect();
            let kind = if arguments.dry_run { "CniGcPlan" } else { "CniGcReport" };
            pretty(&json!({
                "apiVersion": "podwire/v1",
                "kind": kind,
                "network": network.name,
                "valid": value(&valid),
                "deleted": value(&collected.deleted),
                "failures": failures,
            }))
        }
        Format::Text if network.disable_gc => {
            format!("{}: GC is switched off by its configuration.\n", network.name)
        }
        Format::Text if is_silent => format!(
            "{0}: nothing is done, because no attachment of it is remembered; `podwire cni gc {0} \
             --none-valid` removes all there is.\n",
            network.name
        ),
        Format::Text => text(arguments, &network, &valid, &collected.deleted),
    })?;
    let worst = failures.iter().map(|failure| failure.exit).next();
    Ok(worst.unwrap_or(Exit::Yes).into())
}

/// What a note may be of that nobody can read: unless the command line says what is valid, plugins
/// shall not take it for stale.
fn spared(arguments: &Collect, network: &NetworkList, unusable: &[Unusable]) -> Vec<Attachment> {
    match arguments.none_valid || !arguments.keep.is_empty() {
        true => Vec::new(),
        false => unusable.iter().flat_map(|it| it.candidates(&network.name)).collect(),
    }
}

/// The attachments that are valid, by what the command line says.
fn valid(arguments: &Collect, known: &[Record]) -> Result<Vec<Attachment>> {
    let attachments = known.iter().map(|record| &record.parameters.attachment);
    if arguments.none_valid {
        return Ok(Vec::new());
    }
    if arguments.keep.is_empty() {
        let lives = |record: &&Record| !record.parameters.netns.as_deref().is_some_and(is_gone);
        let living = known.iter().filter(lives);
        return Ok(living.map(|it| it.parameters.attachment.clone()).collect());
    }
    let mut valid = Vec::new();
    for text in &arguments.keep {
        let of = |container_id: &str, ifname: &str| Attachment {
            container_id: container_id.to_owned(),
            ifname: ifname.to_owned(),
        };
        match text.split_once('/') {
            Some((id, ifname)) => valid.push(of(id, ifname)),
            None => {
                let before = valid.len();
                valid.extend(attachments.clone().filter(|it| it.container_id == *text).cloned());
                if valid.len() == before {
                    valid.push(of(text, "eth0"));
                }
            }
        }
    }
    valid.iter().try_for_each(runtime::require_attachment)?;
    Ok(valid)
}

fn text(
    arguments: &Collect,
    network: &NetworkList,
    valid: &[Attachment],
    deleted: &[Attachment],
) -> String {
    let verb = if arguments.dry_run { "would be deleted" } else { "is deleted" };
    let (stays, goes) = (valid.len(), deleted.len());
    let plural = if stays == 1 { "" } else { "s" };
    let mut text =
        format!("{}: {stays} valid attachment{plural}, {goes} not valid.\n", network.name);
    for Attachment { container_id, ifname } in deleted {
        text += &format!("  {ifname} of container {container_id} {verb}\n");
    }
    text
}

fn value(attachments: &[Attachment]) -> Value {
    let item = |it: &Attachment| json!({ "containerID": it.container_id, "ifname": it.ifname });
    attachments.iter().map(item).collect()
}
