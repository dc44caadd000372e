//! The record of what was broken in a lab: written before anything is, and beside the lab's own record,
//! so that what is only told to be broken is nobody else's business.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use net::Plan;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::repair::Before;
use super::{Fault, named};
use crate::{Error, Result};

/// A fault that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Broken {
    /// Which one.
    pub(super) fault: String,
    /// What it was made on: `pod/pod1`.
    pub on: String,
    /// The steps that made it.
    pub steps: Plan,
    /// What was before.
    pub(super) before: Vec<Before>,
    /// Of one that a person is to find: how many hints were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hints: Option<u8>,
}

impl Broken {
    pub(super) fn new(fault: &Fault, on: String, steps: Plan, before: Vec<Before>) -> Self {
        Self { fault: fault.name.to_owned(), on, steps, before, hints: None }
    }

    /// Which one; `None` of one that this version does not know.
    pub fn fault(&self) -> Option<&'static Fault> {
        named(&self.fault)
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.fault
    }

    /// Whether a person is to find it.
    pub fn is_hidden(&self) -> bool {
        self.hints.is_some()
    }
}

const FILE: &str = "faults.json";

fn path(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

/// What is broken in the lab with its files in `directory`.
pub(super) fn read(directory: &Path) -> Result<Vec<Broken>> {
    let path = path(directory);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", &path, error)),
    };
    let failed = |source| Error::Record { path: path.clone(), source };
    let record: Value = serde_json::from_slice(&text).map_err(failed)?;
    let items = record["items"].as_array().into_iter().flatten();
    let item = |item: &Value| {
        let value = match item["sealed"].as_str() {
            Some(text) => serde_json::from_slice(&opened(text)),
            None => serde_json::from_value(item.clone()),
        };
        value.map_err(failed)
    };
    items.map(item).collect()
}

/// Writes down what is broken. What a person is to find cannot be read by the way.
pub(super) fn write(directory: &Path, broken: &[Broken]) -> Result<()> {
    let path = path(directory);
    if broken.is_empty() {
        return match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove", &path, error))
            }
            _ => Ok(()),
        };
    }
    let item = |it: &Broken| match it.is_hidden() {
        true => json!({ "sealed": sealed(cni::json::compact(it).as_bytes()) }),
        false => serde_json::to_value(it).unwrap_or_default(),
    };
    let items: Vec<Value> = broken.iter().map(item).collect();
    let record = json!({ "apiVersion": "podwire/v1", "kind": "LabFaults", "items": items });
    let temporary = path.with_extension("new");
    fs::write(&temporary, format!("{record:#}\n"))
        .and_then(|()| fs::rename(&temporary, &path))
        .map_err(|e| Error::io("write", &path, e))
}

fn sealed(text: &[u8]) -> String {
    text.iter().rev().map(|byte| format!("{byte:02x}")).collect()
}

fn opened(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.rev().filter_map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_opened_again() {
        let text = "default-route-missing on pod/pod1";
        assert_eq!(opened(&sealed(text.as_bytes())), text.as_bytes());
        assert!(!sealed(text.as_bytes()).contains("route"));
    }
}
