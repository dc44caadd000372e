//! What every plugin with an interface in the pod does alike: addresses, routes, settings.

use std::net::IpAddr;

use cni::{CniResult, Error, IpConfig};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kernel::{ErrorKind, Kernel};
use net::{Address, Change, Link, LinkName, Plan, Route, Scope, Space, Step, Sysctl};

/// How long duplicate address detection may take.
const DETECTION_MILLIS: u32 = 5000;

/// What is at the far end of a pod's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FarEnd {
    /// A segment with others on it, who are told where an address lives now, and who can be asked
    /// whether one of them has it already.
    Segment {
        /// IPv6 addresses are used only after nobody else has claimed them.
        detect_duplicates: bool,
    },
    /// The node and nobody else.
    Node,
}

/// Opens the pod's namespace, with the reference's words if that cannot be done.
pub(crate) fn open_netns(kernel: &mut Kernel, space: &Space) -> Result<(), Error> {
    kernel.open(space).map_err(|error| {
        let path = match space {
            Space::At(path) => path.display().to_string(),
            Space::Here => String::new(),
        };
        let text = error.to_string();
        let opening = format!("open network namespace {path}: ");
        let cause = match (error.kind(), text.strip_prefix(&opening)) {
            (ErrorKind::NotFound, Some(cause)) => format!("failed to Statfs {path:?}: {cause}"),
            (_, Some(cause)) => cause.to_owned(),
            _ => text,
        };
        let remedy = "CNI_NETNS must be the path of a network namespace that is there, such as \
                      /run/netns/NAME or /proc/PID/ns/net";
        Error::internal(format!("failed to open netns {path:?}: {cause}")).with_details(remedy)
    })
}

/// The steps that give the pod's interface, which is there and down, its settings and addresses, and
/// bring it up.
///
/// Addresses come before the link is up, so that the pod never sees itself without them; IPv6 is
/// switched on first, because container runtimes like to switch it off.
pub(crate) fn bring_up(space: &Space, name: &LinkName, ips: &[IpConfig], far_end: FarEnd) -> Plan {
    let mut plan = Plan::new();
    let mut step = |change, why| plan.push(Step::new(space, change, why));
    let v6 = ips.iter().any(|ip| ip.address.addr().is_ipv6());
    let is_segment = far_end != FarEnd::Node;
    let detect_duplicates = far_end == FarEnd::Segment { detect_duplicates: true };
    let (accept, enhanced) = if detect_duplicates { ("1", Some("1")) } else { ("0", None) };
    let set = |key: String, value: &str| Change::Ensure(Sysctl::nicety(key, value).into());
    if let Some(enhanced) = enhanced {
        step(set(format!("net/ipv6/conf/{name}/enhanced_dad"), enhanced), "notices its own echoes");
    }
    step(
        set(format!("net/ipv6/conf/{name}/accept_dad"), accept),
        "lets IPv6 addresses be used at once, since they were reserved for this pod",
    );
    let why = "has the kernel tell neighbours where the address lives";
    if is_segment {
        step(set(format!("net/ipv4/conf/{name}/arp_notify"), "1"), why);
    }
    if is_segment && v6 {
        step(set(format!("net/ipv6/conf/{name}/ndisc_notify"), "1"), why);
    }
    if v6 {
        for link in ["lo", name.as_str()] {
            let on = Sysctl::new(format!("net/ipv6/conf/{link}/disable_ipv6"), "0");
            step(Change::Ensure(on.into()), "switches IPv6 on");
        }
        let keep = Sysctl::new(format!("net/ipv6/conf/{name}/keep_addr_on_down"), "1");
        step(Change::Ensure(keep.into()), "keeps IPv6 addresses when the link goes down");
    }
    for ip in ips {
        // Otherwise it is tentative until the kernel has told of the carrier, which may be after the
        // plugin has answered.
        let nodad = !detect_duplicates && ip.address.addr().is_ipv6();
        let address = Address { nodad, ..Address::new(name.clone(), ip.address) };
        step(Change::Create(address.into()), "gives the pod its address");
    }
    step(plug_in(name), "plugs the cable in");
    if detect_duplicates && first_gateway(ips, false).is_some() {
        let (link, addresses) = (name.clone(), Vec::new());
        let wait = net::Action::WaitAddresses { link, addresses, millis: DETECTION_MILLIS };
        step(Change::Act(wait), "waits until nobody has claimed the address");
    }
    plan
}

