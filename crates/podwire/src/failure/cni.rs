//! What a runtime fails with, and what to do about it.

use std::io;

use cni::Code;
use cni::exec::Failure as Call;
use cni::runtime::Error;

use super::{Exit, Failure};

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut also = Vec::new();
        let inner = match &error {
            Error::Undone { cause, left } => {
                also.extend(
                    left.iter().map(|it| trimmed(&format!("could not be taken back: {it}"))),
                );
                if left.is_empty() {
                    also.push("everything that was done is taken back".to_owned());
                }
                cause
            }
            error => error,
        };
        let exit = match (&error, exit(inner)) {
            (Error::Undone { .. }, Exit::Interrupted) => Exit::Interrupted,
            (Error::Undone { .. }, _) => Exit::Undone,
            (_, exit) => exit,
        };
        let what = match network(inner) {
            Some(network) => format!("network {network}: {error}"),
            None => error.to_string(),
        };
        Self { exit, what: trimmed(&what), also, remedy: remedy(inner) }
    }
}

/// Without the end of the line that a plugin has printed and that is quoted last.
fn trimmed(text: &str) -> String {
    text.trim_end().to_owned()
}

/// The network of an error whose text does not name it.
fn network(error: &Error) -> Option<&str> {
    match error {
        Error::Plugin { network, .. } => Some(network),
        Error::Stale { cause, .. } => network(cause),
        _ => None,
    }
}

fn exit(error: &Error) -> Exit {
    match error {
        Error::Configuration(_) | Error::File { .. } | Error::Invalid { .. } => Exit::Usage,
        Error::NoConfigurations { .. } | Error::NoNetwork { .. } | Error::NotAttached { .. } => {
            Exit::NotFound
        }
        Error::Plugin { plugin, failure, .. } => match **failure {
            Call::Refused(_) => Exit::No,
            Call::Missing(_) if plugin.contains('/') => Exit::Usage,
            Call::Missing(_) => Exit::NotFound,
            Call::Interrupted { .. } => Exit::Interrupted,
            _ => Exit::Unknown,
        },
        Error::Undone { cause, .. } | Error::Stale { cause, .. } => exit(cause),
        Error::Interrupted => Exit::Interrupted,
        Error::Attached { .. }
        | Error::Occupied { .. }
        | Error::Untrusted { .. }
        | Error::UnsupportedVersion { .. } => Exit::No,
        Error::Read { .. } | Error::Cached { .. } | Error::Cache { .. } | Error::NoCheck { .. } => {
            Exit::Unknown
        }
    }
}

fn remedy(error: &Error) -> Option<String> {
    Some(match error {
        Error::Configuration(_) => "correct the configuration".to_owned(),
        Error::File { file, .. } => format!("correct {}", file.display()),
        Error::NoConfigurations { .. } => {
            "write one there, or say where they are with --conf-dir".to_owned()
        }
        Error::NoNetwork { unreadable, .. } if !unreadable.is_empty() => {
            "correct these files, or choose one that `podwire cni list` shows".to_owned()
        }
        Error::NoNetwork { .. } => {
            "choose one that `podwire cni list` shows, or say where it is with --conf-dir"
                .to_owned()
        }
        Error::Invalid { what, .. } => match *what {
            "interface name" => "choose another one with --ifname".to_owned(),
            "container ID" => "choose another one with --container-id".to_owned(),
            _ => "a name has letters, digits, dots, hyphens and underscores".to_owned(),
        },
        Error::Plugin { plugin, failure, .. } => return of_call(plugin, failure),
        Error::Undone { cause, .. } | Error::Stale { cause, .. } => return remedy(cause),
        Error::Attached { network, attachment, .. } => {
            let id = &attachment.container_id;
            let ifname = &attachment.ifname;
            format!("`podwire cni del {network} --container-id {id} --ifname {ifname}` detaches it")
        }
        Error::NotAttached { .. } => {
            "`podwire cni list` shows what is attached; another runtime may have another \
             --cache-dir"
                .to_owned()
        }
        Error::Cached { network, .. } => format!(
            "`podwire cni del {network}` with the same namespace clears it, and `podwire cni add` \
             makes it anew"
        ),
        Error::Occupied { path, .. } => {
            format!("look at it, and remove it if nobody needs it (`rm {}`)", word(path))
        }
        Error::Untrusted { path, .. } => {
            let path = word(path);
            format!("let only root write to it (`chown root {path}; chmod 0700 {path}`)")
        }
        Error::Read { source, .. } | Error::Cache { source, .. } => {
            return (source.kind() == io::ErrorKind::PermissionDenied)
                .then(|| "run it as root".to_owned());
        }
        Error::NoCheck { .. } => "CHECK needs cniVersion 0.4.0 or newer".to_owned(),
        Error::UnsupportedVersion { supported, .. } => {
            format!("it speaks {}: choose one of these as cniVersion", supported.join(", "))
        }
        Error::Interrupted => return None,
    })
}

/// What to do about a plugin that did not do what it was asked.
fn of_call(plugin: &str, failure: &Call) -> Option<String> {
    Some(match failure {
        Call::Missing(_) if plugin.contains('/') => {
            "the type of a plugin is the name of its file, without slashes".to_owned()
        }
        Call::Missing(_) => format!(
            "put {plugin} into one of these directories, or say where it is with --plugin-dir"
        ),
        Call::NotStarted { program, source } => match source.kind() {
            io::ErrorKind::PermissionDenied => {
                format!("make it executable (`chmod +x {}`)", word(program))
            }
            io::ErrorKind::ExecutableFileBusy => {
                format!("somebody is writing {}: try again when it is whole", program.display())
            }
            _ => format!("{} is no program for this machine: install it again", program.display()),
        },
        Call::Refused(error) => match error.code {
            Code::TryAgainLater => "try again later".to_owned(),
            _ => return None,
        },
        Call::Silent { .. } | Call::Grumbled { .. } => {
            format!("{plugin} died without a CNI error: see its log, or `dmesg` if it was killed")
        }
        Call::Garbled { .. }
        | Call::NotJson { .. }
        | Call::NotResult(_)
        | Call::NotVersions(_)
        | Call::TooMuch { .. } => format!(
            "{plugin} does not answer as a CNI plugin does: see whether it is the right file"
        ),
        Call::TooSlow { .. } => {
            format!("see what {plugin} waits for, or give it more time with --timeout")
        }
        Call::Interrupted { .. } | Call::Talk { .. } => return None,
    })
}

/// A path as one word of a shell.
fn word(path: &std::path::Path) -> String {
    net::quote(&path.display().to_string())
}
