//! Packets between two pods, all the while something happens.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use testbed::Namespace;

use super::stream::{Flow, Stream};

/// One packet there and back in this time.
pub(super) const PACE: Duration = Duration::from_millis(2);

/// Two pods, each with its address, and the port at which they speak.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) near: (&'a Namespace, IpAddr),
    pub(super) far: (&'a Namespace, IpAddr),
    pub(super) port: u16,
}

pub(super) struct Traffic {
    stop: Arc<AtomicBool>,
    arrived: Arc<AtomicUsize>,
    sender: JoinHandle<Vec<Packet>>,
    stream: Stream,
}

#[derive(Clone, Copy)]
struct Packet {
    sent: Instant,
    back: bool,
}

/// What became of the packets, and of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) sent: usize,
    pub(super) lost: usize,
    /// The longest time without any that arrived.
    pub(super) outage: Duration,
    pub(super) flow: Flow,
}

impl Traffic {
    /// From now on, packets go from one pod to the other and back, and bytes by one connection.
    pub(super) fn start(pair: &Pair<'_>) -> Self {
        let port = pair.port;
        let open = |(space, address): (&Namespace, IpAddr)| {
            let socket = space.netns().enter(|| UdpSocket::bind((address, port))).unwrap().unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let (near, far) = (open(pair.near), open(pair.far));
        let target = SocketAddr::new(pair.far.1, port);
        let (stop, arrived) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let stream = Stream::start(pair, stop.clone());
        let (stopped, count) = (stop.clone(), arrived.clone());
        let sender = std::thread::spawn(move || run(&near, &far, target, &stopped, &count));
        Self { stop, arrived, sender, stream }
    }

    /// Waits until another packet has arrived, or for `patience`.
    pub(super) fn wait_for_one(&self, patience: Duration) {
        let (begin, before) = (Instant::now(), self.arrived.load(Ordering::Relaxed));
        while self.arrived.load(Ordering::Relaxed) == before && begin.elapsed() < patience {
            std::thread::sleep(PACE);
        }
    }

    pub(super) fn stop(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let packets = self.sender.join().unwrap();
        let lost = packets.iter().filter(|packet| !packet.back).count();
        let mut outage = Duration::ZERO;
        let mut last = packets.first().map(|packet| packet.sent);
        for packet in packets.iter().filter(|packet| packet.back) {
            let gap = last.map(|last| packet.sent - last).unwrap_or_default();
            outage = outage.max(gap.saturating_sub(PACE));
            last = Some(packet.sent);
        }
        if let (Some(last), Some(end)) = (last, packets.last()) {
            outage = outage.max(end.sent - last);
        }
        Outcome { sent: packets.len(), lost, outage, flow: self.stream.end() }
    }
}

fn run(
    near: &UdpSocket,
    far: &UdpSocket,
    target: SocketAddr,
    stop: &AtomicBool,
    arrived: &AtomicUsize,
) -> Vec<Packet> {
    let mut packets: Vec<Packet> = Vec::new();
    let mut buffer = [0; 64];
    let mut last_call = None;
    loop {
        let now = Instant::now();
        match (stop.load(Ordering::Relaxed), last_call) {
            (false, _) => {
                // What cannot be sent is lost.
                let _ = near.send_to(&(packets.len() as u32).to_be_bytes(), target);
                packets.push(Packet { sent: now, back: false });
            }
            (true, None) => last_call = Some(now + Duration::from_millis(200)),
            (true, Some(end)) if now >= end => return packets,
            (true, Some(_)) => {}
        }
        while now.elapsed() < PACE {
            while let Ok((length, sender)) = far.recv_from(&mut buffer) {
                let _ = far.send_to(&buffer[..length], sender);
            }
            while let Ok((4, _)) = near.recv_from(&mut buffer) {
                let number = u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
                if let Some(packet) = packets.get_mut(number as usize) {
                    packet.back = true;
                    arrived.fetch_add(1, Ordering::Relaxed);
                }
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}
