//! What is unusual or wrong.

use schemars::JsonSchema;
use serde::Serialize;

use crate::Thing;

/// Something that a person should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What kind of thing it is: what programs look at.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// What is seen.
    pub text: String,
    /// What follows from it, in one sentence.
    pub consequence: String,
    /// What to do, where something can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Where; the first is what is wrong, the others what is next to it.
    #[schemars(with = "Vec<String>")]
    pub about: Vec<Thing>,
    /// The command that shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl Finding {
    pub(crate) fn new(code: Code, text: String, consequence: &str, about: Vec<Thing>) -> Self {
        let (severity, consequence) = (code.severity(), consequence.to_owned());
        Self { code, severity, text, consequence, remedy: None, about, command: None }
    }

    pub(crate) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    pub(crate) fn shown_by(self, command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), ..self }
    }
}

/// How bad a finding is; the worst is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// Out of the ordinary; it may be meant.
    Unusual,
    /// It will break something, or wastes something.
    Warning,
    /// It breaks something.
    Wrong,
}

macro_rules! codes {
    ($($(#[$about:meta])* $code:ident: $severity:ident,)*) => {
        /// All kinds of findings.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
        #[serde(rename_all = "camelCase")]
        pub enum Code {
            $($(#[$about])* $code,)*
        }

        impl Code {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$code),*];

            /// How bad such a finding is.
            pub fn severity(self) -> Severity {
                match self {
                    $(Self::$code => Severity::$severity,)*
                }
            }
        }
    };
}

codes! {
    /// A device that carries packets is down.
    LinkDown: Wrong,
    /// A device is up, and its other side is not there.
    NoCarrier: Wrong,
    /// The far end of a cable is in no namespace that was seen.
    PeerUnseen: Unusual,
    /// A pod cannot talk to itself, because its loopback device is down.
    LoopbackDown: Warning,
    /// A pod does not say which hardware address it has, so that nobody on its segment reaches it.
    ArpSilent: Wrong,
    /// A pod's cable ends in no bridge and at no route.
    CableLoose: Wrong,
    /// A bridge does not pass on what a port takes.
    PortBlocked: Wrong,
    /// Ports of a bridge are kept from each other.
    PortIsolated: Unusual,
    /// The configuration asks for hairpin, and a port does not do it.
    HairpinMissing: Warning,
    /// The two ends of a cable, the ports of a bridge, or a bridge and its ports, take packets of
    /// different size.
    MtuMixed: Warning,
    /// A tunnel takes packets that do not fit below it.
    MtuTunnel: Warning,
    /// A pod takes packets that do not fit into the tunnel.
    MtuPod: Warning,
    /// Two nodes' tunnels take packets of different size.
    MtuPeer: Warning,
    /// Two devices of a segment have one hardware address.
    MacTwice: Wrong,
    /// Two hosts have one address.
    AddressTwice: Wrong,
    /// An IPv6 address that somebody else has (duplicate address detection).
    AddressRefused: Wrong,
    /// A pod's address is of another network than its gateway's, or of another length.
    AddressMismatch: Wrong,
    /// A pod has no default route, though it was asked for.
    DefaultRouteMissing: Wrong,
    /// A pod's default route leads to an address that nobody on its segment has.
    GatewayMissing: Wrong,
    /// Pods are told a resolver at an address that nobody has.
    ResolverMissing: Wrong,
    /// A node that pods use as router passes nothing on.
    ForwardingOff: Wrong,
    /// A node drops packets because it would answer by another device.
    ReturnPathFiltered: Wrong,
    /// A node knows no way to another node's pods.
    PeerRouteMissing: Wrong,
    /// A route leads to another node than the one that has the pods.
    PeerRouteWrong: Wrong,
    /// A route leads to an address that nobody has.
    RouteStale: Wrong,
    /// A tunnel does not know its neighbour's hardware address, or knows a wrong one.
    NeighbourWrong: Wrong,
    /// A tunnel's forwarding entry is missing, or leads to the wrong node.
    ForwardingEntryWrong: Wrong,
    /// Two ends of a tunnel are of different virtual networks or ports.
    TunnelMismatch: Wrong,
    /// A tunnel sends from an address that its node does not have.
    TunnelAddress: Wrong,
    /// What pods send to pods leaves with another address.
    MasqueradeBetweenPods: Wrong,
    /// Masquerade is asked for, and no rule does it.
    MasqueradeMissing: Wrong,
    /// Rules of podwire's own do nothing, because their table is dormant.
    TableDormant: Wrong,
    /// A port of the node leads to an address that no pod has.
    HostPortStale: Wrong,
    /// Datagrams are still led to an address that nobody has, as rules had it when they were first
    /// sent (conntrack).
    FlowStale: Wrong,
    /// Rules drop what pods send or receive.
    PodsDropped: Wrong,
    /// Rules drop what a tunnel sends or receives.
    TunnelDropped: Wrong,
    /// Bridged packets skip the rules that kube-proxy needs them to pass (bridge-nf-call-iptables).
    BridgeRulesSkipped: Wrong,
    /// Bridged packets pass rules that were hardly written for them (bridge-nf-call-iptables).
    BridgeRulesApplied: Unusual,
    /// An address is reserved for a container that is gone.
    ReservationLeaked: Warning,
    /// An address is reserved for a container that nobody knows.
    ReservationUnknown: Unusual,
    /// One device has several addresses of one network.
    ReservationTwice: Unusual,
    /// A pod has an address that is not reserved.
    ReservationMissing: Wrong,
    /// A network has few addresses left.
    RangeNearlyFull: Warning,
    /// A network has no address left.
    RangeFull: Wrong,
    /// Rules of iptables-legacy, which nothing else shows.
    LegacyTables: Unusual,
    /// firewalld hides pods behind the node's address.
    FirewalldMasquerade: Warning,
    /// The table of connections is nearly full.
    ConntrackFilling: Warning,
    /// The table of connections is full.
    ConntrackFull: Wrong,
    /// The table of neighbours is nearly full.
    NeighboursFilling: Warning,
    /// The table of neighbours is full.
    NeighboursFull: Wrong,
    /// systemd-networkd removes what it does not know.
    NetworkdRemoves: Warning,
    /// NetworkManager takes every device for its own.
    NetworkManagerManages: Warning,
    /// udev chooses hardware addresses.
    AddressPolicy: Unusual,
    /// SELinux may refuse plugins.
    Selinux: Unusual,
    /// A name in `/run/netns` that leads nowhere.
    DeadName: Warning,
    /// A runtime remembers containers that are gone.
    AttachmentLeft: Warning,
    /// Rules for pods that are gone.
    ElementLeft: Warning,
    /// The network of an agent, and no agent.
    AgentGone: Warning,
    /// A lab that was not made or taken down whole.
    LabLeft: Warning,
    /// Something could not be read, or is not read by podwire, so that nothing can be said about it.
    Unreadable: Unusual,
}
