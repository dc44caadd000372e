//! `cargo xtask bench verify`: how long all pairs of a node's pods take to ask each other by all
//! protocols, how that grows, and how many entries of the machine's table of neighbours it takes.

use std::fmt::Write;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::cluster::Options;
use crate::command::{self, cargo, output};
use crate::test::install;

/// What the benchmark calls beside what it builds.
const NEEDS: &[(&str, &str)] =
    &[("ip", "iproute2"), ("unshare", "util-linux"), ("mount", "mount"), ("timeout", "coreutils")];

/// After so many seconds it is ended.
const LIMIT: &str = "300";

/// How many pods there are, one after the other.
const SIZES: [&str; 4] = ["10", "50", "100", "200"];

/// With so many pods, in so many milliseconds on two processors.
const GOAL: (u64, f64) = (100, 3000.0);

/// Builds, measures in namespaces of its own, and reports.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let options = Options::parse(false, arguments)?;
    ensure!(rustix::process::geteuid().is_root(), "this benchmark needs root");
    install(NEEDS)?;
    let target = command::target()?;
    let build = ["build", "--package", "xtask", "--bin", "meetings", "--release", "--locked"];
    command::run(&mut cargo(build))?;
    let mut measure = Command::new("timeout");
    measure.args(["--foreground", "--signal=KILL", LIMIT, "unshare", "--net", "--mount", "--"]);
    measure.arg(target.join("release/meetings")).arg(if options.quick { "3" } else { "11" });
    let lines = output(measure.args(SIZES).stderr(Stdio::inherit()))?;
    let rows: Vec<Value> = lines
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .context("read what was measured")?;
    print!("{}", text(&rows));
    if let Some(path) = &options.json {
        fs::write(path, format!("{:#}\n", json!({ "verify": rows })))
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn text(rows: &[Value]) -> String {
    let mut text = String::from(
        "pods  questions     median       best  processor  neighbours  overflows  drops  failed  goal\n",
    );
    for row in rows {
        let number = |key: &str| row[key].as_f64().unwrap_or_default();
        let count = |key: &str| row[key].to_string();
        // Where the machine's first namespace is out of reach, nobody can tell.
        let told =
            |key: &str| row[key].as_u64().map_or_else(|| "?".to_owned(), |it| it.to_string());
        let line = format!(
            "{:>4} {:>10} {:>7.0} ms {:>7.0} ms {:>7.0} ms {:>11} {:>10} {:>6} {:>7}  {}",
            count("pods"),
            count("questions"),
            number("milliseconds"),
            number("bestMilliseconds"),
            number("processorMilliseconds"),
            count("mostNeighbours"),
            told("overflows"),
            told("drops"),
            count("failed"),
            verdict(row),
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn verdict(row: &Value) -> String {
    let (pods, goal) = GOAL;
    if row["pods"] != pods {
        return String::new();
    }
    let is_kept = row["failed"] == 0
        && row["overflows"] == 0
        && row["milliseconds"].as_f64().is_some_and(|it| it <= goal);
    format!("{goal} ms: {}", if is_kept { "kept" } else { "missed" })
}
