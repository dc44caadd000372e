//! All pods of a node ask each other by all protocols, as `podwire verify` has them do.
//!
//! `meetings ROUNDS SIZE…` makes pods on one bridge, where each pair of them takes two entries of the
//! machine's table of neighbours, and prints a line of JSON for each size. It makes them in the
//! namespaces for network and mounts that it is started in, which are to be its own.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use kernel::Netns;
use probe::{Ask, Limits, Place, Protocol, Shape, meet_watched};
use serde_json::json;
use testbed::sh;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<usize> =
        std::env::args().skip(1).map(|it| it.parse()).collect::<Result<_, _>>()?;
    let [rounds, sizes @ ..] = &arguments[..] else {
        return Err("usage: meetings ROUNDS SIZE…".into());
    };
    sh("mount -t tmpfs bench /run; ip link set lo up
        ip link add cni0 type bridge; ip addr add 10.1.0.1/16 dev cni0; ip link set cni0 up");
    kernel::prepare_directory(Path::new(net::NAMED))?;
    let mut pods = Vec::new();
    for size in sizes {
        while pods.len() < *size {
            pods.push(pod(pods.len())?);
        }
        let places: Vec<Place<'_>> = pods[..*size]
            .iter()
            .enumerate()
            .map(|(number, netns)| Place { netns, address: address(number).into() })
            .collect();
        let mut asks = Vec::new();
        for from in 0..*size {
            for to in (0..*size).filter(|to| *to != from) {
                for protocol in [Protocol::Icmp, Protocol::Udp, Protocol::Tcp] {
                    asks.push(Ask { from, to, protocol, shape: Shape::default() });
                }
            }
        }
        let refused = || kernel::neighbour_fill(false).map(|fill| fill.refused);
        let dropped = || kernel::backlog().map(|backlog| backlog.dropped);
        let before = (refused(), dropped());
        let (mut times, mut processor, mut most, mut failed) =
            (Vec::new(), Vec::new(), 0, Vec::new());
        for round in 0..*rounds {
            let (start, used) = (Instant::now(), used());
            let limits = Limits { audience: *size, ..Limits::default() };
            let met = meet_watched(&places, &asks, limits, round as u64, &mut |_| true);
            times.push(start.elapsed());
            processor.push(self::used() - used);
            most = most.max(met.most_neighbours);
            failed.extend(met.answers.into_iter().filter_map(Result::err).map(|it| it.to_string()));
        }
        times.sort();
        processor.sort();
        let millis = |times: &[Duration]| times[times.len() / 2].as_secs_f64() * 1e3;
        let overflows = refused().zip(before.0).map(|(after, before)| after - before);
        let drops = dropped().zip(before.1).map(|(after, before)| after - before);
        let line = json!({
            "pods": size, "questions": asks.len(), "milliseconds": millis(&times),
            "bestMilliseconds": times[0].as_secs_f64() * 1e3,
            "processorMilliseconds": millis(&processor), "mostNeighbours": most,
            "overflows": overflows, "drops": drops, "failed": failed.len(), "failure": failed.first(),
        });
        println!("{line}");
    }
    Ok(())
}

fn address(number: usize) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from(0x0a01_0002 + number as u32)
}

fn pod(number: usize) -> Result<Netns, Box<dyn Error>> {
    let netns = Netns::create(&Path::new(net::NAMED).join(format!("p{number}")))?;
    let address = address(number);
    sh(&format!(
        "ip link add v{number} type veth peer name eth0 netns p{number}
         ip link set v{number} master cni0 up
         ip -n p{number} addr add {address}/16 dev eth0
         ip -n p{number} link set eth0 up
         ip -n p{number} route add default via 10.1.0.1"
    ));
    Ok(netns)
}

/// The processors' time that this process has taken.
fn used() -> Duration {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(clock.tv_sec as u64, clock.tv_nsec as u32)
}
