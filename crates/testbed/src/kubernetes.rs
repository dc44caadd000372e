//! As much of Kubernetes' API as a watcher of nodes sees, over real HTTP: lists in pages, watches in
//! chunks, metadata alone where it is asked for, patches, and everything that goes wrong with them.
//! It knows nodes only, and nothing of who may ask.

mod object;
mod wire;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

pub use object::{kubeconfig, large, published, registered};
pub use wire::Request;
use wire::{answer, answer_text, merge, read, replace_by_type, status};

/// A server, which ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<String, Arc<Node>>,
    version: u64,
    /// What a watch tells, by version.
    log: Vec<(u64, &'static str, Arc<Node>)>,
    /// What happened up to here is forgotten.
    forgotten: u64,
    /// The version that watches have last been told without an event.
    bookmark: u64,
    requests: Vec<Request>,
    /// How many watches have begun: what is forgotten from then on is nothing to them.
    watches: usize,
    connections: Vec<TcpStream>,
    is_away: bool,
    is_over: bool,
    /// Lists end early from this page on.
    breaks_at_page: Option<usize>,
    breaks_events: bool,
    delay: Duration,
    refuses_patches: bool,
}

/// A Node as it is sent. It is written when it changes, so that thousands of nodes cost who asks for
/// them, and not this server.
#[derive(Debug)]
struct Node {
    name: String,
    whole: String,
    metadata: String,
}

impl Server {
    /// A server at an address of this machine.
    pub fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// A server at this address, in the network namespace of the thread that calls.
    pub fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        thread::spawn(move || accept(listener, address, &for_thread));
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// Adds a Node, or replaces it.
    pub fn put(&self, node: Value) {
        self.state().put(node);
        self.shared.changed.notify_all();
    }

    /// Removes a Node.
    pub fn remove(&self, name: &str) {
        self.state().remove(name);
        self.shared.changed.notify_all();
    }

    /// Changes a Node.
    pub fn edit(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut node = self.node(name);
        edit(&mut node);
        self.put(node);
    }

    /// A Node as it is.
    pub fn node(&self, name: &str) -> Value {
        self.state().nodes[name].value()
    }

    /// What a Node is annotated with.
    pub fn annotation(&self, name: &str, key: &str) -> Option<String> {
        Some(self.node(name)["metadata"]["annotations"].get(key)?.as_str().unwrap().to_owned())
    }

    /// The status of a condition of a Node.
    pub fn condition(&self, name: &str, kind: &str) -> Option<String> {
        let node = self.node(name);
        let condition =
            node["status"]["conditions"].as_array()?.iter().find(|it| it["type"] == kind)?;
        Some(condition["status"].as_str().unwrap().to_owned())
    }

    /// Forgets what happened, so that a watch from an old version is refused.
    pub fn forget(&self) {
        let mut state = self.state();
        state.version += 1;
        state.forgotten = state.version;
        state.log.clear();
    }

