//! How long it takes to write and to read thousands of peers, and to be told of them, beside the time
//! that the kernel itself takes for the same messages. In a namespace of its own, because it writes
//! where it runs: `unshare -n target/release/examples/many`, as root, to whom the kernel gives the room
//! in which all events can wait.

use std::error::Error;
use std::time::{Duration, Instant};

use kernel::{Kernel, Monitor, Notice, OnError, Query};
use net::{
    Change, Encap, Link, LinkName, Mac, Neighbour, Networks, Object, Plan, Route, Space, Step,
    Vxlan, VxlanForm,
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketType, netlink::SocketAddrNetlink, recv, sendto,
    socket,
};

const PEERS: u16 = 5000;
const TURNS: usize = 7;

fn main() -> Result<(), Box<dyn Error>> {
    let mut kernel = Kernel::new()?;
    let links = kernel.dump(&Space::Here)?.links;
    if links.values().any(|link| link.name != "lo") {
        return Err("this namespace has devices: run it in one of its own".into());
    }
    let name: LinkName = "ext0".parse()?;
    let form = VxlanForm::External { gpe: false, filtered: false };
    let device = Link::vxlan(name.clone(), Vxlan { port: 8472, form }).up();
    // Without any address of its own a namespace takes no next hop for one that can be reached.
    let lo = Link::existing("lo".parse()?).up();
    let devices = [step(Change::Ensure(lo.into())), step(Change::Create(device.into()))];
    apply(&mut kernel, &devices, OnError::Undo)?;
    let index = kernel.link(&Space::Here, &name)?.ok_or("the device is gone")?.index;

    let routes: Vec<Route> = (0..PEERS).map(|n| route(&name, n)).collect();
    let create = |it: &Route| step(Change::Create(it.clone().into()));
    let plan: Plan = routes.iter().map(create).collect();
    let back = net::undo(&plan);
    let (mut raw, mut together, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let start = Instant::now();
        send_raw(index)?;
        raw.push(start.elapsed());
        apply(&mut kernel, &back, OnError::Continue)?;
        together.push(apply(&mut kernel, &plan, OnError::Continue)?);
        apply(&mut kernel, &back, OnError::Continue)?;
        alone.push(apply(&mut kernel, &plan, OnError::Stop)?);
        apply(&mut kernel, &back, OnError::Continue)?;
    }
    tell("routes sent raw", raw);
    tell("routes applied together", together);
    tell("routes applied one by one", alone);

    let neighbours: Plan = (0..PEERS).map(|n| step(Change::Create(neighbour(&name, n)))).collect();
    let mut monitor = Monitor::new(&Space::Here)?;
    let mut times = Vec::new();
    let mut told = 0;
    for _ in 0..TURNS {
        apply(&mut kernel, &net::undo(&neighbours), OnError::Continue)?;
        apply(&mut kernel, &back, OnError::Continue)?;
        while monitor.next(Some(Instant::now()))?.is_some() {}
        apply(&mut kernel, &plan, OnError::Continue)?;
        apply(&mut kernel, &neighbours, OnError::Continue)?;
        let start = Instant::now();
        told = 0;
        while let Some(notice) = monitor.next(Some(start))? {
            if notice == Notice::Lost {
                return Err("there was no room for all events".into());
            }
            told += 1;
        }
        times.push(start.elapsed());
    }
    tell(&format!("{told} events told"), times);
    let routes =
        Query::Routes { protocol: 112, by: vec![name.clone()], within: Networks::default() };
    for query in [Query::On(name), routes] {
        let mut times = Vec::new();
        let mut seen = Vec::new();
        for _ in 0..TURNS {
            let start = Instant::now();
            seen = kernel.observe(&Space::Here, &query)?;
            times.push(start.elapsed());
        }
        tell(&format!("{} objects read", seen.len()), times);
    }
    Ok(())
}

fn step(change: Change) -> Step {
    Step::new(&Space::Here, change, "is one of many")
}

fn apply(kernel: &mut Kernel, plan: &[Step], on_error: OnError) -> kernel::Result<Duration> {
    let start = Instant::now();
    kernel.apply(plan, on_error).into_result()?;
    Ok(start.elapsed())
}

fn tell(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let middle = times[times.len() / 2].as_secs_f64() * 1e3;
    println!("{what:28} {middle:8.2} ms (least {:.2})", times[0].as_secs_f64() * 1e3);
}

fn numbers(n: u16) -> [u8; 2] {
    n.to_be_bytes()
}

/// The kernel finds the next hops of IPv4 routes by device, writer and metric: those of thousands of
/// routes that differ in none of these are one long list, each time walked to its end.
fn metric(n: u16) -> u32 {
    1 + u32::from(n % 256)
}

fn route(link: &LinkName, n: u16) -> Route {
    let [high, low] = numbers(n);
    let net = ipnet::Ipv4Net::new_assert([10, high, low, 0].into(), 24);
    Route {
        encap: Some(Encap { vni: 1, to: [172, 16, high, low].into(), checksum: false }),
        gateway: Some([10, high, low, 0].into()),
        link: Some(link.clone()),
        metric: Some(metric(n)),
        onlink: true,
        protocol: 112,
        ..Route::new(net.into())
    }
}

fn neighbour(link: &LinkName, n: u16) -> Object {
    let [high, low] = numbers(n);
    let address = [10, high, low, 0].into();
    let mac = Mac([2, 0, 0, 0, high, low]);
    Neighbour { link: link.clone(), address, mac, protocol: 112 }.into()
}

/// The same routes, from bytes that are put together without any objects, as few system calls as
/// podwire makes.
fn send_raw(index: u32) -> Result<(), Box<dyn Error>> {
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    let kernel = SocketAddrNetlink::new(0, 0);
    let mut answer = [0; 4096];
    let mut bytes = Vec::new();
    for (at, n) in (0..PEERS).enumerate() {
        push_route(&mut bytes, index, n);
        if (at + 1) % 64 == 0 || at + 1 == usize::from(PEERS) {
            sendto(&socket, &bytes, SendFlags::empty(), &kernel)?;
            for _ in 0..=at % 64 {
                recv(&socket, &mut answer[..], RecvFlags::empty())?;
                if answer[16..20] != [0; 4] {
                    return Err(format!("a raw message was refused: {:?}", &answer[16..20]).into());
                }
            }
            bytes.clear();
        }
    }
    Ok(())
}

/// `RTM_NEWROUTE` with `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_CREATE` and `NLM_F_APPEND`.
fn push_route(bytes: &mut Vec<u8>, index: u32, n: u16) {
    let [high, low] = numbers(n);
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&24u16.to_ne_bytes());
    bytes.extend_from_slice(&0x0c05u16.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[2, 24, 0, 0, 254, 112, 0, 1]);
    bytes.extend_from_slice(&4u32.to_ne_bytes());
    let mut put = |kind: u16, value: &[u8]| {
        bytes.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    };
    put(1, &[10, high, low, 0]);
    put(4, &index.to_ne_bytes());
    put(5, &[10, high, low, 0]);
    put(6, &metric(n).to_ne_bytes());
    put(21, &2u16.to_ne_bytes());
    let mut tunnel = Vec::from([12, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    tunnel.extend_from_slice(&[8, 0, 2, 0, 172, 16, high, low]);
    put(22 | 0x8000, &tunnel);
    let length = (bytes.len() - start) as u32;
    bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}
