//! `host-local`: gives out addresses of ranges, and remembers them in files on this node.
//!
//! The configuration, the files and the messages are those of the reference plugin of that name,
//! so that either can go on where the other has stopped. The work is done by [`ipam`]; here a
//! request becomes a question to it, and its answer a result.
//!
//! The five functions are the plugin's commands. A main plugin whose delegate is this very binary
//! calls them with its own request, since an IPAM plugin reads the same document.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use cni::fields::{Cidr, Ip, optional_ip};
use cni::{CniResult, Dns, Error, IpConfig, Plugin, Request, Route, Version, args, json};
use ipam::{Collected, Holder, Lease, Owner, RangeSet, RangeSpec, Store, resolv};
use kernel::Kernel;
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::{alive, reservations};

/// The plugin, as the multi-call binary knows it.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostLocal;

impl Plugin for HostLocal {
    fn name(&self) -> &'static str {
        "host-local"
    }

    fn build_version(&self) -> &'static str {
        crate::BUILD
    }

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        add(request)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        check(request)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        del(request)
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        let mut kernel = Kernel::new().map_err(Error::internal)?;
        let alive = |holder: &Holder| alive::spare(&mut kernel, &request.network.name, holder);
        gc(request, alive).map(drop)
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        status(request)
    }
}

/// `ADD`: reserves one address of each range set.
pub fn add(request: &Request) -> Result<CniResult, Error> {
    let config = Config::load(request)?;
    let dns = if config.resolv_conf.as_os_str().is_empty() {
        Dns::default()
    } else {
        dns(resolv::load(&config.resolv_conf).map_err(failed)?)
    };
    let leases = store(request, config.place)
        .reserve(&config.sets, &config.requested, &owner(request))
        .map_err(failed)?;
    let ip =
        |Lease { address, gateway }| IpConfig { interface: None, address, gateway: Some(gateway) };
    let ips = leases.into_iter().map(ip).collect();
    Ok(CniResult { interfaces: Vec::new(), ips, routes: config.routes, dns })
}

/// `CHECK`: the attachment has some address. Which one is the main plugin's business, which knows
/// the interface.
pub fn check(request: &Request) -> Result<(), Error> {
    let config = Config::load(request)?;
    let found = store(request, config.place).find(&owner(request)).map_err(failed)?;
    if found.is_empty() {
        return Err(Error::internal(format_args!(
            "host-local: Failed to find address added by container {}",
            request.container_id
        )));
    }
    Ok(())
}

/// `DEL`: frees every address of the attachment.
///
/// Of the configuration it needs only the place of the files, so that ranges which have become
/// invalid, or requests that were never valid, cannot keep a container from being deleted.
pub fn del(request: &Request) -> Result<(), Error> {
    let store = store(request, place(request)?);
    store.release(&owner(request)).map(drop).map_err(failed)
}

/// `GC`: frees the addresses of all attachments that are not valid, except for those that `alive`
/// vouches for, and the files that a crash has left empty. Without a list of valid attachments
/// nothing is changed.
pub fn gc(request: &Request, alive: impl FnMut(&Holder) -> bool) -> Result<Collected, Error> {
    let Some(valid) = request.network.valid_attachments.known() else {
        return Ok(Collected::default());
    };
    let owner = |attachment: &cni::Attachment| Owner {
        id: attachment.container_id.clone(),
        ifname: attachment.ifname.clone(),
    };
    let valid: Vec<_> = valid.iter().map(owner).collect();
    store(request, place(request)?).gc(&valid, alive).map_err(failed)
}

/// `STATUS`: every range set has an address left, and it could be written down.
pub fn status(request: &Request) -> Result<(), Error> {
    let config = Config::load(request)?;
    let store = store(request, config.place);
    let unavailable = |error: ipam::Error| {
        Error::not_available(error.to_string()).with_details(error.remedy().unwrap_or_default())
    };
    store.check_writable().map_err(unavailable)?;
    match store.exhausted(&config.sets).map_err(unavailable)? {
        None => Ok(()),
        Some(set) => {
            Err(unavailable(ipam::Error::Exhausted(set.to_string())).with_details(format!(
                "all addresses are reserved in {}: widen the range, or let DEL or GC free those of \
                 containers that are gone",
                store.path().display()
            )))
        }
    }
}

