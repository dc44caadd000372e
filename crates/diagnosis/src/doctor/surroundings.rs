//! Files of other programs that change networks by themselves. Read below a root that is given, and
//! never written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// What runs beside podwire on this machine, as its files tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// systemd-networkd runs, and removes routes that it does not know.
    pub networkd_removes_routes: bool,
    /// … and policy rules.
    pub networkd_removes_rules: bool,
    /// NetworkManager runs, and nothing tells it to leave podwire's devices alone.
    pub network_manager_manages: bool,
    /// The file by which udev gives every new device a hardware address.
    pub address_policy: Option<PathBuf>,
    /// SELinux enforces its policy.
    pub selinux_enforces: bool,
    /// An agent answers, where agents usually do.
    pub agent_runs: bool,
    /// Names in `/run/netns` that lead to no namespace.
    pub dead_names: Vec<PathBuf>,
}

/// Where systemd reads, what overrides comes first (systemd.unit(5), systemd-networkd.conf(5),
/// systemd.link(5)).
const CONFIGURATION: [&str; 4] = ["etc/systemd", "run/systemd", "usr/lib/systemd", "lib/systemd"];

impl Surroundings {
    /// Looks below `root`, which is `/` but in tests. What is not there does not run.
    pub fn read(root: &Path) -> Self {
        let running = running(&root.join("proc"));
        let runs = |name: &str| running.contains(name);
        let networkd = runs("systemd-network").then(|| networkd(root));
        // Both are on unless something turns them off.
        let removes = |key: &str| {
            let told = networkd.as_ref().map(|settings| settings.get(key).map(String::as_str));
            told.is_some_and(|value| !value.is_some_and(is_no))
        };
        Self {
            networkd_removes_routes: removes("ManageForeignRoutes"),
            networkd_removes_rules: removes("ManageForeignRoutingPolicyRules"),
            network_manager_manages: runs("NetworkManager") && !leaves_us_alone(root),
            address_policy: runs("systemd-udevd").then(|| address_policy(root)).flatten(),
            selinux_enforces: text(&root.join("sys/fs/selinux/enforce")).trim() == "1",
            agent_runs: UnixStream::connect(root.join("run/podwire/agent.sock")).is_ok(),
            dead_names: dead_names(&root.join("run/netns")),
        }
    }
}

/// The names of all processes, as the kernel has them: the first 15 bytes.
fn running(proc: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let is_process =
        |name: &std::ffi::OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let processes = entries.filter(|entry| is_process(&entry.file_name()));
    processes.map(|entry| text(&entry.path().join("comm")).trim_end().to_owned()).collect()
}

/// systemd's words for no (systemd.syntax(7)).
fn is_no(value: &str) -> bool {
    ["no", "false", "off", "n", "f", "0"].iter().any(|no| value.eq_ignore_ascii_case(no))
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The files with this ending in a directory, by name.
fn files(directory: &Path, ending: &str) -> BTreeMap<String, PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let named =
        entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    named.filter(|(name, _)| name.ends_with(ending)).collect()
}

/// The files of the four directories, in the order of their names; of two with one name, the one
/// that overrides the other.
fn layered(root: &Path, below: &str, ending: &str) -> BTreeMap<String, PathBuf> {
    let mut all = BTreeMap::new();
    for directory in CONFIGURATION.iter().rev() {
        all.extend(files(&root.join(directory).join(below), ending));
    }
    all
}

/// The lines `key=value` of a file, the last of each key.
fn settings(text: &str) -> impl Iterator<Item = (String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
}

/// networkd's own configuration: the main file, then what is dropped in.
fn networkd(root: &Path) -> BTreeMap<String, String> {
    let mains = CONFIGURATION.map(|it| root.join(it).join("networkd.conf"));
    let main = mains.into_iter().find(|it| it.is_file());
    let dropped = layered(root, "networkd.conf.d", ".conf").into_values();
    main.into_iter()
        .chain(dropped)
        .flat_map(|file| settings(&text(&file)).collect::<Vec<_>>())
        .collect()
}

