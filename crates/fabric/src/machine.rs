//! What the machine has that the fabric stands on: devices, addresses, the way out.

use std::net::IpAddr;

use ipnet::IpNet;
use net::{Address, Link, LinkName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Code, Config, Family, Node, PerFamily, Problem};

/// The machine as it was seen, apart from what is ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// All devices.
    pub links: Vec<Link>,
    /// All addresses, but for link-local ones.
    pub addresses: Vec<Address>,
    /// The devices of the default routes.
    pub default_routes: PerFamily<LinkName>,
    /// Whether tunnel devices can name the networks that they take (Linux 5.18).
    pub vni_filter: bool,
    /// Whether VXLAN-GPE is sound here: path MTU and receive offload were broken before 6.5.
    pub gpe_sound: bool,
    /// Devices that cut and sum up what is sent through UDP tunnels by themselves
    /// (`tx-udp_tnl-segmentation`).
    pub tunnel_offload: Vec<LinkName>,
    /// Devices whose drivers spoil the checksums of what is sent through tunnels, so that the tunnel
    /// has to make them itself.
    pub spoils_checksums: Vec<LinkName>,
    /// What of other programs may drop what this node forwards, each in a sentence.
    pub droppers: Vec<String>,
}

/// By which device and address a node is reached, in one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Uplink {
    /// The device.
    #[schemars(with = "String")]
    pub link: LinkName,
    /// The largest packet that it takes, in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Our address on it.
    pub address: IpAddr,
    /// The networks that are on its link.
    #[schemars(with = "Vec<String>")]
    pub on_link: Vec<IpNet>,
    /// Why it was chosen, for people.
    pub why: String,
}

impl Machine {
    fn link(&self, name: &LinkName) -> Option<&Link> {
        self.links.iter().find(|link| link.name == *name)
    }

    fn uplink(&self, carrier: &Address, why: String) -> Option<Uplink> {
        let link = self.link(&carrier.link)?;
        let family = Family::of_net(carrier.address);
        let on_link = self.addresses.iter().filter(|address| {
            address.link == carrier.link && Family::of_net(address.address) == family
        });
        Some(Uplink {
            link: link.name.clone(),
            mtu: link.mtu.unwrap_or(1500),
            up: link.up != Some(false),
            address: carrier.address.addr(),
            on_link: on_link.map(|address| address.address.trunc()).collect(),
            why,
        })
    }
}

/// How this node is reached in `family`: by the address that is configured, else by the one that the
/// source has for it, else by the first one of the configured device, else of the default route's.
pub fn choose_uplink(
    config: &Config,
    me: Option<&Node>,
    machine: &Machine,
    family: Family,
) -> Result<Uplink, Problem> {
    let of_family = |address: &&Address| Family::of_net(address.address) == family;
    let carrier =
        |wanted: IpAddr| machine.addresses.iter().find(|address| address.address.addr() == wanted);
    let first_of = |link: &LinkName| {
        machine.addresses.iter().filter(of_family).find(|address| address.link == *link)
    };
    let nowhere = |text: String| Problem::here(Code::NoUplink, text);
    let configured = config.underlay.addresses.iter().find(|it| Family::of(**it) == family);
    let listed = me.and_then(|me| me.addresses.get(family));
    let (found, why) = if let Some(wanted) = configured {
        let found = carrier(*wanted).ok_or_else(|| {
            nowhere(format!(
                "underlay.addresses: no device carries {wanted}; add it or name another"
            ))
        })?;
        (found, "its address is configured".to_owned())
    } else if let Some(link) = &config.underlay.interface {
        let found = first_of(link).ok_or_else(|| {
            nowhere(format!("underlay.interface: {link} is not there or has no {family} address"))
        })?;
        (found, "it is configured".to_owned())
    } else if let Some(wanted) = listed {
        let found = carrier(*wanted).ok_or_else(|| {
            nowhere(format!(
                "no device carries {wanted}, by which the other nodes reach this one; add it, or \
                 correct this node's entry in the source"
            ))
        })?;
        (found, "it carries the address that the source has for this node".to_owned())
    } else {
        let link = machine.default_routes.get(family).ok_or_else(|| {
            nowhere(format!(
                "there is no default route for {family} that would tell by which device other \
                 nodes are reached; set underlay.interface"
            ))
        })?;
        let found = first_of(link).ok_or_else(|| {
            nowhere(format!("{link}, by which the default route leads, has no {family} address"))
        })?;
        (found, "the default route leads by it".to_owned())
    };
    machine.uplink(found, why).ok_or_else(|| nowhere(format!("{} has gone", found.link)))
}

/// Whether an address is one that every IPv6 device has, and that tells nobody from others.
pub(crate) fn is_link_local(address: &Address) -> bool {
    match address.address.addr() {
        IpAddr::V6(address) => address.is_unicast_link_local(),
        IpAddr::V4(_) => false,
    }
}