/// What a configuration says about addresses while nobody asks for one.
#[derive(Debug)]
pub struct Pool {
    /// The range sets, without those that a runtime adds.
    pub sets: Vec<RangeSet>,
    /// Where the reservations are; `None` for the default place.
    pub data_dir: Option<PathBuf>,
    /// Where their index is; `None` for the default place.
    pub index_dir: Option<PathBuf>,
}

/// Reads the configuration of a plugin whose `ipam` is `host-local`; `None` if it is another's.
pub fn pool(document: &Value) -> Option<Result<Pool, Error>> {
    let is_ours = |network: &cni::NetworkConfig| network.ipam.plugin_type == HostLocal.name();
    json::from_value(document).ok().filter(is_ours)?;
    let read = || {
        let Document { ipam, runtime_config, .. } =
            json::from_value(document).map_err(Error::internal)?;
        let InIpam { ipam: single } = json::from_value(document).map_err(Error::internal)?;
        let ipam = ipam.unwrap_or_default();
        Ok(Pool {
            sets: range_sets(runtime_config.ip_ranges, single, ipam.ranges)?,
            data_dir: given(ipam.data_dir),
            index_dir: given(ipam.index_dir),
        })
    };
    Some(read())
}

/// What `ADD`, `CHECK` and `STATUS` need of a configuration.
#[derive(Debug)]
struct Config {
    sets: Vec<RangeSet>,
    /// The requested addresses in the order of precedence.
    requested: Vec<IpAddr>,
    routes: Vec<Route>,
    place: Place,
    /// Empty if no file is named.
    resolv_conf: PathBuf,
}

impl Config {
    /// Reads and checks a configuration in the reference's order, which decides what is reported
    /// first if more than one thing is wrong.
    fn load(request: &Request) -> Result<Self, Error> {
        let document: Document = read(request)?;
        let InIpam { ipam: single } = read::<InIpam<Range>>(request)?;
        let ipam =
            document.ipam.ok_or_else(|| Error::internal("IPAM config missing 'ipam' key"))?;

        let args = args::Args::parse(&request.args, &["IP"]).map_err(Error::internal)?;
        let from_args: Option<Requested> = args.value("IP").map_err(Error::internal)?;
        // Only there an empty address is as good as none.
        let from_args = from_args.filter(|Requested(ip)| ip.is_some());
        let requested = from_args.into_iter().chain(document.args.cni.ips);
        let requested = requested.chain(document.runtime_config.ips).map(|Requested(ip)| ip);
        let nil = || Error::internal("cannot understand ip: IP <nil> not v4 nor v6");
        let requested = requested.map(|ip| ip.ok_or_else(nil)).collect::<Result<_, _>>()?;

        let sets = range_sets(document.runtime_config.ip_ranges, single, ipam.ranges)?;
        let of_family = |v4| sets.iter().filter(|set| set.is_ipv4() == v4).count();
        if request.version < Version::V0_3_0 && (of_family(true) > 1 || of_family(false) > 1) {
            return Err(Error::internal(format_args!(
                "CNI version {} does not support more than 1 address per family",
                request.network.cni_version
            )));
        }
        Ok(Self {
            sets,
            requested,
            routes: ipam.routes,
            place: Place { data_dir: ipam.data_dir, index_dir: ipam.index_dir },
            resolv_conf: ipam.resolv_conf,
        })
    }
}

/// The document of the network, which an IPAM plugin gets as a whole.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Document {
    ipam: Option<Ipam>,
    runtime_config: RuntimeConfig,
    args: Args,
}

