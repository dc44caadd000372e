//! A node of the cluster, and what its source tells it.
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

use std::cell::RefCell;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use fabric::{Cluster, Etcd, Node, PerFamily, Publication, Report};
use source::Running;
use source::etcd::{Here, start_here};

use crate::member::{PREFIX, URL};

/// The usual configuration.
pub(crate) const NET: &str = r#"{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}"#;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long nothing is heard where nothing happens.
const SILENCE: Duration = Duration::from_millis(700);

/// A node by its number.
pub(crate) struct At(pub(crate) u8);

/// A node whose source is set up.
pub(crate) struct Setup {
    etcd: Etcd,
    publication: Publication,
}

/// A node at work.
pub(crate) struct Seen {
    publication: RefCell<Publication>,
    reports: Receiver<Report>,
    running: Box<dyn Running>,
}

impl At {
    fn setup(&self) -> Setup {
        let n = self.0;
        let etcd = Etcd {
            endpoints: vec![URL.to_owned()],
            prefix: PREFIX.to_owned(),
            ca_file: None,
            cert_file: None,
            key_file: None,
            username: None,
            password_file: None,
            lease_seconds: 60,
        };
        let addresses = PerFamily {
            v4: Some(format!("192.0.2.{n}").parse().unwrap()),
            v6: Some(format!("2001:db8::{n:x}").parse().unwrap()),
        };
        let name = format!("n{n}").parse().unwrap();
        let publication = Publication { name, addresses, backend: "vxlan".to_owned(), vni: 1 };
        Setup { etcd, publication }
    }

    pub(crate) fn start(&self) -> Seen {
        self.setup().start()
    }

    pub(crate) fn start_here(&self, change: impl FnOnce(&mut Here)) -> Seen {
        let mut here = Here::default();
        change(&mut here);
        self.setup().begin(here).unwrap()
    }

    /// The same name at another address.
    pub(crate) fn from(&self, address: &str) -> Setup {
        let mut setup = self.setup();
        setup.publication.addresses.v4 = Some(address.parse().unwrap());
        setup
    }

    /// Where nobody knows by which address it is reached.
    pub(crate) fn nowhere(&self) -> Setup {
        let mut setup = self.setup();
        setup.publication.addresses = PerFamily::default();
        setup
    }

    pub(crate) fn through(&self, url: &str) -> Setup {
        self.with(|etcd| etcd.endpoints = vec![url.to_owned()])
    }

    pub(crate) fn with(&self, change: impl FnOnce(&mut Etcd)) -> Setup {
        self.setup().with(change)
    }
}

impl Setup {
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Etcd)) -> Self {
        change(&mut self.etcd);
        self
    }

    pub(crate) fn start(self) -> Seen {
        self.begin(Here::default()).unwrap()
    }

    pub(crate) fn refusal(self) -> String {
        self.begin(Here::default()).err().unwrap().to_string()
    }

    fn begin(self, here: Here) -> Result<Seen, source::etcd::Error> {
        let (told, reports) = channel();
        let name = self.publication.name.clone();
        let start = Instant::now();
        let tell = Box::new(move |report| {
            println!("{:?} {name}: {report:?}", start.elapsed());
            let _ = told.send(report);
        });
        let running = start_here(&self.etcd, self.publication.clone(), here, tell)?;
        Ok(Seen { publication: RefCell::new(self.publication), reports, running })
    }
}

impl Seen {
    pub(crate) fn next(&self, patience: Duration) -> Option<Report> {
        self.reports.recv_timeout(patience).ok()
    }

    /// The next set that is as wanted; nothing but other sets may come before it.
    pub(crate) fn complete(&self, is_it: impl Fn(&[Node]) -> bool) -> Vec<Node> {
        self.cluster(|cluster| is_it(&cluster.nodes)).nodes
    }

    /// The same of all that the source knows.
    pub(crate) fn cluster(&self, is_it: impl Fn(&Cluster) -> bool) -> Cluster {
        let end = Instant::now() + PATIENCE;
        let mut last = None;
        while let Some(report) = self.next(end.saturating_duration_since(Instant::now())) {
            match report {
                Report::Complete(cluster) if is_it(&cluster) => return cluster,
                Report::Complete(cluster) => last = Some(cluster),
                other => panic!("a set is expected, not {other:?}"),
            }
        }
        panic!("no such set, the last is {last:?}")
    }

    pub(crate) fn astray(&self) -> String {
        match self.next(PATIENCE) {
            Some(Report::Astray(text)) => text,
            other => panic!("something wrong is expected, not {other:?}"),
        }
    }

    pub(crate) fn withdrawn(&self) -> String {
        match self.next(PATIENCE) {
            Some(Report::Withdrawn(text)) => text,
            other => panic!("a withdrawal is expected, not {other:?}"),
        }
    }

    pub(crate) fn hears_nothing(&self) {
        let report = self.next(SILENCE);
        assert!(report.is_none(), "nothing is expected, not {report:?}");
    }

    pub(crate) fn until(&self, is_so: impl Fn() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < PATIENCE, "it does not happen");
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn publish(&self, change: impl FnOnce(&mut Publication)) {
        change(&mut self.publication.borrow_mut());
        self.running.publish(self.publication.borrow().clone());
    }
}
