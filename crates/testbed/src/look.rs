//! What is there, as the system's own tools tell it.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use kernel::Netns;
use serde_json::Value;

use crate::Namespace;

/// How long anything may take that is not at once. Only a failing test waits as long; but the kernel
/// tells of a new link's carrier a second late or more while others make many links.
const PATIENCE: Duration = Duration::from_secs(30);

/// Tries again until there is an answer.
#[track_caller]
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// All that `ip` knows of a link; `null` if there is none.
pub fn link(space: &Namespace, name: &str) -> Value {
    let told = space.sh(&format!("ip -d -j link show dev {name} 2>/dev/null || true"));
    serde_json::from_str::<Value>(&told).map_or(Value::Null, |mut links| links[0].take())
}

/// The names of all links.
pub fn links(space: &Namespace) -> Vec<String> {
    let told: Value = serde_json::from_str(&space.sh("ip -j link show")).unwrap();
    let name = |link: &Value| link["ifname"].as_str().unwrap().to_owned();
    told.as_array().unwrap().iter().map(name).collect()
}

/// The ports of a bridge.
pub fn ports(space: &Namespace, bridge: &str) -> Vec<String> {
    let told = space.sh(&format!("ip -j link show master {bridge} 2>/dev/null || true"));
    let told: Value = serde_json::from_str(&told).unwrap_or_default();
    let ports = told.as_array().into_iter().flatten();
    ports.filter_map(|port| Some(port["ifname"].as_str()?.to_owned())).collect()
}

/// The host's ends of cables, of whichever plugin.
pub fn host_ends(space: &Namespace) -> Vec<String> {
    links(space).into_iter().filter(|name| name.starts_with("veth")).collect()
}

/// The addresses of a link, without those that IPv6 makes itself.
pub fn addresses(space: &Namespace, link: &str) -> Vec<String> {
    let told = space.sh(&format!("ip -j address show dev {link} 2>/dev/null || true"));
    let Ok(links) = serde_json::from_str::<Value>(&told) else { return Vec::new() };
    let all = links[0]["addr_info"].as_array().cloned().unwrap_or_default();
    let all = all.iter().filter(|it| it["scope"] != "link");
    let text = |it: &Value| format!("{}/{}", it["local"].as_str().unwrap(), it["prefixlen"]);
    let mut all: Vec<_> = all.map(text).collect();
    all.sort();
    all
}

/// The routes of a table that somebody has made, as lines, both families.
pub fn routes(space: &Namespace, table: &str) -> Vec<String> {
    let script = format!(
        "ip -4 route show table {table} 2>/dev/null || true
         ip -6 route show table {table} 2>/dev/null || true"
    );
    let told = space.sh(&script);
    let made = told.lines().filter(|line| !line.contains("proto kernel"));
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut all: Vec<_> = made.map(words).collect();
    all.sort();
    all
}

/// A kernel setting.
pub fn sysctl(space: &Namespace, key: &str) -> String {
    space.sh(&format!("cat /proc/sys/{key}")).trim().to_owned()
}

/// The files below a directory with their texts; directories have none. Nothing is followed.
pub fn files(directory: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    collect(directory, directory, &mut found);
    found
}

fn collect(root: &Path, directory: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let kind = path.symlink_metadata().unwrap().file_type();
        if kind.is_dir() {
            found.insert(name + "/", String::new());
            collect(root, &path, found);
        } else {
            let text =
                if kind.is_file() { fs::read_to_string(&path).unwrap() } else { "…".into() };
            found.insert(name, text);
        }
    }
}

/// The address that a packet comes from, as the one who gets it sees it; `None` if it does not
/// arrive. It is tried again for a while, because the reference does not wait until everything is
/// ready to be used.
pub fn source_seen(from: &Netns, to: &Netns, address: IpAddr) -> Option<IpAddr> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(source) = send(from, to, address, Duration::from_millis(50)) {
            return Some(source);
        }
    }
    None
}

/// Whether a packet is lost that has every reason to arrive but one. One that is allowed through
/// takes microseconds, as the same tests show.
pub fn is_lost(from: &Netns, to: &Netns, address: IpAddr) -> bool {
    (0..3).all(|_| send(from, to, address, Duration::from_millis(50)).is_none())
}

fn send(from: &Netns, to: &Netns, address: IpAddr, patience: Duration) -> Option<IpAddr> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    // A socket stays in the namespace that it was made in.
    let socket = |netns: &Netns| netns.enter(|| UdpSocket::bind(any).unwrap()).unwrap();
    let (sender, receiver) = (socket(from), socket(to));
    receiver.set_read_timeout(Some(patience)).unwrap();
    let port = receiver.local_addr().unwrap().port();
    if sender.send_to(b"hello", SocketAddr::new(address, port)).is_err() {
        std::thread::sleep(Duration::from_millis(2));
        return None;
    }
    match receiver.recv_from(&mut [0; 16]) {
        Ok((_, source)) => Some(source.ip()),
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
            None
        }
    }
}