    /// Tells all watches the current version.
    pub fn bookmark(&self) {
        let mut state = self.state();
        state.bookmark = state.version;
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Ends all connections there are.
    pub fn cut(&self) {
        for connection in self.state().connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Refuses connections, and ends those that there are, or does so no more.
    pub fn set_away(&self, is_away: bool) {
        self.state().is_away = is_away;
        if is_away {
            // The listener has to be closed before a client tries again.
            thread::sleep(Duration::from_millis(30));
            self.cut();
        }
        self.shared.changed.notify_all();
    }

    /// Breaks the connection in the middle of this page of a list, counted from 0.
    pub fn set_breaks_at_page(&self, page: Option<usize>) {
        self.state().breaks_at_page = page;
    }

    /// Breaks the connection of a watch in the middle of every event.
    pub fn set_breaks_events(&self, breaks: bool) {
        self.state().breaks_events = breaks;
    }

    /// Waits before every answer.
    pub fn set_delay(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// Allows nobody to write.
    pub fn set_refuses_patches(&self, refuses: bool) {
        self.state().refuses_patches = refuses;
    }

    /// How many watches have begun so far.
    pub fn watches(&self) -> usize {
        self.state().watches
    }

    /// All that has been asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// How many requests have been of a kind.
    pub fn count(&self, is_counted: impl Fn(&Request) -> bool) -> usize {
        self.state().requests.iter().filter(|request| is_counted(request)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state().is_over = true;
        self.cut();
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, mut node: Value) -> Arc<Node> {
        self.version += 1;
        let name = node["metadata"]["name"].as_str().unwrap().to_owned();
        node["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if node["metadata"].get("uid").is_none() {
            node["metadata"]["uid"] = json!(format!("{name}-{}", self.version));
        }
        let node = Arc::new(Node::new(node));
        let before = self.nodes.insert(name, Arc::clone(&node));
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.log.push((self.version, kind, Arc::clone(&node)));
        node
    }

    fn remove(&mut self, name: &str) {
        self.version += 1;
        let mut node = self.nodes.remove(name).unwrap().value();
        node["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.log.push((self.version, "DELETED", Arc::new(Node::new(node))));
    }

    /// What has happened after `version`.
    fn since(&self, version: u64) -> &[(u64, &'static str, Arc<Node>)] {
        &self.log[self.log.partition_point(|(at, ..)| *at <= version)..]
    }
}

impl Node {
    fn new(mut node: Value) -> Self {
        node["kind"] = json!("Node");
        node["apiVersion"] = json!("v1");
        let metadata = json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": node["metadata"] });
        let name = node["metadata"]["name"].as_str().unwrap().to_owned();
        Self { name, whole: node.to_string(), metadata: metadata.to_string() }
    }

    fn value(&self) -> Value {
        serde_json::from_str(&self.whole).unwrap()
    }

    /// As it was asked for.
    fn shown(&self, request: &Request) -> &str {
        if request.is_metadata() { &self.metadata } else { &self.whole }
    }

    fn is_selected(&self, request: &Request) -> bool {
        let selector = request.query.get("fieldSelector");
        let wanted = selector.map(|it| it.strip_prefix("metadata.name=").unwrap());
        wanted.is_none_or(|wanted| self.name == wanted)
    }
}

fn accept(listener: TcpListener, address: SocketAddr, shared: &Arc<Shared>) {
    let mut listener = Some(listener);
    loop {
        let (is_away, is_over) = {
            let state = shared.lock();
            (state.is_away, state.is_over)
        };
        if is_over {
            return;
        }
        if is_away {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).ok();
        }
        let Some(open) = &listener else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        open.set_nonblocking(true).unwrap();
        match open.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                stream.set_nodelay(true).unwrap();
                shared.lock().connections.push(stream.try_clone().unwrap());
                let shared = Arc::clone(shared);
                thread::spawn(move || serve(stream, &shared));
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Answers what comes by one connection, until either side has enough.
fn serve(stream: TcpStream, shared: &Shared) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let request = read(&mut reader)?;
        let delay = {
            let mut state = shared.lock();
            state.requests.push(request.clone());
            state.delay
        };
        thread::sleep(delay);
        match request.method.as_str() {
            "GET" if request.is_watch() => watch(&mut stream, &request, shared)?,
            "GET" => list(&mut stream, &request, shared)?,
            "PATCH" => patch(&mut stream, &request, shared)?,
            _ => answer(&mut stream, 405, &status(405, "MethodNotAllowed", "no")).ok()?,
        }
    }
}

fn list(stream: &mut TcpStream, request: &Request, shared: &Shared) -> Option<()> {
    let (body, breaks) = {
        let state = shared.lock();
        let limit = request.query.get("limit").map_or(usize::MAX, |it| it.parse().unwrap());
        let start: usize = request.query.get("continue").map_or(0, |it| it.parse().unwrap());
        let selected = state.nodes.values().filter(|node| node.is_selected(request));
        let mut items: Vec<&Arc<Node>> = selected.skip(start).collect();
        let mut metadata = json!({ "resourceVersion": state.version.to_string() });
        if items.len() > limit {
            items.truncate(limit);
            metadata["continue"] = json!((start + limit).to_string());
        }
        let items: Vec<&str> = items.into_iter().map(|node| node.shown(request)).collect();
        let items = items.join(",");
        let body = format!(r#"{{"kind":"List","metadata":{metadata},"items":[{items}]}}"#);
        let breaks =
            request.is_of_all() && state.breaks_at_page.is_some_and(|it| it * limit <= start);
        (body, breaks)
    };
    if breaks {
        let _ = stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 1000000\r\n\r\n{\"items\":[");
        let _ = stream.shutdown(Shutdown::Both);
        return None;
    }
    answer_text(stream, 200, &body).ok()
}

fn watch(stream: &mut TcpStream, request: &Request, shared: &Shared) -> Option<()> {
    let mut version: u64 = request.query["resourceVersion"].parse().unwrap();
    let (mut bookmark, is_forgotten) = {
        let mut state = shared.lock();
        state.watches += 1;
        (state.bookmark, version < state.forgotten)
    };
    let head =
        "HTTP/1.1 200 x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).ok()?;
    let mut state = shared.lock();
    loop {
        let mut lines = Vec::new();
        if is_forgotten {
            let gone = status(410, "Expired", "too old resource version");
            lines.push(event("ERROR", &gone.to_string()));
        }
        let is_over = is_forgotten || state.is_over;
        for (_, kind, node) in state.since(version) {
            if !is_over && node.is_selected(request) {
                lines.push(event(kind, node.shown(request)));
            }
        }
        let breaks = state.breaks_events && !lines.is_empty();
        version = state.version;
        if bookmark != state.bookmark {
            bookmark = state.bookmark;
            let object = json!({ "kind": "Node", "apiVersion": "v1",
                "metadata": { "resourceVersion": bookmark.to_string() } });
            lines.push(event("BOOKMARK", &object.to_string()));
        }
        drop(state);
        if breaks {
            let _ = stream.write_all(b"1000\r\n");
            let _ = stream.write_all(&lines[0].as_bytes()[..lines[0].len() / 2]);
            let _ = stream.shutdown(Shutdown::Both);
            return None;
        }
        for line in lines {
            let mut chunk = String::with_capacity(line.len() + 16);
            let _ = write!(chunk, "{:x}\r\n{line}\r\n", line.len());
            stream.write_all(chunk.as_bytes()).ok()?;
        }
        if is_over {
            stream.write_all(b"0\r\n\r\n").ok()?;
            return Some(());
        }
        // A client that has gone is noticed by what is written to it next.
        let waited = shared.changed.wait_timeout(shared.lock(), Duration::from_millis(100));
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// One line of a watch.
fn event(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

fn patch(stream: &mut TcpStream, request: &Request, shared: &Shared) -> Option<()> {
    let mut state = shared.lock();
    let rest = request.path.strip_prefix("/api/v1/nodes/")?;
    let (name, is_status) = rest.strip_suffix("/status").map_or((rest, false), |name| (name, true));
    if state.refuses_patches {
        drop(state);
        return answer(stream, 403, &status(403, "Forbidden", "nodes is forbidden")).ok();
    }
    let Some(before) = state.nodes.get(name).cloned() else {
        drop(state);
        return answer(stream, 404, &status(404, "NotFound", "no such node")).ok();
    };
    let mut node = before.value();
    match (request.headers["content-type"].as_str(), is_status) {
        ("application/merge-patch+json", false) => merge(&mut node, &request.body),
        ("application/strategic-merge-patch+json", true) => {
            for condition in request.body["status"]["conditions"].as_array()? {
                replace_by_type(&mut node["status"]["conditions"], condition);
            }
        }
        (other, _) => panic!("a patch of type {other}"),
    }
    // Where nothing changes the API makes no new version.
    let after = if node == before.value() { before } else { state.put(node) };
    drop(state);
    shared.changed.notify_all();
    answer_text(stream, 200, after.shown(request)).ok()
}
