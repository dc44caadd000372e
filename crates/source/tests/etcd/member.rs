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
    data: PathBuf,
    more: Vec<String>,
    process: Option<Child>,
}

impl Member {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(more: &[&str]) -> Self {
        // In the test's own /run, which is memory: nothing waits for a disk.
        let data = Path::new("/run/etcd").to_owned();
        let more = more.iter().map(|it| (*it).to_owned()).collect();
        let mut member = Self { data, more, process: None };
        member.restart();
        member
    }

    /// Starts it with what it had.
    pub(crate) fn restart(&mut self) {
        // Whoever kills the test takes it along.
        let mut command = Command::new(testbed::need("setpriv", "util-linux"));
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(testbed::need("etcd", "etcd-server"))
            .args(["--name", "m", "--data-dir"])
            .arg(&self.data)
            .args(["--listen-peer-urls", "http://127.0.0.1:2380"])
            .args(["--initial-advertise-peer-urls", "http://127.0.0.1:2380"])
            .args(["--initial-cluster", "m=http://127.0.0.1:2380"])
            .args(["--advertise-client-urls", URL])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .args(["--logger", "zap", "--log-level", "error"]);
        if !self.more.iter().any(|it| it == "--listen-client-urls") {
            command.args(["--listen-client-urls", URL]);
        }
        command.args(&self.more).stdin(Stdio::null()).stdout(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        let start = Instant::now();
        while call("/v3/kv/range", &json!({ "key": base64("x") })).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "etcd does not answer");
            thread::sleep(Duration::from_millis(20));
        }
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

fn call(path: &str, question: &Value) -> Result<Value, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(3)))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into();
    let response = agent.post(format!("{URL}{path}")).send(question.to_string());
    let mut response = response.map_err(|error| error.to_string())?;
    let body = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
    if response.status() == 200 {
        serde_json::from_str(&body).map_err(|error| error.to_string())
    } else {
        Err(body)
    }
}

/// What etcd answers; a refusal fails the test.
pub(crate) fn etcd(path: &str, question: &Value) -> Value {
    call(path, question).unwrap()
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
