//! `podwire snapshot`: this machine in a file, of which every question can be asked elsewhere.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::{Snapshot, print};
use crate::failure::{Exit, Failure, Result};
use crate::lab::tell;
use crate::look;
use crate::replace::replace;
use crate::terminal::harmless;

/// `podwire snapshot FILE`
pub(crate) fn run(arguments: &Snapshot) -> Result<ExitCode> {
    let machine = look::machine()?;
    let failed = |what: String| Failure::new(Exit::Unknown, what);
    let text = machine.to_document().map_err(|error| failed(error.to_string()))?;
    if arguments.file == Path::new("-") {
        print(&text)?;
    } else {
        let path = &arguments.file;
        replace(path, &text)
            .map_err(|error| failed(format!("write {}: {error}", path.display())))?;
    }
    for gap in &machine.gaps {
        tell(&format!("warning: {}: {}", harmless(&gap.what), harmless(&gap.why)));
    }
    Ok(Exit::Yes.into())
}
