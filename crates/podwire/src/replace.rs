//! Files that come into place as a whole.

use std::fs;
use std::io;
use std::path::Path;

/// Writes a file beside its place, and then into it; its directory is made if there is none.
pub(crate) fn replace(path: &Path, content: &str) -> io::Result<()> {
    // Runtimes read what ends in .conflist, so this one is of no interest to them.
    let temporary = path.with_extension(format!("podwire-{}", std::process::id()));
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(&temporary, content).and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}
