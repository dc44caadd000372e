//! Where there is something to look at: this machine, the labs on it, and snapshots.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use topology::{DocumentError, Gap, Machine, Sources};

use crate::failure::{Exit, Failure, Result};
use crate::lab::store;

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

/// The machine in a snapshot; `-` is standard input.
pub(crate) fn document(path: &Path) -> std::result::Result<Machine, DocumentError> {
    match path {
        path if path == Path::new("-") => Machine::read_document(io::stdin().lock()),
        path => File::open(path).map_err(DocumentError::from).and_then(Machine::read_document),
    }
}

/// As [`document`], for `podwire diff`, which knows no file that is not found.
pub(crate) fn snapshot(path: &Path) -> Result<Machine> {
    document(path).map_err(|error| {
        let exit = match &error {
            DocumentError::Io(error) if error.kind() == ErrorKind::PermissionDenied => {
                Exit::Unknown
            }
            _ => Exit::Usage,
        };
        let failure = Failure::new(exit, format!("snapshot {}: {error}", path.display()));
        match error {
            DocumentError::Foreign { .. } => failure
                .remedy("use the podwire that wrote it, or write it anew: podwire snapshot FILE"),
            DocumentError::CutShort { .. } => failure.remedy("write or copy it again"),
            _ => failure,
        }
    })
}
