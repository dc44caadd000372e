//! The Node objects of Kubernetes as source of nodes.
//!
//! Two watches. The one of *this* node is of the whole object: `spec.podCIDRs` says which addresses its
//! pods have, `status.addresses` where it is reached. The one of *all* nodes asks for their metadata
//! only, without spec and status, which are most of a Node object and change every few minutes for
//! nothing. So what other nodes need is published in an annotation, [`ANNOTATION`], and published again
//! whenever the own Node is seen without it: it was registered anew, or somebody wrote over it.
//!
//! With `flannel: true` flannel's annotations are written and read too, and the watch of all nodes is
//! of whole objects, because the pods' subnet of a node that runs flannel is in its spec alone. That
//! costs bytes from the API, not memory here: what is not needed is dropped while it is read. Where a
//! node has both, ours counts; who moves a node back to flannel takes ours off:
//! `kubectl annotate node NAME podwire.dev/node-`.
//!
//! A node that has neither is told by its name alone: it is there, but podwire does not run there yet.
//! A node that loses its annotation is told as it was for as long as it is the same object, because
//! its own agent is about to publish again, and its pods are still where they were.
//!
//! What is told is always whole: after a break, or when the API has forgotten what happened since
//! (410 Gone), the last complete set holds until the new one is complete.

mod annotation;
mod api;
mod backoff;
mod index;
mod object;
mod owner;
mod watch;

use std::path::PathBuf;
use std::{io, thread};

use fabric::Publication;
use tokio::sync::mpsc;

pub use annotation::ANNOTATION;

use crate::{Running, Tell};
use index::Index;
use owner::Command;

/// Why the source cannot start. That the API does not answer is no reason: it is told by
/// [`fabric::Report::Astray`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file that says how to reach the API cannot be used.
    #[error("kubeconfig {}: {cause}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// Nothing says how to reach the API.
    #[error(
        "this is not a pod that may ask Kubernetes' API: {0}; run podwire by the DaemonSet with its \
         ServiceAccount, or set source.kubernetes.kubeconfig"
    )]
    NotInCluster(String),
    /// What is to be used to reach the API (certificates, keys, tokens) cannot be.
    #[error("Kubernetes' API cannot be asked: {0}")]
    Client(String),
    /// There is no thread or no event queue for it.
    #[error("the Kubernetes source cannot start: {0}")]
    Start(#[source] io::Error),
}

/// Starts telling nodes and has `publication` known.
pub fn start(
    config: &fabric::Kubernetes,
    publication: Publication,
    tell: Tell,
) -> Result<Box<dyn Running>, Error> {
    run(config, Index::new(publication, config.flannel), tell)
}

/// Starts telling nodes as [`start`] would, for one who only looks: nothing is written.
pub fn look(
    config: &fabric::Kubernetes,
    publication: Publication,
    tell: Tell,
) -> Result<Box<dyn Running>, Error> {
    run(config, Index::new(publication, config.flannel).that_only_looks(), tell)
}

fn run(config: &fabric::Kubernetes, index: Index, tell: Tell) -> Result<Box<dyn Running>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(Error::Start)?;
    let client = runtime.block_on(api::connect(config))?;
    let (commands, received) = mpsc::unbounded_channel();
    thread::Builder::new()
        .name("kubernetes".to_owned())
        .spawn(move || {
            runtime.block_on(owner::run(client, index, received, &tell));
            // A look-up of a name may still be waiting for an answer.
            runtime.shutdown_background();
        })
        .map_err(Error::Start)?;
    Ok(Box::new(Handle { commands }))
}

/// Where the source is spoken to; it ends when nobody can speak to it any more.
struct Handle {
    commands: mpsc::UnboundedSender<Command>,
}

impl Running for Handle {
    fn publish(&self, publication: Publication) {
        // The thread ends after this only.
        let _ = self.commands.send(Command::Publish(publication));
    }

    fn resync(&self) {
        let _ = self.commands.send(Command::Resync);
    }

    fn set_ready(&self, ready: bool) {
        let _ = self.commands.send(Command::Ready(ready));
    }
}
