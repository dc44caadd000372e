//! A real etcd, of which a test is the only user, and what a person does with it.
#![expect(clippy::disallowed_methods, reason = "tests start processes")]
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

use std::io::copy;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Where it answers in clear text. Every test has a loopback of its own.
pub(crate) const URL: &str = "http://127.0.0.1:2379";

pub(crate) const PREFIX: &str = "/coreos.com/network";

pub(crate) struct Member {
    /// Which of a cluster it is, and how many there are.
    place: (u16, u16),
    data: PathBuf,
    more: Vec<String>,
    process: Option<Child>,
}

impl Member {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(more: &[&str]) -> Self {
        let mut member = Self::new(more, (0, 1));
        member.restart();
        member
    }

    /// So many that know one another.
    pub(crate) fn cluster(count: u16) -> Vec<Self> {
        let mut members: Vec<Self> = (0..count).map(|n| Self::new(&[], (n, count))).collect();
        members.iter_mut().for_each(Self::begin);
        members.iter().for_each(Self::wait);
        members
    }

    fn new(more: &[&str], place: (u16, u16)) -> Self {
        // In the test's own /run, which is memory: nothing waits for a disk.
        let data = Path::new("/run/etcd").join(place.0.to_string());
        let more = more.iter().map(|it| (*it).to_owned()).collect();
        Self { place, data, more, process: None }
    }

    /// Where a member of a cluster answers.
    pub(crate) fn url(place: u16) -> String {
        format!("http://127.0.0.1:{}", 2379 + 10 * place)
    }

    fn peer_url(place: u16) -> String {
        format!("http://127.0.0.1:{}", 2380 + 10 * place)
    }

    /// Starts it with what it had.
    pub(crate) fn restart(&mut self) {
        self.begin();
        self.wait();
    }

    fn begin(&mut self) {
        let (place, count) = self.place;
        let all = (0..count).map(|n| format!("m{n}={}", Self::peer_url(n)));
        let all = all.collect::<Vec<_>>().join(",");
        // Whoever kills the test takes it along.
        let mut command = Command::new(testbed::need("setpriv", "util-linux"));
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(testbed::need("etcd", "etcd-server"))
            .args(["--name", &format!("m{place}"), "--data-dir"])
            .arg(&self.data)
            .args(["--listen-peer-urls", &Self::peer_url(place)])
            .args(["--initial-advertise-peer-urls", &Self::peer_url(place)])
            .args(["--initial-cluster", &all])
            .args(["--advertise-client-urls", &Self::url(place)])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .args(["--logger", "zap", "--log-level", "error"]);
        if !self.more.iter().any(|it| it == "--listen-client-urls") {
            command.args(["--listen-client-urls", &Self::url(place)]);
        }
        command.args(&self.more).stdin(Stdio::null()).stdout(Stdio::null());
        self.process = Some(command.spawn().unwrap());
    }

    fn wait(&self) {
        let (start, url) = (Instant::now(), Self::url(self.place.0));
        while call(&url, "/v3/kv/range", &json!({ "key": base64("x") })).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "etcd does not answer");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Has it started with other arguments from now on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        let place = self.more.iter().position(|it| it == name).unwrap();
        self.more[place + 1] = value.to_owned();
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Kills it and takes all that it knew.
    pub(crate) fn wipe(&mut self) {
        self.kill();
        std::fs::remove_dir_all(&self.data).unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().unwrap();
        kill_process(Pid::from_child(process), signal).unwrap();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

fn call(url: &str, path: &str, question: &Value) -> Result<Value, String> {
    call_as(None, url, path, question)
}

/// As one who logs in first: what etcd answers to its administrator.
pub(crate) fn as_root(path: &str, question: &Value) -> Value {
    let who = json!({ "name": "root", "password": "secret" });
    let token = etcd("/v3/auth/authenticate", &who)["token"].as_str().unwrap().to_owned();
    call_as(Some(&token), URL, path, question).unwrap()
}

fn call_as(token: Option<&str>, url: &str, path: &str, question: &Value) -> Result<Value, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(3)))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into();
    let mut request = agent.post(format!("{url}{path}"));
    if let Some(token) = token {
        request = request.header("Authorization", token);
    }
    let response = request.send(question.to_string());
    let mut response = response.map_err(|error| error.to_string())?;
    let body = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
    if response.status() == 200 {
        serde_json::from_str(&body).map_err(|error| error.to_string())
    } else {
        Err(body)
    }
}

