//! What the `portmap` plugin is told: its keys and the runtime's port mappings, checked.

use cni::fields::{Cidr, Ip};
use cni::{Code, Error, Request};
use ipnet::IpNet;
use net::nft::Statement;
use serde::Deserialize;

use super::condition;
use crate::interface;

/// The plugin's keys, in types that cannot be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// `runtimeConfig.portMappings`, in the order given.
    pub(crate) mappings: Vec<Mapping>,
    /// `snat` and `masqAll`.
    pub(crate) snat: Snat,
    /// `markMasqBit`, as a mask.
    pub(crate) mark: u32,
    /// `conditionsV4`.
    pub(crate) conditions4: Vec<Statement>,
    /// `conditionsV6`.
    pub(crate) conditions6: Vec<Statement>,
}

/// One host port and where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// Which protocol's ports are meant.
    pub(crate) protocol: Protocol,
    /// The node's addresses at which the port is; `None` for all of them, in both families.
    pub(crate) host: Option<IpNet>,
    /// The port on the node.
    pub(crate) host_port: u16,
    /// The port in the container.
    pub(crate) container_port: u16,
}

/// A protocol with ports: `IPPROTO_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 17,
    /// DCCP.
    Dccp = 33,
    /// SCTP.
    Sctp = 132,
    /// UDP-Lite.
    UdpLite = 136,
}