/// Whether NetworkManager is told not to manage tunnels and pods' cables.
fn leaves_us_alone(root: &Path) -> bool {
    let directories = ["etc/NetworkManager", "run/NetworkManager", "usr/lib/NetworkManager"];
    let main = [root.join("etc/NetworkManager/NetworkManager.conf")];
    let dropped = directories.map(|it| files(&root.join(it).join("conf.d"), ".conf"));
    let all = main.into_iter().chain(dropped.into_iter().flat_map(BTreeMap::into_values));
    let is_ours = |(key, value): (String, String)| {
        let key = key.trim_end_matches(['+', '-']).to_owned();
        key == "unmanaged-devices" && (value.contains("podwire0") || value.contains("veth"))
    };
    all.into_iter().any(|file| settings(&text(&file)).any(is_ours))
}

/// The first file that is for every device, if it has udev choose hardware addresses.
fn address_policy(root: &Path) -> Option<PathBuf> {
    for file in layered(root, "network", ".link").into_values() {
        let settings: BTreeMap<String, String> = settings(&text(&file)).collect();
        if settings.get("OriginalName").is_some_and(|name| name == "*") {
            let policy = settings.get("MACAddressPolicy");
            return policy.filter(|policy| *policy == "persistent").map(|_| file);
        }
    }
    None
}

/// Names whose namespace is not bound to them any more: `ip netns` lists them and enters none.
fn dead_names(directory: &Path) -> Vec<PathBuf> {
    let is_dead = |path: &PathBuf| {
        let opened = kernel::Netns::open(path);
        opened.is_err_and(|error| error.kind() == kernel::ErrorKind::WrongKind)
    };
    files(directory, "").into_values().filter(is_dead).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn nothing_runs_on_an_empty_machine() {
        assert_eq!(Surroundings::read(root(&[]).path()), Surroundings::default());
    }

    #[test]
    fn networkd_removes_what_it_is_not_told_to_keep() {
        let told = [
            ("proc/7/comm", "systemd-network\n"),
            ("etc/systemd/networkd.conf", "[Network]\n#ManageForeignRoutes=no\n"),
            ("usr/lib/systemd/networkd.conf.d/10-a.conf", "[Network]\nManageForeignRoutes=no\n"),
        ];
        let seen = Surroundings::read(root(&told).path());
        assert!(!seen.networkd_removes_routes && seen.networkd_removes_rules, "{seen:?}");
        // A file of the same name in /etc takes the place of the one in /usr.
        let masked = [&told[..], &[("etc/systemd/networkd.conf.d/10-a.conf", "")]].concat();
        assert!(Surroundings::read(root(&masked).path()).networkd_removes_routes);
        // It does not run.
        assert!(!Surroundings::read(root(&told[1..]).path()).networkd_removes_routes);
    }

    #[test]
    fn network_manager_is_told_to_leave_our_devices_alone() {
        let runs = ("proc/7/comm", "NetworkManager\n");
        assert!(Surroundings::read(root(&[runs]).path()).network_manager_manages);
        let file = "etc/NetworkManager/conf.d/podwire.conf";
        let told = "[keyfile]\nunmanaged-devices+=interface-name:podwire0*\n";
        assert!(!Surroundings::read(root(&[runs, (file, told)]).path()).network_manager_manages);
    }

    #[test]
    fn udev_follows_the_first_file_for_all_devices() {
        let all = "[Match]\nOriginalName=*\n[Link]\nMACAddressPolicy=";
        let (persistent, none) = (format!("{all}persistent\n"), format!("{all}none\n"));
        let usual = ("usr/lib/systemd/network/99-default.link", persistent.as_str());
        let udev = ("proc/7/comm", "systemd-udevd\n");
        let seen = Surroundings::read(root(&[udev, usual]).path()).address_policy.unwrap();
        assert!(seen.ends_with("99-default.link"));
        let other = ("etc/systemd/network/10-pods.link", none.as_str());
        assert_eq!(Surroundings::read(root(&[udev, usual, other]).path()).address_policy, None);
        assert_eq!(Surroundings::read(root(&[usual]).path()).address_policy, None);
    }

    #[test]
    fn a_name_without_namespace_is_dead() {
        let root = root(&[("run/netns/left", "")]);
        let seen = Surroundings::read(root.path());
        assert_eq!(seen.dead_names, [root.path().join("run/netns/left")]);
    }
}