/// What etcd answers, by whichever member does; a refusal fails the test.
pub(crate) fn etcd(path: &str, question: &Value) -> Value {
    let first = call(URL, path, question);
    let others = || (1..3).find_map(|n| call(&Member::url(n), path, question).ok());
    first.or_else(|why| others().ok_or(why)).unwrap()
}

pub(crate) fn configure(text: &str) {
    put("config", text);
}

/// Writes a key below the prefix, for ever.
pub(crate) fn put(key: &str, value: &str) {
    etcd("/v3/kv/put", &json!({ "key": full(key), "value": base64(value) }));
}

/// Writes a key as flannel does: with a lease of its own.
pub(crate) fn put_leased(key: &str, value: &str, seconds: u64) {
    let lease = etcd("/v3/lease/grant", &json!({ "TTL": seconds.to_string() }));
    let put = json!({ "key": full(key), "value": base64(value), "lease": lease["ID"] });
    etcd("/v3/kv/put", &put);
}

pub(crate) fn delete(key: &str) {
    etcd("/v3/kv/deleterange", &json!({ "key": full(key) }));
}

/// How often anything was written.
pub(crate) fn revision() -> i64 {
    let now = etcd("/v3/kv/range", &json!({ "key": base64("x") }));
    now["header"]["revision"].as_str().unwrap().parse().unwrap()
}

/// Forgets what was before now.
pub(crate) fn compact() {
    etcd("/v3/kv/compaction", &json!({ "revision": revision().to_string() }));
}

fn full(key: &str) -> String {
    base64(&format!("{PREFIX}/{key}"))
}

/// A key below `subnets/`, as etcd tells of it.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) key: String,
    pub(crate) value: Value,
    pub(crate) created: String,
    pub(crate) lease: Option<String>,
}

pub(crate) fn leases() -> Vec<Stored> {
    let range =
        json!({ "key": full("subnets/"), "range_end": base64(&format!("{PREFIX}/subnets0")) });
    let text = |value: &Value| {
        String::from_utf8(STANDARD.decode(value.as_str().unwrap()).unwrap()).unwrap()
    };
    let of = |kv: &Value| Stored {
        key: text(&kv["key"]).trim_start_matches(PREFIX).trim_start_matches("/subnets/").to_owned(),
        value: serde_json::from_str(&text(&kv["value"])).unwrap_or_default(),
        created: kv["create_revision"].as_str().unwrap().to_owned(),
        lease: kv["lease"].as_str().map(str::to_owned),
    };
    let answer = etcd("/v3/kv/range", &range);
    answer["kvs"].as_array().map(|all| all.iter().map(of).collect()).unwrap_or_default()
}

/// The way to etcd, which a test can close and open.
pub(crate) struct Gate {
    is_open: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Gate {
    pub(crate) const URL: &str = "http://127.0.0.1:2377";

    pub(crate) fn new() -> Self {
        let gate = Self { is_open: Arc::new(AtomicBool::new(true)), streams: Arc::default() };
        let (is_open, streams) = (gate.is_open.clone(), gate.streams.clone());
        let listener = TcpListener::bind("127.0.0.1:2377").unwrap();
        thread::spawn(move || {
            for here in listener.incoming().map(Result::unwrap) {
                let Ok(there) = TcpStream::connect("127.0.0.1:2379") else { continue };
                if !is_open.load(Ordering::SeqCst) {
                    continue;
                }
                let all = [&here, &there, &here, &there].map(|it| it.try_clone().unwrap());
                let [a, b, c, d] = all;
                streams.lock().unwrap().extend([here, there]);
                thread::spawn(move || pass(a, b));
                thread::spawn(move || pass(d, c));
            }
        });
        gate
    }

    pub(crate) fn close(&self) {
        self.is_open.store(false, Ordering::SeqCst);
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
}
