//! What is left of the underlay between pods of two nodes: bytes and packets a second, and the time
//! from a request to its answer, for each backend beside the bare underlay.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kernel::Netns;
use serde_json::{Value, json};

use super::agent::{Form, Node, until};
use super::{Programs, sh};
use crate::bench::report::percentile;

const FORMS: [Form; 4] = [Form::HostGw, Form::External, Form::Classic, Form::Gpe];
/// How many questions are asked, one after the other, each time.
const QUESTIONS: usize = 4_000;
/// How long a question and an answer are, in bytes.
const LENGTH: usize = 64;

/// What a sample is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// One TCP connection, in bits a second.
    Tcp,
    /// UDP packets of 64 bytes that arrive, a second.
    Packets,
    /// From a question to its answer, in microseconds.
    UdpAnswer,
    TcpAnswer,
}

const ROWS: [(What, &str, f64); 4] = [
    (What::Tcp, "one TCP connection [Gbit/s]", 1e9),
    (What::Packets, "UDP packets of 64 bytes [1000/s]", 1e3),
    (What::UdpAnswer, "question to answer, UDP [us]", 1.0),
    (What::TcpAnswer, "question to answer, TCP [us]", 1.0),
];

/// By which way packets go; `None` is the bare underlay.
type Way = Option<Form>;
type Samples = BTreeMap<(Way, What), Vec<f64>>;

pub(super) fn run(programs: &Programs, quick: bool) -> Result<(String, Value)> {
    let (rounds, seconds) = if quick { (1, 1) } else { (9, 1) };
    let mut pairs = vec![Pair::bare()?];
    for form in FORMS {
        let pair = Pair::new(programs, form).with_context(|| form.name().to_owned())?;
        pairs.push(pair);
    }
    let mut samples = Samples::new();
    for round in 0..rounds {
        eprint!("\rround {} of {rounds} ", round + 1);
        for _ in 0..pairs.len() {
            let pair = &pairs[0];
            pair.visit(seconds, &mut samples).with_context(|| name(pair.way).to_owned())?;
            pairs.rotate_left(1);
        }
        // Who comes first in one round comes last in the next.
        pairs.rotate_left(1);
    }
    eprintln!();
    Ok((text(&samples, rounds), json(&samples)))
}

/// Two places between which packets go.
struct Pair {
    way: Way,
    from: Netns,
    to: Netns,
    address: Ipv4Addr,
}

impl Pair {
    /// Two nodes and nothing else.
    fn bare() -> Result<Self> {
        let [from, to] = [0, 1].map(|side| Netns::create(&place(&format!("bare{side}"))));
        cable("bare0", "bare1")?;
        Ok(Self { way: None, from: from?, to: to?, address: underlay(1) })
    }

    /// A pod on each of two nodes.
    fn new(programs: &Programs, form: Form) -> Result<Self> {
        let prefix = match form {
            Form::External => "ext",
            Form::Classic => "cla",
            Form::Gpe => "gpe",
            Form::HostGw => "hgw",
        };
        let places = [0, 1].map(|side| format!("{prefix}{side}"));
        let nodes = [0, 1].map(|side| Node::new(&places[side], &format!("n{side}"), form));
        let [one, two] = nodes;
        let nodes = [one?, two?];
        cable(&places[0], &places[1])?;
        let mut pods = Vec::new();
        for (side, node) in nodes.iter().enumerate() {
            node.tell(&format!(
                "nodes:\n- {{name: n0, addresses: [{}], podSubnets: [10.0.0.0/24]}}\n\
                 - {{name: n1, addresses: [{}], podSubnets: [10.0.1.0/24]}}\n",
                underlay(0),
                underlay(1)
            ))?;
            let status = node.once(programs)?;
            ensure!(status["ready"] == true, "the node is not ready: {status:#}");
            let mtu = status["mtu"].as_u64().context("a node has an mtu")?;
            let (node, pod) = (&places[side], format!("{prefix}pod{side}"));
            pods.push(Netns::create(&place(&pod))?);
            sh(&format!(
                "ip -n {node} link add pod0 mtu {mtu} type veth peer eth0 mtu {mtu} netns {pod}
                 ip -n {node} addr add 10.0.{side}.1/24 dev pod0; ip -n {node} link set pod0 up
                 ip -n {pod} link set lo up; ip -n {pod} link set eth0 up
                 ip -n {pod} addr add 10.0.{side}.2/24 dev eth0
                 ip -n {pod} route add default via 10.0.{side}.1"
            ))?;
        }
        let to = pods.pop().context("there are two pods")?;
        let from = pods.pop().context("there are two pods")?;
        Ok(Self { way: Some(form), from, to, address: Ipv4Addr::new(10, 0, 1, 2) })
    }

    fn visit(&self, seconds: u32, samples: &mut Samples) -> Result<()> {
        let mut note = |what, value| samples.entry((self.way, what)).or_default().push(value);
        let told = self.iperf3(&["-t", &seconds.to_string()])?;
        let rate = &told["end"]["sum_received"]["bits_per_second"];
        note(What::Tcp, rate.as_f64().context("iperf3 tells a rate")?);
        let told = self.iperf3(&["-u", "-b", "0", "-l", "64", "-t", &seconds.to_string()])?;
        let (sent, took) = (&told["end"]["sum"], f64::from(seconds));
        let arrived = sent["packets"].as_f64().unwrap_or_default()
            - sent["lost_packets"].as_f64().unwrap_or_default();
        note(What::Packets, arrived / took);
        note(What::UdpAnswer, self.udp_answer()?);
        note(What::TcpAnswer, self.tcp_answer()?);
        Ok(())
    }

