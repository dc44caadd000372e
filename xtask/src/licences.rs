//! Whether all that podwire stands on may be shipped with it: licences and origins, by `deny.toml`.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command;

/// Fails with one line for each package whose licence is not on the list, or that comes from
/// somewhere else than cargo's own registry.
pub(crate) fn check() -> Result<()> {
    let policy = command::root().join("deny.toml");
    let policy = fs::read_to_string(&policy).with_context(|| policy.display().to_string())?;
    let allowed = allowed(&policy);
    let metadata = command::metadata(true)?;
    let used = metadata["resolve"]["nodes"].as_array().context("cargo resolves nothing")?;
    let used: BTreeSet<_> = used.iter().filter_map(|node| node["id"].as_str()).collect();
    let packages = metadata["packages"].as_array().context("cargo lists no packages")?;
    let packages = packages.iter().filter(|p| p["id"].as_str().is_some_and(|id| used.contains(id)));
    let mut complaints = Vec::new();
    let mut count = 0;
    for package in packages {
        count += 1;
        let name = format!("{} {}", text(&package["name"]), text(&package["version"]));
        let licence = text(&package["license"]);
        if !is_allowed(licence, &allowed) {
            complaints.push(format!("{name}: its licence {licence:?} is not on the list"));
        }
        // Ours have no source at all; a registry that replaces cargo's own keeps its name.
        if package["source"].as_str().is_some_and(|source| !source.starts_with("registry+")) {
            complaints.push(format!("{name}: it comes from {}", package["source"]));
        }
    }
    if !complaints.is_empty() {
        bail!("deny.toml does not allow:\n  {}", complaints.join("\n  "));
    }
    eprintln!("the licences and origins of {count} packages are as deny.toml wants them");
    Ok(())
}

/// The entries of `allow = […]`: quoted words up to the closing bracket.
fn allowed(policy: &str) -> BTreeSet<&str> {
    let list = policy.split_once("\nallow = [").map_or("", |(_, rest)| rest);
    let list = list.split(']').next().unwrap_or_default();
    list.split('"').skip(1).step_by(2).collect()
}

/// Evaluates an SPDX expression: `OR` binds weaker than `AND`, parentheses bind most, and the old
/// slash means `OR`.
fn is_allowed(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    any(&mut words, allowed) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>, allowed: &BTreeSet<&str>) -> bool {
    let mut holds = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        holds |= all(words, allowed);
    }
    holds
}

fn all(words: &mut Words<'_>, allowed: &BTreeSet<&str>) -> bool {
    let mut holds = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        holds &= one(words, allowed);
    }
    holds
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<&str>) -> bool {
    match words.next() {
        Some("(") => {
            let holds = any(words, allowed);
            words.next_if_eq(&")").is_some() && holds
        }
        Some(name) => {
            let exception = words.next_if_eq(&"WITH").and_then(|_| words.next());
            match exception {
                Some(exception) => allowed.contains(format!("{name} WITH {exception}").as_str()),
                None => allowed.contains(name),
            }
        }
        None => false,
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_spdx_means_them() {
        let policy =
            "[licenses]\nallow = [\n    \"MIT\",\n    \"Unicode-3.0\",\n]\nother = [\"GPL\"]";
        let allowed = allowed(policy);
        assert_eq!(allowed, BTreeSet::from(["MIT", "Unicode-3.0"]));
        for good in
            ["MIT", "GPL OR MIT", "MIT/GPL", "(MIT OR GPL) AND Unicode-3.0", "GPL AND GPL OR MIT"]
        {
            assert!(is_allowed(good, &allowed), "{good}");
        }
        for bad in ["", "GPL", "MIT AND GPL", "(MIT", "MIT WITH X", "MIT Unicode-3.0", "GPL OR"] {
            assert!(!is_allowed(bad, &allowed), "{bad}");
        }
    }
}
