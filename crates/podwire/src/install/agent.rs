//! The agent as a service of systemd, and what keeps other services of the machine from removing what
//! it makes: they purge devices, addresses and routes that they do not know.
//!
//! A file that a person has changed is neither replaced nor removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cli::Install;
use crate::failure::{Exit, Failure, Result};
use crate::replace::replace;

/// What is written, below the root.
const FILES: [(&str, &str); 6] = [
    ("etc/systemd/system/podwire-agent.service", UNIT),
    ("etc/systemd/system/podwire-responder.service", RESPONDER),
    ("etc/systemd/networkd.conf.d/podwire.conf", NETWORKD),
    ("etc/systemd/network/10-podwire.network", NETWORK),
    ("etc/systemd/network/10-podwire.link", LINK),
    ("etc/NetworkManager/conf.d/podwire.conf", NETWORK_MANAGER),
];

/// `PROGRAM` is replaced by this program's own file.
const UNIT: &str = "\
[Unit]
Description=podwire: joins this node's pods to other nodes'
After=network-online.target
Wants=network-online.target
Before=kubelet.service containerd.service crio.service

[Service]
Type=notify
ExecStart=PROGRAM agent
# The network stays as it is when the agent ends.
Restart=always
RestartSec=1
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW
NoNewPrivileges=yes
ProtectHome=yes
ProtectSystem=full
ReadWritePaths=-/etc/cni
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
";

/// It enters the namespaces of pods, which the agent has no right to.
const RESPONDER: &str = "\
[Unit]
Description=podwire: lets those with a certificate prove this node's part of the pod network
After=network-online.target
Wants=network-online.target
# Off unless somebody has configured it.
ConditionPathExists=/etc/podwire/responder.yaml

[Service]
Type=notify
ExecStart=PROGRAM responder
Restart=on-failure
RestartSec=5
CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SYS_PTRACE CAP_NET_ADMIN CAP_NET_RAW CAP_DAC_READ_SEARCH
NoNewPrivileges=yes
ProtectHome=yes

[Install]
WantedBy=multi-user.target
";

const NETWORKD: &str = "\
# podwire's routes and rules are podwire's to remove.
[Network]
ManageForeignRoutes=no
ManageForeignRoutingPolicyRules=no
";

const NETWORK: &str = "\
# podwire's devices are podwire's to configure.
[Match]
Name=podwire0 podwire0-6 flannel.* flannel-v6.* cni0 veth*

[Link]
Unmanaged=yes
";

const LINK: &str = "\
# The hardware address of a tunnel end follows from the node's name.
[Match]
OriginalName=podwire0 podwire0-6 flannel.* flannel-v6.*

[Link]
MACAddressPolicy=none
NamePolicy=
";

const NETWORK_MANAGER: &str = "\
# podwire's devices are podwire's to configure.
[keyfile]
unmanaged-devices+=interface-name:podwire0*;interface-name:flannel*;interface-name:cni0;interface-name:veth*
";

pub(super) fn run(arguments: &Install) -> Result<String> {
    let program = std::env::current_exe().map_err(|error| {
        Failure::new(Exit::Unknown, format!("find this program's own file: {error}"))
    })?;
    let files = files(&arguments.root, &program);
    match (arguments.undo, arguments.dry_run) {
        (false, false) => install(&files),
        (true, false) => undo(&files),
        (false, true) => Ok(files.iter().map(|(path, content)| script(path, content)).collect()),
        (true, true) => Ok(files
            .iter()
            .map(|(path, _)| format!("rm -f {}\n", net::quote(&path.display().to_string())))
            .collect()),
    }
}

fn files(root: &Path, program: &Path) -> Vec<(PathBuf, String)> {
    let program = program.display().to_string();
    FILES.map(|(path, content)| (root.join(path), content.replace("PROGRAM", &program))).into()
}

fn script(path: &Path, content: &str) -> String {
    let directory = path.parent().unwrap_or(Path::new("/")).display().to_string();
    let (path, directory) = (net::quote(&path.display().to_string()), net::quote(&directory));
    format!("mkdir -p {directory}\ncat >{path} <<'END'\n{content}END\n")
}

fn install(files: &[(PathBuf, String)]) -> Result<String> {
    let mut text = String::new();
    for (path, content) in files {
        match fs::read_to_string(path) {
            Ok(before) if before == *content => continue,
            // An older version of ours says whose it is; what a person made of it is theirs.
            Ok(before) if !is_ours(&before) => {
                text += &format!("{}: is another's, and is left as it is.\n", path.display());
                continue;
            }
            _ => {}
        }
        replace(path, content).map_err(|error| failed("write", path, &error))?;
        text += &format!("{}: is written.\n", path.display());
    }
    text += "Next: write /etc/podwire/agent.yaml (docs/agent.md), then\n  \
             systemctl daemon-reload && systemctl enable --now podwire-agent\n";
    Ok(text)
}

fn undo(files: &[(PathBuf, String)]) -> Result<String> {
    let mut text = String::new();
    for (path, _) in files {
        match fs::read_to_string(path) {
            Ok(before) if is_ours(&before) => {
                fs::remove_file(path).map_err(|error| failed("remove", path, &error))?;
                text += &format!("{}: is removed.\n", path.display());
            }
            _ => {}
        }
    }
    Ok(text)
}

fn is_ours(content: &str) -> bool {
    content.lines().next().is_some_and(|line| {
        line.starts_with("# podwire's")
            || line.starts_with("# The hardware address of a tunnel end")
    }) || content.contains("Description=podwire:")
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Unknown, format!("{verb} {}: {error}", path.display()))
        .remedy("run it as root, or choose another --root")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_and_go_and_a_persons_own_stay() {
        let root = tempfile::tempdir().unwrap();
        let files = files(root.path(), Path::new("/usr/local/bin/podwire"));
        let foreign = root.path().join("etc/systemd/network/10-podwire.link");
        fs::create_dir_all(foreign.parent().unwrap()).unwrap();
        fs::write(&foreign, "[Match]\n").unwrap();
        assert_eq!(install(&files).unwrap().matches("is written").count(), 5);
        assert_eq!(install(&files).unwrap().matches("is written").count(), 0);
        let unit = fs::read_to_string(&files[0].0).unwrap();
        assert!(unit.contains("ExecStart=/usr/local/bin/podwire agent\n"), "{unit}");
        let responder = fs::read_to_string(&files[1].0).unwrap();
        assert!(responder.contains("ConditionPathExists=/etc/podwire/responder.yaml"), "off");
        assert_eq!(undo(&files).unwrap().matches("is removed").count(), 5);
        assert_eq!(fs::read_to_string(&foreign).unwrap(), "[Match]\n");
    }
}
