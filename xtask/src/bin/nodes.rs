//! Kubernetes' API of a cluster whose nodes are numbered as the benchmark numbers them.
//!
//! `nodes ADDRESS COUNT` has that many nodes, of which the first is registered and the others are joined
//! already, and one more for each line that it reads. It ends with its input.

use std::error::Error;
use std::io::BufRead;
use std::net::{IpAddr, Ipv4Addr};

use testbed::kubernetes::{Server, large, published, registered};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, count] = &arguments[..] else { return Err("usage: nodes ADDRESS COUNT".into()) };
    let server = Server::start_at(address.parse()?);
    let count: u16 = count.parse()?;
    for number in 1..=count {
        put(&server, number);
    }
    println!("ready");
    for (number, line) in (count + 1..).zip(std::io::stdin().lock().lines()) {
        line?;
        put(&server, number);
    }
    Ok(())
}

fn put(server: &Server, number: u16) {
    let [high, low] = number.to_be_bytes();
    let address = IpAddr::V4(Ipv4Addr::new(172, 16, high, low));
    let (name, subnet) = (format!("n{number:05}"), format!("10.{high}.{low}.0/24"));
    let node = if number == 1 { registered } else { published };
    server.put(large(node(&name, address, &subnet)));
}
