//! Where there is something to look at: this machine, the labs on it, and snapshots.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use topology::{DocumentError, Gap, Machine, Sources};

use crate::failure::{Exit, Failure, Result};
use crate::lab::store;
use crate::terminal::harmless;

/// This machine with all labs on it, as it is now.
pub(crate) fn machine() -> Result<Machine> {
    let store = store();
    let mut sources = Sources::machine();
    let mut gaps = Vec::new();
    let labs = store.list().unwrap_or_else(|error| {
        gaps.push(Gap { what: "labs".to_owned(), why: error.to_string() });
        Vec::new()
    });
    for summary in labs {
        match &summary.lab {
            Ok(Some(lab)) => {
                let Sources { places, nodes, .. } = lab.sources(&store.directory(&lab.name));
                sources.places.extend(places);
                sources.nodes.extend(nodes);
            }
            Ok(None) => {}
            Err(error) => {
                gaps.push(Gap { what: format!("lab {}", summary.name), why: error.to_string() });
            }
        }
    }
    let mut machine = Machine::collect(&sources)?;
    machine.gaps.append(&mut gaps);
    Ok(machine)
}

/// The machine in a snapshot; `-` is standard input. A file that is not there, or is no snapshot, is
/// wrong use; one that is there and cannot be read leaves the question open.
pub(crate) fn snapshot(path: &Path) -> Result<Machine> {
    let read = match path {
        path if path == Path::new("-") => Machine::read_document(io::stdin().lock()),
        path => File::open(path).map_err(DocumentError::from).and_then(Machine::read_document),
    };
    read.map_err(|error| {
        let exit = match &error {
            DocumentError::Io(error) if !is_bad_file(error.kind()) => Exit::Unknown,
            _ => Exit::Usage,
        };
        let what = format!("snapshot {}: {error}", path.display());
        let failure = Failure::new(exit, harmless(&what));
        match error {
            DocumentError::Foreign { .. } => failure
                .remedy("use the podwire that wrote it, or write it anew: podwire snapshot FILE"),
            DocumentError::CutShort { .. } => failure.remedy("write or copy it again"),
            DocumentError::Io(_) => failure,
            _ => failure.remedy("write one with `podwire snapshot FILE`"),
        }
    })
}

/// Whether the file is another than was meant.
fn is_bad_file(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotFound
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::InvalidData
    )
}
