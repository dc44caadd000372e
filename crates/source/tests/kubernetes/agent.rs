//! What stands where the agent would: it starts the source and hears what it tells.

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use fabric::{Node, PerFamily, Publication, Report};
use serde_json::Value;
use source::Running;
use tempfile::TempDir;
use testbed::kubernetes::{Server, kubeconfig, published, registered};

/// In which all is told that is told, but for what takes its time.
const LONG: Duration = Duration::from_secs(25);

pub(crate) struct Agent {
    pub(crate) running: Box<dyn Running>,
    reports: Receiver<Report>,
    _directory: Option<TempDir>,
}

impl Agent {
    pub(crate) fn start(server: &Server) -> Self {
        Self::start_with(server, false)
    }

    pub(crate) fn start_with(server: &Server, flannel: bool) -> Self {
        Self::start_at(server.address(), flannel)
    }

    pub(crate) fn start_at(api: SocketAddr, flannel: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubeconfig");
        std::fs::write(&path, kubeconfig(api)).unwrap();
        let config = fabric::Kubernetes { kubeconfig: Some(path), flannel };
        Self { _directory: Some(directory), ..Self::start_as(&config) }
    }

    /// With what a pod finds in its environment.
    pub(crate) fn start_in_cluster() -> Self {
        Self::start_as(&fabric::Kubernetes::default())
    }

    fn start_as(config: &fabric::Kubernetes) -> Self {
        Self::with(|tell| source::kubernetes::start(config, publication(), tell))
    }

    /// One who only looks.
    pub(crate) fn look(server: &Server) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubeconfig");
        std::fs::write(&path, kubeconfig(server.address())).unwrap();
        let config = fabric::Kubernetes { kubeconfig: Some(path), flannel: true };
        Self::with(|tell| source::kubernetes::look(&config, publication(), tell))
    }

    fn with(
        start: impl FnOnce(source::Tell) -> Result<Box<dyn Running>, source::kubernetes::Error>,
    ) -> Self {
        let (sender, reports) = channel();
        let tell = Box::new(move |report| {
            let _ = sender.send(report);
        });
        Self { running: start(tell).unwrap(), reports, _directory: None }
    }

    #[track_caller]
    fn next(&self, within: Duration) -> Report {
        self.reports.recv_timeout(within).expect("a report")
    }

    /// The next report, which is of all nodes.
    #[track_caller]
    pub(crate) fn complete(&self) -> Vec<Node> {
        match self.next(LONG) {
            Report::Complete(cluster) => cluster.nodes,
            other => panic!("{other:?}"),
        }
    }

    /// The next report, which says why there is none.
    #[track_caller]
    pub(crate) fn astray(&self) -> String {
        self.astray_within(LONG)
    }

    #[track_caller]
    pub(crate) fn astray_within(&self, within: Duration) -> String {
        match self.next(within) {
            Report::Astray(why) => why,
            other => panic!("{other:?}"),
        }
    }

    /// Nothing is told for a while.
    #[track_caller]
    pub(crate) fn is_silent(&self, time: Duration) {
        assert_eq!(self.reports.recv_timeout(time), Err(RecvTimeoutError::Timeout));
    }

    /// Ends the source; where it would tell.
    pub(crate) fn stop(self) -> Receiver<Report> {
        self.reports
    }
}

/// What node `n1` publishes.
pub(crate) fn publication() -> Publication {
    Publication {
        name: "n1".parse().unwrap(),
        addresses: PerFamily::default(),
        backend: "vxlan".to_owned(),
        vni: 1,
    }
}

/// A Node that its kubelet has registered and nobody else has touched.
pub(crate) fn bare(number: usize) -> Value {
    let (name, address, subnet) = told(number);
    registered(&name, address, &subnet)
}

/// A Node that runs podwire.
pub(crate) fn node(number: usize) -> Value {
    let (name, address, subnet) = told(number);
    published(&name, address, &subnet)
}

fn told(number: usize) -> (String, IpAddr, String) {
    let (high, low) = (number / 250, number % 250);
    let address = format!("192.0.{}.{low}", 2 + high).parse().unwrap();
    (format!("n{number}"), address, format!("10.{}.{low}.0/24", 244 - high))
}

/// Waits until it is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    testbed::look::eventually(what, || is_so().then_some(()));
}

pub(crate) fn names(nodes: &[Node]) -> Vec<&str> {
    nodes.iter().map(|node| node.name.as_str()).collect()
}