    /// Each end on a processor of its own, where there are two: the scheduler's choice would be the
    /// largest difference of all.
    fn iperf3(&self, options: &[&str]) -> Result<Value> {
        let mut command = Command::new("iperf3");
        command.arg("-J").arg("-c").arg(self.address.to_string()).args(options);
        if std::thread::available_parallelism().is_ok_and(|it| it.get() > 1) {
            command.args(["-A", "0,1"]);
        }
        let mut server = Command::new("iperf3");
        let server = server.args(["-s", "-1"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Server(self.to.spawn(server)?);
        let mut told = Value::Null;
        until("iperf3 serves", Duration::from_millis(50), || {
            let child = self.from.spawn(command.stdout(Stdio::piped()))?;
            let output = child.wait_with_output().context("wait for iperf3")?;
            told = serde_json::from_slice(&output.stdout).context("read iperf3's report")?;
            Ok(!told["error"].as_str().is_some_and(|error| error.contains("refused")))
        })?;
        ensure!(told["error"].is_null(), "iperf3: {}", told["error"]);
        server.0.wait().context("wait for iperf3")?;
        Ok(told)
    }

    fn udp_answer(&self) -> Result<f64> {
        let server = self.to.enter(|| UdpSocket::bind((self.address, 7)))??;
        let client = self.from.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
        client.connect((self.address, 7))?;
        server.connect(client.local_addr()?)?;
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        }
        let answer = move || -> std::io::Result<()> {
            let mut bytes = [0; LENGTH];
            for _ in 0..QUESTIONS {
                server.recv(&mut bytes)?;
                server.send(&bytes)?;
            }
            Ok(())
        };
        let mut bytes = [0; LENGTH];
        ask(answer, || {
            client.send(&bytes)?;
            client.recv(&mut bytes).map(drop)
        })
    }

    fn tcp_answer(&self) -> Result<f64> {
        let listener = self.to.enter(|| TcpListener::bind((self.address, 7)))??;
        let mut client = self.from.enter(|| TcpStream::connect((self.address, 7)))??;
        let (mut server, _) = listener.accept()?;
        for socket in [&server, &client] {
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        }
        let answer = move || -> std::io::Result<()> {
            let mut bytes = [0; LENGTH];
            for _ in 0..QUESTIONS {
                server.read_exact(&mut bytes)?;
                server.write_all(&bytes)?;
            }
            Ok(())
        };
        let mut bytes = [0; LENGTH];
        ask(answer, || {
            client.write_all(&bytes)?;
            client.read_exact(&mut bytes)
        })
    }
}

/// A program that serves once, and not beyond this.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The median time of a question, in microseconds, while somebody answers.
fn ask(
    answer: impl FnOnce() -> std::io::Result<()> + Send,
    mut question: impl FnMut() -> std::io::Result<()>,
) -> Result<f64> {
    std::thread::scope(|scope| {
        let server = scope.spawn(answer);
        let mut times = Vec::with_capacity(QUESTIONS);
        for _ in 0..QUESTIONS {
            let begin = Instant::now();
            question().context("ask")?;
            times.push(begin.elapsed().as_secs_f64() * 1e6);
        }
        server.join().ok().context("the one who answers died")??;
        percentile(&times, 50).context("nothing was asked")
    })
}

fn place(name: &str) -> std::path::PathBuf {
    Path::new(net::NAMED).join(name)
}

/// Joins two nodes by their underlay.
fn cable(one: &str, two: &str) -> Result<()> {
    sh(&format!(
        "ip -n {one} link add u0 type veth peer u0 netns {two}
         ip -n {one} addr add {}/24 dev u0; ip -n {one} link set u0 up
         ip -n {two} addr add {}/24 dev u0; ip -n {two} link set u0 up
         ip -n {one} link set lo up; ip -n {two} link set lo up",
        underlay(0),
        underlay(1)
    ))
    .map(drop)
}

fn underlay(side: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 1 + side)
}

fn name(way: Way) -> &'static str {
    way.map_or("bare underlay", Form::name)
}

fn ways() -> impl Iterator<Item = Way> {
    std::iter::once(None).chain(FORMS.into_iter().map(Some))
}

fn text(samples: &Samples, rounds: usize) -> String {
    let mut text = format!(
        "between pods of two nodes, medians of {rounds} rounds (in brackets: of the underlay's; best \
         of all rounds against its best, because what disturbs only takes away)\n"
    );
    text += &line("", ways().map(|way| name(way).to_owned()));
    for (what, title, unit) in ROWS {
        let best = if matches!(what, What::Tcp | What::Packets) { 100 } else { 0 };
        let of = |way, percent| {
            let samples = samples.get(&(way, what)).map(Vec::as_slice).unwrap_or_default();
            percentile(samples, percent).unwrap_or(f64::NAN)
        };
        let cell = |way| {
            let ratio = |percent| of(way, percent) / of(None, percent);
            format!("{:.1} ({:.2}; {:.2})", of(way, 50) / unit, ratio(50), ratio(best))
        };
        text += &line(title, ways().map(cell));
    }
    text
}

fn line(title: &str, cells: impl Iterator<Item = String>) -> String {
    let cells = cells.map(|cell| format!(" {cell:>20}"));
    format!("{title:<34}{}\n", cells.collect::<String>())
}

/// The same for programs.
fn json(samples: &Samples) -> Value {
    let row = |((way, what), values): (&(Way, What), &Vec<f64>)| {
        json!({
            "way": name(*way), "what": format!("{what:?}"), "p50": percentile(values, 50),
            "samples": values,
        })
    };
    samples.iter().map(row).collect()
}
