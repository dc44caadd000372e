//! One long TCP connection between two pods: bytes there and back, in order, all the while
//! something happens.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use testbed::Namespace;

use super::traffic::{PACE, Pair};

/// How much is written at each pace.
const RECORD: usize = 500;
/// How long bytes that are under way are waited for: TCP waits twice as long each time before it
/// sends something again.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Stream(JoinHandle<Flow>);

/// What became of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    written: usize,
    back: usize,
    /// How many segments were sent again, because they were lost.
    pub(super) again: usize,
    /// The longest time in which nothing came back.
    pub(super) pause: Duration,
    /// Why it ended, if it did.
    broken: Option<String>,
}

impl Flow {
    /// Whether it goes on, and every byte has come back.
    pub(super) fn is_whole(&self) -> bool {
        self.broken.is_none() && self.back == self.written && self.back > 0
    }
}

impl Stream {
    /// Connects the pods, and has bytes go there and back until `stop`.
    pub(super) fn start(pair: &Pair<'_>, stop: Arc<AtomicBool>) -> Self {
        let Pair { near: (near, _), far: (far, address), port } = *pair;
        for pod in [near, far] {
            // What is only late is not sent again.
            pod.sh("sysctl -qw net.ipv4.tcp_early_retrans=0");
        }
        let target = SocketAddr::new(address, port);
        let listener = far.netns().enter(|| TcpListener::bind(target)).unwrap().unwrap();
        let connect = || TcpStream::connect_timeout(&target, PATIENCE);
        let near_end = near.netns().enter(connect).unwrap().unwrap();
        let (far_end, _) = listener.accept().unwrap();
        for end in [&near_end, &far_end] {
            end.set_nonblocking(true).unwrap();
            end.set_nodelay(true).unwrap();
        }
        let pods = [near, far].map(Namespace::path);
        Self(std::thread::spawn(move || {
            let mut flow = run(&near_end, &far_end, &stop);
            let names = pods.iter().filter_map(|pod| pod.file_name()?.to_str());
            flow.again = names.map(|name| sent_again(name, port)).sum();
            flow
        }))
    }

    pub(super) fn end(self) -> Flow {
        self.0.join().unwrap()
    }
}

/// How many segments this end of the connection has sent again and that were lost, as `ss` tells:
/// `retrans:0/3`, of which `dsack_dups:1` had arrived already, so that they were only overtaken.
fn sent_again(pod: &str, port: u16) -> usize {
    let told = testbed::sh(&format!("ss -N {pod} -tinH '( sport = :{port} or dport = :{port} )'"));
    let sum = |name: &str| -> usize {
        let number = |word: &str| -> Option<usize> {
            word.strip_prefix(name)?.rsplit('/').next()?.parse().ok()
        };
        told.split_whitespace().filter_map(number).sum()
    };
    sum("retrans:").saturating_sub(sum("dsack_dups:"))
}

fn run(mut near: &TcpStream, mut far: &TcpStream, stop: &AtomicBool) -> Flow {
    let mut flow = Flow { written: 0, back: 0, again: 0, pause: Duration::ZERO, broken: None };
    let (mut buffer, mut echo) = ([0; 16 * 1024], Vec::new());
    let (mut last, mut end) = (Instant::now(), None);
    let text: Vec<u8> = (0..=250).cycle().take(251 * 4).collect();
    loop {
        let now = Instant::now();
        match (stop.load(Ordering::Relaxed), end) {
            (false, _) => {
                let from = flow.written % 251;
                flow.written += moved(near.write(&text[from..from + RECORD]), &mut flow.broken);
            }
            (true, None) => end = Some(now + PATIENCE),
            (true, Some(_)) => {}
        }
        while now.elapsed() < PACE {
            let length = moved(far.read(&mut buffer), &mut flow.broken);
            echo.extend_from_slice(&buffer[..length]);
            let length = moved(far.write(&echo), &mut flow.broken);
            echo.drain(..length);
            let length = moved(near.read(&mut buffer), &mut flow.broken);
            for byte in &buffer[..length] {
                if usize::from(*byte) != flow.back % 251 {
                    flow.broken = Some(format!("byte {} is {byte}", flow.back));
                }
                flow.back += 1;
            }
            if length > 0 {
                flow.pause = flow.pause.max(last.elapsed());
                last = Instant::now();
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        let is_over = end.is_some_and(|end| flow.back == flow.written || now >= end);
        if is_over || flow.broken.is_some() {
            return flow;
        }
    }
}

/// How many bytes were moved; none where that has to wait.
fn moved(result: std::io::Result<usize>, broken: &mut Option<String>) -> usize {
    match result {
        Ok(length) => length,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => {
            *broken = Some(error.to_string());
            0
        }
    }
}
