//! The plugins, where container runtimes look for them, and back.
//!
//! The one program lies beside its names, which are relative symbolic links to it, so that the
//! directory may be mounted anywhere. Every file comes into place by a rename: at no moment is a
//! plugin missing or half written. What had a name before is kept beside it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::cli::Install;
use crate::failure::{Exit, Failure, Result};

/// The program that is all plugins.
const PROGRAM: &str = "podwire-cni";
/// What the name of a file that was there before ends with.
const KEPT: &str = ".before-podwire";

pub(super) fn run(arguments: &Install) -> Result<String> {
    let directory = &arguments.dir;
    match (arguments.undo, arguments.dry_run) {
        (false, false) => install(directory, &source()?),
        (false, true) => script(directory, &source()?),
        (true, false) => undo(directory, &shipped()?),
        (true, true) => undo_script(directory, &shipped()?),
    }
}

/// Where the program lies that this one was shipped with: beside it.
fn shipped() -> Result<PathBuf> {
    let own = std::env::current_exe().map_err(|error| {
        Failure::new(Exit::Unknown, format!("find this program's own file: {error}"))
    })?;
    Ok(own.with_file_name(PROGRAM))
}

/// The program to install.
fn source() -> Result<PathBuf> {
    let source = shipped()?;
    if source.is_file() {
        return Ok(source);
    }
    let what = format!("there is no {}", source.display());
    Err(Failure::new(Exit::NotFound, what)
        .remedy("`cargo xtask dist` builds both into target/dist; run podwire from there"))
}

/// What has a plugin's name.
enum Found {
    Nothing,
    Ours,
    Foreign,
}

fn look(directory: &Path, name: &str) -> Result<Found> {
    let path = directory.join(name);
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) => Err(failed("read", &path, &error)),
        Ok(metadata) if metadata.is_dir() => {
            let what = format!("{} cannot become a plugin: it is a directory", path.display());
            Err(Failure::new(Exit::No, what).remedy("move it away"))
        }
        Ok(_) if fs::read_link(&path).is_ok_and(|target| target == Path::new(PROGRAM)) => {
            Ok(Found::Ours)
        }
        Ok(_) => Ok(Found::Foreign),
    }
}

fn install(directory: &Path, source: &Path) -> Result<String> {
    fs::create_dir_all(directory).map_err(|error| failed("create", directory, &error))?;
    let found: Vec<(&str, Found)> = ::plugins::NAMES
        .iter()
        .map(|name| Ok((*name, look(directory, name)?)))
        .collect::<Result<_>>()?;
    let program = directory.join(PROGRAM);
    let was_there = program.exists();
    write(source, &program)?;
    let mut done: Vec<&(&str, Found)> = Vec::new();
    for item in &found {
        let (name, what) = item;
        let kept = match what {
            Found::Ours => continue,
            Found::Nothing => Ok(()),
            Found::Foreign => keep(directory, name),
        };
        if let Err(failure) = kept.and_then(|()| link(directory, name)) {
            for (name, _) in done.into_iter().rev() {
                // The failure that is reported is the one that came first.
                let _ = give_back(directory, name);
            }
            if !was_there {
                let _ = fs::remove_file(&program);
            }
            return Err(failure.exit(Some(Exit::Undone)));
        }
        done.push(item);
    }
    let mut text = format!(
        "Installed in {}: {PROGRAM}, called as {}.\n",
        directory.display(),
        ::plugins::NAMES.join(", ")
    );
    let foreign = found.iter().filter(|(_, what)| matches!(what, Found::Foreign));
    let foreign: Vec<&str> = foreign.map(|(name, _)| *name).collect();
    if !foreign.is_empty() {
        text += &format!(
            "What was called {} is kept as NAME{KEPT}; `podwire install --undo` goes back to it.\n",
            foreign.join(", ")
        );
    }
    Ok(text)
}