/// Which connections get the node's address as their source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Snat {
    /// None: the container sees who calls. From its own subnet and from the node's loopback
    /// addresses nobody can, since the answer would not come back this way.
    Never,
    /// Those which would not work otherwise: from the container's subnet, itself included, and from
    /// the node's loopback addresses.
    Hairpin,
    /// All.
    All,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Keys {
    backend: Option<String>,
    snat: bool,
    masq_all: bool,
    mark_masq_bit: Option<i64>,
    external_set_mark_chain: Option<String>,
    conditions_v4: Option<Vec<String>>,
    conditions_v6: Option<Vec<String>>,
    runtime_config: RuntimeConfig,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            backend: None,
            snat: true,
            masq_all: false,
            mark_masq_bit: None,
            external_set_mark_chain: None,
            conditions_v4: None,
            conditions_v6: None,
            runtime_config: RuntimeConfig::default(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RuntimeConfig {
    port_mappings: Vec<Entry>,
}

/// A mapping as the runtime writes it.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Entry {
    host_port: i64,
    container_port: i64,
    protocol: String,
    #[serde(rename = "hostIP")]
    host_ip: String,
}

/// The bit that marks what is to be masqueraded, where the configuration names none.
const MARK_BIT: i64 = 13;

/// The chains by which others masquerade what they are told to. podwire masquerades by itself,
/// which comes to the same.
const MARK_CHAINS: [&str; 2] = ["KUBE-MARK-MASQ", "CNI-HOSTPORT-SETMARK"];

impl Config {
    /// Reads and checks the keys, with the reference's words and in its order.
    pub(crate) fn parse(request: &Request) -> Result<Self, Error> {
        let prefix = "failed to parse config: ";
        let keys: Keys =
            request.config("failed to parse config: failed to parse network configuration")?;
        keys.check().map_err(|error| Error { msg: format!("{prefix}{}", error.msg), ..error })
    }
}

impl Keys {
    fn check(self) -> Result<Config, Error> {
        let refuse = |text: String| Err(Error::internal(text));
        let chain = self.external_set_mark_chain.as_deref();
        if chain.is_some() && self.mark_masq_bit.is_some() {
            return refuse("Cannot specify externalSetMarkChain and markMasqBit".to_owned());
        }
        let bit = self.mark_masq_bit.unwrap_or(MARK_BIT);
        let Some(mark) = u32::try_from(bit).ok().and_then(|bit| 1u32.checked_shl(bit)) else {
            return refuse("MasqMarkBit must be between 0 and 31".to_owned());
        };
        self.check_backend()?;
        if let Some(chain) = chain.filter(|chain| !MARK_CHAINS.contains(chain)) {
            let text = format!(
                "externalSetMarkChain: invalid value {chain:?}: podwire enters no iptables chain"
            );
            let remedy = format!("leave it out, or name one of {}", MARK_CHAINS.join(", "));
            return Err(Error::new(Code::UnsupportedField, text).with_details(remedy));
        }
        let conditions = |key, tokens: Option<&[String]>, v4| {
            condition::parse(tokens.unwrap_or_default(), v4).map_err(|error| {
                Error::new(Code::UnsupportedField, format!("{key}: {error}"))
                    .with_details(condition::GRAMMAR)
            })
        };
        let conditions4 = conditions("conditionsV4", self.conditions_v4.as_deref(), true)?;
        let conditions6 = conditions("conditionsV6", self.conditions_v6.as_deref(), false)?;
        let entries = self.runtime_config.port_mappings.iter().enumerate();
        let mappings = entries
            .map(|(place, entry)| {
                entry.check().map_err(|error| {
                    let details = format!("runtimeConfig.portMappings[{place}]{}", error.details);
                    error.with_details(details)
                })
            })
            .collect::<Result<_, _>>()?;
        let snat = match (self.snat, self.masq_all) {
            (false, _) => Snat::Never,
            (true, false) => Snat::Hairpin,
            (true, true) => Snat::All,
        };
        Ok(Config { mappings, snat, mark, conditions4, conditions6 })
    }

    /// Both back ends mean nftables here, but conditions in the language of the other one are a
    /// mistake, as in the reference.
    fn check_backend(&self) -> Result<(), Error> {
        let backend = match self.backend.as_deref() {
            None => return Ok(()),
            Some(backend @ ("iptables" | "nftables")) => backend,
            Some(other) => return Err(Error::internal(format!("unrecognized backend {other:?}"))),
        };
        let is_iptables =
            |tokens: &[String]| tokens.first().is_some_and(|first| first.starts_with(['-', '!']));
        let foreign = |tokens: &Option<Vec<String>>| {
            let tokens = tokens.as_deref().unwrap_or_default();
            !tokens.is_empty() && is_iptables(tokens) != (backend == "iptables")
        };
        let keys = [
            (
                "externalSetMarkChain",
                backend == "nftables" && self.external_set_mark_chain.is_some(),
            ),
            ("conditionsV4", foreign(&self.conditions_v4)),
            ("conditionsV6", foreign(&self.conditions_v6)),
        ];
        let keys: Vec<&str> =
            keys.into_iter().filter(|(_, is_foreign)| *is_foreign).map(|(key, _)| key).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let other = if backend == "iptables" { "nftables" } else { "iptables" };
        Err(Error::internal(format!(
            "{backend} backend was requested but configuration contains {other}-specific options [{}]",
            keys.join(" ")
        )))
    }
}

impl Entry {
    /// The mapping; the details of an error are the place of the field, behind that of the entry.
    fn check(&self) -> Result<Mapping, Error> {
        let refuse = |text: String, place: &str| Error::internal(text).with_details(place);
        let port = |number: i64, text: &str, place| {
            let port = u16::try_from(number).ok().filter(|port| *port > 0);
            port.ok_or_else(|| {
                let place = format!("{place}: a port is a number from 1 to 65535");
                refuse(format!("Invalid {text} port number: {number}"), &place)
            })
        };
        let container_port = port(self.container_port, "container", ".containerPort")?;
        let host_port = port(self.host_port, "host", ".hostPort")?;
        let protocol = Protocol::parse(&self.protocol).ok_or_else(|| {
            let place = ".protocol: must be tcp, udp, sctp, dccp or udplite";
            refuse(format!("Invalid protocol: {:?}", self.protocol), place)
        })?;
        let host = parse_host(&self.host_ip).ok_or_else(|| {
            let place = ".hostIP: must be an address of this node, a network, or empty for all";
            refuse(format!("Invalid host IP: {:?}", self.host_ip), place)
        })?;
        Ok(Mapping { protocol, host, host_port, container_port })
    }
}

/// The addresses that a host IP names: none given are all, and the unspecified address is all of
/// its family. A network is podwire's own.
fn parse_host(text: &str) -> Option<Option<IpNet>> {
    if text.is_empty() {
        return Some(None);
    }
    if let Ok(Cidr(net)) = text.parse() {
        return Some(Some(net.trunc()));
    }
    let Ip(address) = text.parse().ok()?;
    let net = match address.is_unspecified() {
        true => interface::everywhere(address.is_ipv4()),
        false => address.into(),
    };
    Some(Some(net))
}

impl Protocol {
    fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "tcp" => Some(Self::Tcp),
            "udp" => Some(Self::Udp),
            "dccp" => Some(Self::Dccp),
            "sctp" => Some(Self::Sctp),
            "udplite" => Some(Self::UdpLite),
            _ => None,
        }
    }

    /// The number by which the kernel knows it.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }
}

/// `tcp`
impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Dccp => "dccp",
            Self::Sctp => "sctp",
            Self::UdpLite => "udplite",
        })
    }
}
