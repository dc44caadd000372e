//! What container runtimes know of their containers, from the state that they keep in files.
//!
//! None of these files is an interface that somebody has promised: what is not understood is passed
//! over, and names from CNI and from control groups remain.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use kernel::NetnsId;
use serde_json::Value;

use super::spaces::identity;
use crate::{Container, Gap, PodName};

/// Where runtimes keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtimes {
    /// containerd's bundles: namespace, container, `config.json`.
    pub containerd: Vec<PathBuf>,
    /// CRI-O's and podman's: container, `userdata/config.json`.
    pub containers: Vec<PathBuf>,
    /// The lists of CRI-O's and podman's containers with their names.
    pub lists: Vec<PathBuf>,
    /// Docker's: container, `config.v2.json`.
    pub docker: Vec<PathBuf>,
}

impl Default for Runtimes {
    fn default() -> Self {
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
        Self {
            containerd: paths(&[
                "/run/containerd/io.containerd.runtime.v2.task",
                "/run/k3s/containerd/io.containerd.runtime.v2.task",
            ]),
            containers: paths(&["/run/containers/storage/overlay-containers"]),
            lists: paths(&["/var/lib/containers/storage/overlay-containers/containers.json"]),
            docker: paths(&["/var/lib/docker/containers"]),
        }
    }
}

/// The longest file that is read: a specification has some kilobytes.
const LONGEST: u64 = 16 << 20;

impl Runtimes {
    /// All containers, with the namespace that each is in, where that is known.
    pub(super) fn containers(&self, gaps: &mut Vec<Gap>) -> Vec<(Option<NetnsId>, Container)> {
        let mut all = Vec::new();
        for namespace in self.containerd.iter().flat_map(|it| entries(it, gaps)).collect::<Vec<_>>()
        {
            for bundle in entries(&namespace, gaps) {
                let pid = text(&bundle.join("init.pid"));
                let pid = pid.and_then(|pid| pid.trim().parse().ok());
                all.extend(specified(&bundle, &bundle.join("config.json"), pid, "containerd"));
            }
        }
        let lists: Vec<Value> = self.lists.iter().filter_map(|it| json(it)).collect();
        for bundle in self.containers.iter().flat_map(|it| entries(it, gaps)).collect::<Vec<_>>() {
            let data = bundle.join("userdata");
            let pid = text(&data.join("pidfile")).and_then(|pid| pid.trim().parse().ok());
            let found = specified(&bundle, &data.join("config.json"), pid, "podman");
            all.extend(found.map(|(id, mut container)| {
                if container.name.is_none() {
                    container.name = listed(&lists, &container.id);
                }
                (id, container)
            }));
        }
        for directory in self.docker.iter().flat_map(|it| entries(it, gaps)).collect::<Vec<_>>() {
            all.extend(docker(&directory));
        }
        all
    }
}

/// What is in a directory; a directory that cannot be read is a gap, one that is not there is none.
fn entries(directory: &Path, gaps: &mut Vec<Gap>) -> Vec<PathBuf> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let what = format!("containers in {}", directory.display());
            gaps.push(Gap { what, why: format!("{error}: use sudo") });
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

fn text(path: &Path) -> Option<String> {
    let is_file = path.metadata().is_ok_and(|it| it.is_file());
    let mut text = String::new();
    File::open(path).ok().filter(|_| is_file)?.take(LONGEST).read_to_string(&mut text).ok()?;
    Some(text)
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_str(&text(path)?).ok()
}

/// A container by its OCI specification.
fn specified(
    bundle: &Path,
    file: &Path,
    pid: Option<u32>,
    runtime: &str,
) -> Option<(Option<NetnsId>, Container)> {
    let id = bundle.file_name()?.to_str()?.to_owned();
    let specification = json(file)?;
    let annotations = &specification["annotations"];
    let annotation = |keys: &[&str]| {
        let found = keys.iter().find_map(|key| annotations[*key].as_str());
        found.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let name = annotation(&["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]);
    let namespace =
        annotation(&["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"]);
    let pod = name.map(|name| PodName { namespace: namespace.unwrap_or_default(), name });
    let is_cri_o = annotation(&["io.kubernetes.cri-o.ContainerType"]).is_some();
    let name = annotation(&[
        "io.kubernetes.cri.container-name",
        "io.kubernetes.container.name",
        "nerdctl/name",
    ]);
    let namespaces = specification["linux"]["namespaces"].as_array().into_iter().flatten();
    let network = namespaces.clone().find(|it| it["type"] == "network");
    let path = network.and_then(|it| it["path"].as_str()).filter(|path| !path.is_empty());
    // Without an entry it is in its runtime's own; with one without a path in a new one.
    let path = path.map(PathBuf::from).or_else(|| pid.map(of_process));
    let runtime = if is_cri_o { "cri-o" } else { runtime };
    let container = Container { name, pod, runtime: runtime.to_owned(), ..Container::new(&id) };
    Some((path.as_deref().and_then(identity), container))
}

fn of_process(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

/// The name of a container in the lists of CRI-O and podman.
fn listed(lists: &[Value], id: &str) -> Option<String> {
    let all = lists.iter().filter_map(Value::as_array).flatten();
    let found = all.filter(|it| it["id"] == id).find_map(|it| it["names"][0].as_str());
    found.map(str::to_owned)
}

fn docker(directory: &Path) -> Option<(Option<NetnsId>, Container)> {
    let id = directory.file_name()?.to_str()?;
    let state = json(&directory.join("config.v2.json"))?;
    let pid = state["State"]["Pid"].as_u64().filter(|pid| *pid > 0);
    let pid = pid.and_then(|pid| u32::try_from(pid).ok());
    let key = state["NetworkSettings"]["SandboxKey"].as_str().filter(|key| !key.is_empty());
    let namespace = key.map(PathBuf::from).as_deref().and_then(identity);
    let namespace = namespace.or_else(|| identity(&of_process(pid?)));
    let name = state["Name"].as_str().map(|name| name.trim_start_matches('/').to_owned());
    let name = name.filter(|name| !name.is_empty());
    Some((namespace, Container { name, runtime: "docker".to_owned(), ..Container::new(id) }))
}