/// The steps that give the pod's interface, which is up, the routes of a result.
pub(crate) fn routes(space: &Space, name: &LinkName, result: &CniResult) -> Plan {
    let mut routes = Vec::new();
    for route in &result.routes {
        let scope = route.scope.map(Scope::from_number);
        let default = || {
            first_gateway(&result.ips, route.dst.addr().is_ipv4()).filter(|_| !is_on_link(route))
        };
        let wanted = Route {
            gateway: route.gw.or_else(default),
            link: Some(name.clone()),
            metric: some(route.priority),
            table: route.table.unwrap_or(net::MAIN_TABLE),
            scope,
            mtu: some(route.mtu),
            advmss: some(route.advmss),
            ..Route::new(route.dst)
        };
        // `isDefaultGateway` beside a default route of IPAM without a gateway is the same route twice.
        if !routes.contains(&wanted) {
            routes.push(wanted);
        }
    }
    let create = |route: Route| Change::Create(route.into());
    let step = |route| Step::new(space, create(route), "shows the pod the way out");
    routes.into_iter().map(step).collect()
}

/// Whether a route of a result leads to what is on the link itself.
pub(crate) fn is_on_link(route: &cni::Route) -> bool {
    route.scope.map(Scope::from_number).is_some_and(|scope| scope != Scope::Universe)
}

/// The gateway of a family, which is meant where a route names none.
fn first_gateway(ips: &[IpConfig], v4: bool) -> Option<IpAddr> {
    ips.iter().filter_map(|ip| ip.gateway).find(|gateway| gateway.is_ipv4() == v4)
}

/// Whether an address of this subnet can have that gateway. What a pod sends to a loopback address
/// never leaves it.
pub(crate) fn can_be_gateway(gateway: IpAddr, address: IpNet) -> bool {
    let is_host = !gateway.is_unspecified() && !gateway.is_loopback() && !gateway.is_multicast();
    gateway.is_ipv4() == address.addr().is_ipv4() && is_host
}

/// Brings an interface up that was made in the same plan, and so is down.
pub(crate) fn plug_in(name: &LinkName) -> Change {
    let down = Link { up: Some(false), ..Link::existing(name.clone()) };
    Change::replace(down.clone(), down.up())
}

/// The first host address of a subnet, which is the gateway where none is given.
pub(crate) fn first_host(subnet: IpNet) -> IpAddr {
    match subnet {
        IpNet::V4(v4) => std::net::Ipv4Addr::from(u32::from(v4.network()).wrapping_add(1)).into(),
        IpNet::V6(v6) => std::net::Ipv6Addr::from(u128::from(v6.network()).wrapping_add(1)).into(),
    }
}

/// Whether a network is of one address only.
pub(crate) fn is_single(net: IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

/// Everything of one family.
pub(crate) fn everywhere(v4: bool) -> IpNet {
    if v4 { Ipv4Net::default().into() } else { Ipv6Net::default().into() }
}

/// The addresses of a result, without their prefixes.
pub(crate) fn addresses(ips: &[IpConfig]) -> Vec<IpAddr> {
    ips.iter().map(|ip| ip.address.addr()).collect()
}

/// The addresses of a result that are on the pod's interface, and not on one that another plugin of
/// the chain has added.
pub(crate) fn own_ips<'a>(
    result: &'a CniResult,
    ifname: &'a str,
) -> impl Iterator<Item = &'a IpConfig> {
    result.ips.iter().filter(move |ip| {
        let interface = ip.interface.and_then(|index| result.interfaces.get(index));
        interface.is_none_or(|interface| interface.name == ifname)
    })
}

fn some(number: u32) -> Option<u32> {
    (number != 0).then_some(number)
}
