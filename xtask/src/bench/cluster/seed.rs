//! Where nodes come from in a measurement: Kubernetes' API or etcd, in the namespace of the node that
//! asks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kernel::Netns;
use serde_json::{Value, json};

use super::Programs;
use super::agent::until;
use super::scale::{address, name, subnet};

/// Where it listens.
pub(super) const API: &str = "127.0.0.1:6443";
pub(super) const ETCD: &str = "127.0.0.1:2379";

/// As many changes as etcd takes at once.
const BATCH: usize = 128;

/// A cluster whose nodes somebody can be told of; it ends when this is dropped.
pub(super) enum Seed {
    /// By the program that speaks Kubernetes' API.
    Kubernetes(Child),
    /// By etcd, in flannel's layout; the grant of time that all leases have.
    Etcd(Child, Netns, Value),
}

impl Seed {
    /// `count` nodes by Kubernetes' API.
    pub(super) fn kubernetes(programs: &Programs, netns: &Netns, count: u16) -> Result<Self> {
        let mut command = Command::new(&programs.nodes);
        command.args([API, &count.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = netns.spawn(&mut command)?;
        let told = child.stdout.take().context("the server's words are heard")?;
        let mut line = String::new();
        BufReader::new(told).read_line(&mut line).context("wait for the server")?;
        ensure!(line == "ready\n", "the server of nodes did not start");
        Ok(Self::Kubernetes(child))
    }

    /// `count` nodes in etcd, but for the first, which takes the only subnet that is given out.
    pub(super) fn etcd(place: &str, netns: &Netns, count: u16) -> Result<Self> {
        let url = format!("http://{ETCD}");
        let mut command = Command::new("etcd");
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args(["--listen-peer-urls", "http://127.0.0.1:2380", "--log-level", "error"]);
        command.arg("--data-dir").arg(super::agent::directory(place).join("etcd"));
        let child = netns.spawn(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
        let mut seed = Self::Etcd(child, Netns::open(netns.path())?, Value::Null);
        let grant = seed.grant()?;
        if let Self::Etcd(_, _, kept) = &mut seed {
            kept.clone_from(&grant);
        }
        let config = json!({ "Network": "10.0.0.0/8", "SubnetLen": 24, "SubnetMin": subnet(1),
            "SubnetMax": subnet(1), "Backend": { "Type": "vxlan" } });
        seed.put(&[put("config", &config.to_string(), &json!(0))])?;
        let leases: Vec<Value> = (2..=count).map(|number| lease(number, &grant)).collect();
        leases.chunks(BATCH).try_for_each(|some| seed.put(some))?;
        Ok(seed)
    }

    /// One node more, of this number.
    pub(super) fn add(&mut self, number: u16) -> Result<()> {
        match self {
            Self::Kubernetes(child) => {
                let input = child.stdin.as_mut().context("the server listens")?;
                input.write_all(b"\n").context("tell the server of a node")
            }
            Self::Etcd(_, _, grant) => {
                let lease = lease(number, grant);
                self.put(&[lease])
            }
        }
    }

    fn grant(&self) -> Result<Value> {
        let mut granted = None;
        until("etcd answers", Duration::from_millis(10), || {
            granted = self.ask("/v3/lease/grant", &json!({ "TTL": 86_400 })).ok();
            Ok(granted.is_some())
        })?;
        Ok(granted.context("etcd answers")?["ID"].clone())
    }

    fn put(&self, all: &[Value]) -> Result<()> {
        self.ask("/v3/kv/txn", &json!({ "success": all })).map(drop)
    }

    fn ask(&self, path: &str, question: &Value) -> Result<Value> {
        let Self::Etcd(_, netns, _) = self else { return Ok(Value::Null) };
        let mut stream = netns.enter(|| TcpStream::connect(ETCD))??;
        let body = question.to_string();
        write!(stream, "POST {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer has a body")?;
        ensure!(head.contains(" 200 "), "etcd refuses {path}: {body}");
        serde_json::from_str(body).context("read etcd's answer")
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        let (Self::Kubernetes(child) | Self::Etcd(child, ..)) = self;
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The lease of a node as flannel writes it.
fn lease(number: u16, grant: &Value) -> Value {
    let [high, low] = number.to_be_bytes();
    let mac = format!("02:00:ac:10:{high:02x}:{low:02x}");
    let value = json!({ "PublicIP": address(number), "PublicIPv6": null, "BackendType": "vxlan",
        "BackendData": { "VNI": 1, "VtepMAC": mac }, "NodeName": name(number) });
    put(&format!("subnets/{}-24", subnet(number)), &value.to_string(), grant)
}

fn put(key: &str, value: &str, grant: &Value) -> Value {
    let key = STANDARD.encode(format!("/coreos.com/network/{key}"));
    json!({ "requestPut": { "key": key, "value": STANDARD.encode(value), "lease": grant } })
}