/// Copies the program: first beside its place, then into it.
fn write(source: &Path, program: &Path) -> Result<()> {
    let temporary = program.with_extension("new");
    let copy = || -> io::Result<()> {
        let content = fs::read(source)?;
        let _ = fs::remove_file(&temporary);
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&temporary)?;
        file.write_all(&content)?;
        file.sync_all()?;
        fs::rename(&temporary, program)
    };
    copy().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        failed("write", program, &error)
    })
}

/// Gives a foreign file a second name; the newest one is what a person would go back to.
fn keep(directory: &Path, name: &str) -> Result<()> {
    let (path, temporary) = (directory.join(name), directory.join(format!("{name}.new")));
    let _ = fs::remove_file(&temporary);
    fs::hard_link(&path, &temporary)
        .and_then(|()| fs::rename(&temporary, kept(directory, name)))
        .map_err(|error| failed("keep", &path, &error))
}

/// Makes a plugin's name one of ours.
fn link(directory: &Path, name: &str) -> Result<()> {
    let (path, temporary) = (directory.join(name), directory.join(format!("{name}.new")));
    let _ = fs::remove_file(&temporary);
    symlink(PROGRAM, &temporary)
        .and_then(|()| fs::rename(&temporary, &path))
        .map_err(|error| failed("replace", &path, &error))
}

/// Gives a name of ours back to what had it before. Returns whether somebody had.
fn give_back(directory: &Path, name: &str) -> Result<bool> {
    let (path, kept) = (directory.join(name), kept(directory, name));
    let had = kept.symlink_metadata().is_ok();
    let done = if had { fs::rename(&kept, &path) } else { fs::remove_file(&path) };
    done.map(|()| had).map_err(|error| failed("restore", &path, &error))
}

/// The names in a directory that are ours, whatever version of podwire put them there.
fn ours(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).map_err(|error| failed("read", directory, &error))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_ours = |name: &String| matches!(look(directory, name), Ok(Found::Ours));
    let mut names: Vec<String> = names.filter(is_ours).collect();
    names.sort();
    Ok(names)
}

/// Goes back to what was there before, but keeps the program that is to be installed again.
fn undo(directory: &Path, shipped: &Path) -> Result<String> {
    let names = ours(directory)?;
    let mut text = String::new();
    for name in &names {
        let had = give_back(directory, name)?;
        let what = if had { "is again what it was before podwire" } else { "is removed" };
        text += &format!("{}: {what}.\n", directory.join(name).display());
    }
    let program = directory.join(PROGRAM);
    if !lies_in(shipped, directory) {
        match fs::remove_file(&program) {
            Ok(()) => text += &format!("{}: is removed.\n", program.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("remove", &program, &error)),
        }
    }
    if text.is_empty() {
        return Ok(format!("Nothing in {} is podwire's.\n", directory.display()));
    }
    text += "Pods that podwire attached keep their network; docs/runtimes.md says what stays of it \
             when they go.\n";
    Ok(text)
}

fn script(directory: &Path, source: &Path) -> Result<String> {
    let program = word(&directory.join(PROGRAM));
    let mut text =
        format!("mkdir -p {}\ninstall -m 755 {} {program}\n", word(directory), word(source));
    for name in ::plugins::NAMES {
        let path = word(&directory.join(name));
        match look(directory, name)? {
            Found::Ours => continue,
            Found::Nothing => {}
            Found::Foreign => text += &format!("mv {path} {}\n", word(&kept(directory, name))),
        }
        text += &format!("ln -s {PROGRAM} {path}\n");
    }
    Ok(text)
}

fn undo_script(directory: &Path, shipped: &Path) -> Result<String> {
    let mut text = String::new();
    for name in ours(directory)? {
        let (path, kept) = (word(&directory.join(&name)), kept(directory, &name));
        text += &match kept.symlink_metadata() {
            Ok(_) => format!("mv {} {path}\n", word(&kept)),
            Err(_) => format!("rm {path}\n"),
        };
    }
    if !lies_in(shipped, directory) {
        text += &format!("rm -f {}\n", word(&directory.join(PROGRAM)));
    }
    Ok(text)
}

