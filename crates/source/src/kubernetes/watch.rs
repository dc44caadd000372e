//! One watch: a list in pages, then what changes, for ever.
//!
//! kube's own watcher does not say when a broken watch stands again, only what changes afterwards. In a
//! quiet cluster nothing does, and the agent would be astray long after the API is back.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use kube::Client;
use kube::api::{ListParams, WatchEvent, WatchParams};
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::time::{sleep, timeout};

use super::api::{ANSWER, Failure, nodes};
use super::backoff::{Backoff, chance, share};
use super::object::{List, Object};

/// Nodes a page, so that never more than that are in memory as they were sent: of whole objects, each
/// easily 15 kB, and of metadata.
const PAGE: [u32; 2] = [100, 250];

/// After how long without anything a watch is begun anew: the API sends a bookmark a minute, so it is
/// broken, and nobody has told.
const SILENCE: Duration = Duration::from_secs(90);

/// How long a watch lasts at most; some less, so that not all nodes ask at once.
const LONGEST: Duration = Duration::from_secs(290);

/// How long a watch has to last for the API to be sound again.
const SOUND: Duration = Duration::from_secs(1);

/// Which of the two watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Which {
    /// That of the own Node.
    Own,
    /// That of all nodes.
    All,
}

/// What a watch has to say.
#[derive(Debug)]
pub(super) enum Event {
    /// All that follows until [`Event::Listed`] is all there is.
    Listing,
    /// A node as it is.
    Seen(Box<Object>),
    /// The list is complete.
    Listed,
    /// A node is no more.
    Gone(String),
    /// The API will tell from now on what changes.
    Live,
    /// It could not be asked; it will be again.
    Failed(String),
}

/// What to watch.
pub(super) struct Watch {
    pub(super) client: Client,
    pub(super) which: Which,
    /// Only this one, as a field selector.
    pub(super) fields: Option<String>,
    /// Whether spec and status are not needed.
    pub(super) is_metadata: bool,
    pub(super) events: Sender<(Which, Event)>,
    /// Says that all nodes are to be listed anew.
    pub(super) anew: Arc<Notify>,
}

/// Nobody listens any more.
struct Unheard;

/// Why a watch has ended.
enum End {
    Failure(Failure),
    Unheard,
}

impl<E: Into<Failure>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Failure(error.into())
    }
}

impl From<Unheard> for End {
    fn from(_: Unheard) -> Self {
        Self::Unheard
    }
}

impl Watch {
    /// Watches for as long as somebody listens.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::default();
        let mut version = None;
        loop {
            let mut live: Option<Instant> = None;
            let step = async {
                match &mut version {
                    None => self.list().await.map(|listed| version = Some(listed)),
                    Some(version) => self.follow(version, &mut live).await,
                }
            };
            let ended = tokio::select! {
                ended = step => ended,
                () = self.told_anew() => {
                    version = None;
                    continue;
                }
            };
            if live.is_some_and(|since| since.elapsed() >= SOUND) {
                backoff.reset();
            }
            let wait = match ended {
                // What has just been listed is followed at once; a watch may end at once each time.
                Ok(()) if live.is_none() => Duration::ZERO,
                Ok(()) => backoff.next(chance()),
                Err(End::Unheard) => return,
                Err(End::Failure(Failure::Gone)) => {
                    version = None;
                    // All nodes may have been told the same.
                    backoff.next(chance()) + share(Duration::from_millis(200), chance())
                }
                Err(End::Failure(failure)) => {
                    let text = failure.to_string();
                    if self.tell(Event::Failed(text)).await.is_err() {
                        return;
                    }
                    let asked = match failure {
                        Failure::Refused { wait, .. } => wait.unwrap_or_default(),
                        _ => Duration::ZERO,
                    };
                    backoff.next(chance()).max(asked)
                }
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = self.told_anew() => version = None,
            }
        }
    }

    /// The own Node is always told again when it changes, and is not what somebody doubts.
    async fn told_anew(&self) {
        match self.which {
            Which::All => self.anew.notified().await,
            Which::Own => std::future::pending().await,
        }
    }

    /// Tells all there is; the version of it.
    async fn list(&self) -> Result<String, End> {
        self.tell(Event::Listing).await?;
        let mut params = ListParams {
            field_selector: self.fields.clone(),
            limit: Some(PAGE[usize::from(self.is_metadata)]),
            ..ListParams::default()
        };
        loop {
            let request = match self.is_metadata {
                true => nodes().list_metadata(&params)?,
                false => nodes().list(&params)?,
            };
            // Not read by kube, which would log a page that it does not understand.
            let answer = timeout(ANSWER, self.client.request_text(request)).await;
            let text = answer.map_err(|_| Failure::silence())??;
            let page: List = serde_json::from_str(&text).map_err(kube::Error::SerdeError)?;
            drop(text);
            for object in page.items {
                self.tell(Event::Seen(Box::new(object))).await?;
            }
            match page.metadata.r#continue.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => {
                    self.tell(Event::Listed).await?;
                    return Ok(page.metadata.resource_version);
                }
            }
        }
    }

    /// Tells what changes after `version`, and moves that on, until the API ends it; since when it has
    /// been `live`.
    async fn follow(&self, version: &mut String, live: &mut Option<Instant>) -> Result<(), End> {
        let length = LONGEST - share(LONGEST / 4, chance());
        let params = WatchParams {
            field_selector: self.fields.clone(),
            timeout: u32::try_from(length.as_secs()).ok(),
            ..WatchParams::default()
        };
        let request = match self.is_metadata {
            true => nodes().watch_metadata(&params, version)?,
            false => nodes().watch(&params, version)?,
        };
        let answer = timeout(ANSWER, self.client.request_events::<Object>(request)).await;
        let mut events = pin!(answer.map_err(|_| Failure::silence())??);
        self.tell(Event::Live).await?;
        *live = Some(Instant::now());
        loop {
            let Ok(event) = timeout(SILENCE, events.try_next()).await else { return Ok(()) };
            let event = match event? {
                None => return Ok(()),
                Some(WatchEvent::Error(status)) => return Err(kube::Error::Api(status).into()),
                Some(WatchEvent::Bookmark(bookmark)) => {
                    *version = bookmark.metadata.resource_version;
                    continue;
                }
                Some(WatchEvent::Deleted(object)) => {
                    *version = object.metadata.resource_version;
                    Event::Gone(object.metadata.name)
                }
                Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    version.clone_from(&object.metadata.resource_version);
                    Event::Seen(Box::new(object))
                }
            };
            self.tell(event).await?;
        }
    }

    async fn tell(&self, event: Event) -> Result<(), Unheard> {
        self.events.send((self.which, event)).await.map_err(|_| Unheard)
    }
}