/// The plugin's own part, without the single range that may stand in it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Ipam {
    ranges: Vec<Vec<Range>>,
    routes: Vec<Route>,
    data_dir: PathBuf,
    index_dir: PathBuf,
    resolv_conf: PathBuf,
}

/// Another view of that part: a single range, or only the place of the files.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct InIpam<T> {
    ipam: T,
}

/// Where the files are; what is empty is where it is by default.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Place {
    data_dir: PathBuf,
    index_dir: PathBuf,
}

/// One range as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Range {
    subnet: Option<Cidr>,
    #[serde(deserialize_with = "optional_ip")]
    range_start: Option<IpAddr>,
    #[serde(deserialize_with = "optional_ip")]
    range_end: Option<IpAddr>,
    #[serde(deserialize_with = "optional_ip")]
    gateway: Option<IpAddr>,
}

/// `runtimeConfig`: the values of the capabilities `ipRanges` and `ips`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RuntimeConfig {
    ip_ranges: Vec<Vec<Range>>,
    ips: Vec<Requested>,
}

/// `args`, where the key `cni` is by convention for all plugins.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Args {
    cni: CniArgs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CniArgs {
    ips: Vec<Requested>,
}

/// A requested address. A prefix length may follow and is ignored; the empty text is no address,
/// which is reported only after everything has been read.
#[derive(Debug)]
struct Requested(Option<IpAddr>);

impl From<Range> for RangeSpec {
    fn from(range: Range) -> Self {
        let Range { subnet, range_start: start, range_end: end, gateway } = range;
        RangeSpec { subnet: subnet.map(|Cidr(subnet)| subnet), start, end, gateway }
    }
}

impl FromStr for Requested {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ip = if text.contains('/') {
            text.parse().ok().map(|Cidr(net)| net.addr())
        } else {
            text.parse().ok().map(|Ip(ip)| ip)
        };
        match ip {
            None if !text.is_empty() => Err(format!("invalid IP address {text}")),
            ip => Ok(Requested(ip)),
        }
    }
}

impl<'de> Deserialize<'de> for Requested {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.unwrap_or_default().parse().map_err(de::Error::custom)
    }
}

/// Where the files are, read without looking at the rest of the configuration.
fn place(request: &Request) -> Result<Place, Error> {
    Ok(read::<InIpam<Place>>(request)?.ipam)
}

/// Reads a view of the configuration, of which there are several.
fn read<T: DeserializeOwned>(request: &Request) -> Result<T, Error> {
    json::from_value(&request.document).map_err(Error::internal)
}

/// The range sets in their order: the runtime's, the single one, the others.
fn range_sets(
    of_runtime: Vec<Vec<Range>>,
    single: Range,
    others: Vec<Vec<Range>>,
) -> Result<Vec<RangeSet>, Error> {
    // Without a subnet there is no single range, whatever else of it is written.
    let single = single.subnet.is_some().then(|| vec![single]);
    let ranges = of_runtime.into_iter().chain(single).chain(others);
    let specs: Vec<Vec<_>> =
        ranges.map(|set| set.into_iter().map(RangeSpec::from).collect()).collect();
    ipam::range_sets(&specs).map_err(failed)
}

fn store(request: &Request, place: Place) -> Store {
    let Place { data_dir, index_dir } = place;
    reservations::store(&request.network.name, given(data_dir), given(index_dir))
}

/// A path, where one is written.
fn given(path: PathBuf) -> Option<PathBuf> {
    Some(path).filter(|path| !path.as_os_str().is_empty())
}

fn owner(request: &Request) -> Owner {
    Owner { id: request.container_id.clone(), ifname: request.ifname.clone() }
}

fn dns(resolv: resolv::Resolv) -> Dns {
    let resolv::Resolv { nameservers, domain, search, options } = resolv;
    Dns { nameservers, domain, search, options }
}

/// The reference gives no failure a code of its own. What can be done about it goes beside the
/// message, which stays the reference's.
fn failed(error: ipam::Error) -> Error {
    let remedy = error.remedy().unwrap_or_default();
    Error::internal(error).with_details(remedy)
}