/// Whether a file lies in a directory, by whatever path either was found.
fn lies_in(file: &Path, directory: &Path) -> bool {
    let parent = file.parent().and_then(|parent| parent.canonicalize().ok());
    parent.is_some_and(|parent| directory.canonicalize().is_ok_and(|it| it == parent))
}

/// A path as one word of a shell.
fn word(path: &Path) -> String {
    net::quote(&path.display().to_string())
}

fn kept(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}{KEPT}"))
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> Failure {
    let text = error.to_string().to_lowercase();
    let why = text.split(" (os error").next().unwrap_or_default();
    let failure = Failure::new(Exit::Unknown, format!("{verb} {}: {why}", path.display()));
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            failure.remedy("run it as root, or choose another --dir")
        }
        io::ErrorKind::NotFound => failure.remedy("choose another --dir"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with a foreign bridge and a program to install.
    fn setup() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let (directory, source) = (root.path().join("bin"), root.path().join("source"));
        fs::create_dir(&directory).unwrap();
        fs::write(&source, "podwire").unwrap();
        fs::write(directory.join("bridge"), "foreign").unwrap();
        (root, directory, source)
    }

    fn listing(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn names_lead_to_the_program_and_back() {
        let (_root, directory, source) = setup();
        for _ in 0..2 {
            install(&directory, &source).unwrap();
            for name in ::plugins::NAMES {
                assert_eq!(fs::read_to_string(directory.join(name)).unwrap(), "podwire");
            }
            assert_eq!(
                fs::read_to_string(directory.join("bridge.before-podwire")).unwrap(),
                "foreign"
            );
        }
        assert_eq!(listing(&directory).len(), ::plugins::NAMES.len() + 2);
        undo(&directory, &source).unwrap();
        assert_eq!(listing(&directory), ["bridge"]);
        assert_eq!(fs::read_to_string(directory.join("bridge")).unwrap(), "foreign");
        assert!(undo(&directory, &source).unwrap().starts_with("Nothing"));
    }

    #[test]
    fn the_program_that_was_shipped_stays() {
        let (_root, directory, _) = setup();
        let shipped = directory.join(PROGRAM);
        fs::write(&shipped, "podwire").unwrap();
        install(&directory, &shipped).unwrap();
        assert!(!undo_script(&directory, &shipped).unwrap().contains("rm -f"));
        undo(&directory, &shipped).unwrap();
        assert_eq!(listing(&directory), ["bridge", PROGRAM]);
    }

    #[test]
    fn scripts_survive_any_path() {
        let directory = Path::new("/tmp/my plugins");
        let script = script(directory, Path::new("/opt/it's/podwire-cni")).unwrap();
        assert!(script.starts_with("mkdir -p '/tmp/my plugins'\ninstall -m 755 "), "{script}");
        assert!(script.contains(r"'/opt/it'\''s/podwire-cni' '/tmp/my plugins/podwire-cni'"));
        assert!(script.contains("ln -s podwire-cni '/tmp/my plugins/bridge'"), "{script}");
    }

    #[test]
    fn a_directory_in_the_way_changes_nothing() {
        let (_root, directory, source) = setup();
        fs::create_dir(directory.join("loopback")).unwrap();
        let failure = install(&directory, &source).unwrap_err();
        assert_eq!(failure.exit, Exit::No);
        assert_eq!(listing(&directory), ["bridge", "loopback"]);
    }

    #[test]
    fn a_failure_half_way_is_taken_back() {
        let (_root, directory, source) = setup();
        // The temporary name of a link is taken by what cannot be removed as a file.
        fs::create_dir(directory.join("loopback.new")).unwrap();
        let failure = install(&directory, &source).unwrap_err();
        assert_eq!(failure.exit, Exit::Undone);
        assert_eq!(listing(&directory), ["bridge", "loopback.new"]);
        assert_eq!(fs::read_to_string(directory.join("bridge")).unwrap(), "foreign");
    }
}
