//! `static`: gives a pod the addresses that somebody has written down for it. It reserves nothing,
//! so it has nothing to free.

use std::net::IpAddr;

use cni::args::Args;
use cni::fields::{Cidr, Ip, optional_ip};
use cni::{CniResult, Dns, Error, IpConfig, Plugin, Request, Route, Version, json};
use serde::Deserialize;

use crate::check::fail;
use crate::interface;

/// The `static` plugin.
#[derive(Clone, Copy, Debug)]
pub struct Static;

impl Plugin for Static {
    fn name(&self) -> &str {
        "static"
    }

    fn build_version(&self) -> &str {
        crate::BUILD
    }

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        let Config { ips, routes, dns } = Config::load(request)?;
        if !request.version.can_express(!ips.is_empty()) {
            return Err(Error::internal("cannot convert: no valid IP addresses"));
        }
        Ok(CniResult { interfaces: Vec::new(), ips, routes, dns })
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        check(request)
    }

    /// A configuration that became invalid since ADD keeps no pod from going.
    fn del(&self, _request: &Request) -> Result<(), Error> {
        Ok(())
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        Config::load(request).map(drop)
    }
}

/// CHECK: every address that is configured is one of the interface's, with its gateway if it has one.
fn check(request: &Request) -> Result<(), Error> {
    let config = Config::load(request)?;
    let previous =
        request.prev_result()?.ok_or_else(|| fail("Required prevResult missing".to_owned()))?;
    let ifname = &request.ifname;
    for IpConfig { address, gateway, .. } in &config.ips {
        let is_this =
            |ip: &IpConfig| ip.address == *address && (gateway.is_none() || ip.gateway == *gateway);
        if !interface::own_ips(&previous, ifname).any(is_this) {
            let address = address.addr();
            let text = format!("static: Failed to match addr {address} on interface {ifname}");
            let remedy = "prevResult has no such address with this prefix and gateway: the \
                          configuration has changed since ADD";
            return Err(fail(text).with_details(remedy));
        }
    }
    Ok(())
}

/// The part of a configuration that this plugin reads, from the source that counts.
struct Config {
    ips: Vec<IpConfig>,
    routes: Vec<Route>,
    dns: Dns,
}

impl Config {
    /// Reads and checks in the reference's order, which decides what is reported first if more than
    /// one thing is wrong. `args.cni.ips` stands in place of the configuration and of `CNI_ARGS`, and
    /// `runtimeConfig.ips` in place of all.
    fn load(request: &Request) -> Result<Self, Error> {
        let document: Document = json::from_value(&request.document).map_err(Error::internal)?;
        let ipam =
            document.ipam.ok_or_else(|| Error::internal("IPAM config missing 'ipam' key"))?;
        let from_args = from_args(&request.args)?;
        let given = [document.runtime_config.ips, document.args.cni.ips];
        let given = given.map(|ips| ips.iter().map(|ip| bare(ip)).collect::<Result<Vec<_>, _>>());
        let [from_runtime, from_cni] = given;
        let (from_cni, from_runtime) = (from_cni?, from_runtime?);
        let ips = if !from_runtime.is_empty() {
            from_runtime
        } else if !from_cni.is_empty() {
            from_cni
        } else {
            let configured: Result<Vec<_>, _> = ipam.addresses.iter().map(Address::parse).collect();
            configured?.into_iter().chain(from_args).collect()
        };
        let of_family = |v4| ips.iter().filter(|ip| ip.address.addr().is_ipv4() == v4).count();
        if request.version < Version::V0_3_0 && (of_family(true) > 1 || of_family(false) > 1) {
            return Err(Error::internal(format!(
                "CNI version {} does not support more than 1 address per family",
                request.network.cni_version
            )));
        }
        Ok(Self { ips, routes: ipam.routes, dns: ipam.dns })
    }
}

/// `CNI_ARGS`: the addresses of `IP`, each with the last gateway of `GATEWAY` that is in its subnet.
fn from_args(args: &str) -> Result<Vec<IpConfig>, Error> {
    let args = Args::parse(args, &["IP", "GATEWAY"]).map_err(Error::internal)?;
    let items = |key| {
        args.get(key).filter(|list| !list.is_empty()).into_iter().flat_map(|list| list.split(','))
    };
    let mut ips = Vec::new();
    for item in items("IP") {
        let item = item.trim();
        ips.push(ip(item).ok_or_else(|| {
            Error::internal(format!(
                "the 'ip' field is expected to be in CIDR notation, got: '{item}'"
            ))
        })?);
    }
    for item in items("GATEWAY") {
        let gateway = item.trim().parse().map(|Ip(ip)| ip);
        let gateway: IpAddr =
            gateway.map_err(|_| Error::internal(format!("invalid gateway address: {item}")))?;
        for ip in ips.iter_mut().filter(|ip| ip.address.contains(&gateway)) {
            ip.gateway = Some(gateway);
        }
    }
    Ok(ips)
}

/// An address of one of the lists without gateways.
fn bare(text: &str) -> Result<IpConfig, Error> {
    ip(text).ok_or_else(|| {
        Error::internal(format!(
            "an entry in the 'ips' field is NOT in CIDR notation, got: '{text}'"
        ))
    })
}

fn ip(text: &str) -> Option<IpConfig> {
    let address = text.parse().map(|Cidr(address)| address).ok()?;
    Some(IpConfig { interface: None, address, gateway: None })
}

/// The document of the network, which an IPAM plugin gets as a whole.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Document {
    ipam: Option<Ipam>,
    runtime_config: Ips,
    args: Arguments,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ipam {
    addresses: Vec<Address>,
    routes: Vec<Route>,
    dns: Dns,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Address {
    address: String,
    #[serde(deserialize_with = "optional_ip")]
    gateway: Option<IpAddr>,
}

impl Address {
    fn parse(&self) -> Result<IpConfig, Error> {
        let Self { address, gateway } = self;
        let parsed = ip(address).ok_or_else(|| {
            Error::internal(format!(
                "the 'address' field is expected to be in CIDR notation, got: '{address}'"
            ))
        })?;
        Ok(IpConfig { gateway: *gateway, ..parsed })
    }
}

/// `args`, where the key `cni` is by convention for all plugins.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Arguments {
    cni: Ips,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ips {
    ips: Vec<String>,
}
