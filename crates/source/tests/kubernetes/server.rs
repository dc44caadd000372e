//! As much of Kubernetes' API as a watcher of nodes sees, over real HTTP: lists in pages, watches in
//! chunks, metadata alone where it is asked for, patches, and everything that goes wrong with them.

use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::wire::{Request, answer, merge, read, replace_by_type, status};

/// A server, which ends when this is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<String, Value>,
    version: u64,
    /// What a watch tells, by version.
    log: Vec<(u64, &'static str, Value)>,
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
    delay: Duration,
    refuses_patches: bool,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        thread::spawn(move || accept(listener, address, &for_thread));
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// Adds a Node, or replaces it.
    pub(crate) fn put(&self, node: Value) {
        self.state().put(node);
        self.shared.changed.notify_all();
    }

    pub(crate) fn remove(&self, name: &str) {
        self.state().remove(name);
        self.shared.changed.notify_all();
    }

    /// Changes a Node.
    pub(crate) fn edit(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut node = self.node(name);
        edit(&mut node);
        self.put(node);
    }

    pub(crate) fn node(&self, name: &str) -> Value {
        self.state().nodes[name].clone()
    }

    pub(crate) fn annotation(&self, name: &str, key: &str) -> Option<String> {
        Some(self.node(name)["metadata"]["annotations"].get(key)?.as_str().unwrap().to_owned())
    }

    /// Forgets what happened, so that a watch from an old version is refused.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        state.version += 1;
        state.forgotten = state.version;
        state.log.clear();
    }

    /// Tells all watches the current version.
    pub(crate) fn bookmark(&self) {
        let mut state = self.state();
        state.bookmark = state.version;
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Ends all connections there are.
    pub(crate) fn cut(&self) {
        for connection in self.state().connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Refuses connections, and ends those that there are, or does so no more.
    pub(crate) fn set_away(&self, is_away: bool) {
        self.state().is_away = is_away;
        if is_away {
            // The listener has to be closed before a client tries again.
            thread::sleep(Duration::from_millis(30));
            self.cut();
        }
        self.shared.changed.notify_all();
    }

    /// Breaks the connection in the middle of this page of a list, counted from 0.
    pub(crate) fn set_breaks_at_page(&self, page: Option<usize>) {
        self.state().breaks_at_page = page;
    }

    /// Waits before every answer.
    pub(crate) fn set_delay(&self, delay: Duration) {
        self.state().delay = delay;
    }

    pub(crate) fn set_refuses_patches(&self, refuses: bool) {
        self.state().refuses_patches = refuses;
    }

    /// How many watches have begun so far.
    pub(crate) fn watches(&self) -> usize {
        self.state().watches
    }

    /// All that has been asked so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    pub(crate) fn count(&self, is_counted: impl Fn(&Request) -> bool) -> usize {
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
    fn put(&mut self, mut node: Value) -> Value {
        self.version += 1;
        let name = node["metadata"]["name"].as_str().unwrap().to_owned();
        node["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if node["metadata"].get("uid").is_none() {
            node["metadata"]["uid"] = json!(format!("{name}-{}", self.version));
        }
        let before = self.nodes.insert(name, node.clone());
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.log.push((self.version, kind, node.clone()));
        node
    }

    fn remove(&mut self, name: &str) {
        self.version += 1;
        let mut node = self.nodes.remove(name).unwrap();
        node["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.log.push((self.version, "DELETED", node));
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

fn shown(node: &Value, request: &Request) -> Value {
    let mut node = node.clone();
    if request.is_metadata() {
        let object = node.as_object_mut().unwrap();
        object.retain(|key, _| key == "metadata");
        object.insert("kind".to_owned(), json!("PartialObjectMetadata"));
        object.insert("apiVersion".to_owned(), json!("meta.k8s.io/v1"));
    } else {
        node["kind"] = json!("Node");
        node["apiVersion"] = json!("v1");
    }
    node
}

fn is_selected(node: &Value, request: &Request) -> bool {
    let selector = request.query.get("fieldSelector");
    let wanted = selector.map(|it| it.strip_prefix("metadata.name=").unwrap());
    wanted.is_none_or(|wanted| node["metadata"]["name"] == wanted)
}

fn list(stream: &mut TcpStream, request: &Request, shared: &Shared) -> Option<()> {
    let (body, breaks) = {
        let state = shared.lock();
        let limit = request.query.get("limit").map_or(usize::MAX, |it| it.parse().unwrap());
        let start: usize = request.query.get("continue").map_or(0, |it| it.parse().unwrap());
        let selected = state.nodes.values().filter(|node| is_selected(node, request));
        let mut items: Vec<&Value> = selected.skip(start).collect();
        let mut metadata = json!({ "resourceVersion": state.version.to_string() });
        if items.len() > limit {
            items.truncate(limit);
            metadata["continue"] = json!((start + limit).to_string());
        }
        let items: Vec<Value> = items.into_iter().map(|node| shown(node, request)).collect();
        let body = json!({ "kind": "List", "metadata": metadata, "items": items });
        let breaks =
            request.is_of_all() && state.breaks_at_page.is_some_and(|it| it * limit <= start);
        (body, breaks)
    };
    if breaks {
        let _ = stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 1000000\r\n\r\n{\"items\":[");
        let _ = stream.shutdown(Shutdown::Both);
        return None;
    }
    answer(stream, 200, &body).ok()
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
            lines.push(json!({ "type": "ERROR", "object": gone }));
        }
        let is_over = !lines.is_empty() || state.is_over;
        for (_, kind, node) in state.log.iter().filter(|(at, ..)| *at > version) {
            if !is_over && is_selected(node, request) {
                lines.push(json!({ "type": kind, "object": shown(node, request) }));
            }
        }
        version = state.version;
        if bookmark != state.bookmark {
            bookmark = state.bookmark;
            lines.push(json!({ "type": "BOOKMARK", "object": { "kind": "Node", "apiVersion": "v1",
                "metadata": { "resourceVersion": bookmark.to_string() } } }));
        }
        drop(state);
        for line in lines {
            let line = format!("{line}\n");
            stream.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).ok()?;
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
    let mut node = before.clone();
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
    let after = if node == before { before } else { state.put(node) };
    drop(state);
    shared.changed.notify_all();
    answer(stream, 200, &shown(&after, request)).ok()
}

/// Waits until it is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
