//! What this kernel and this process can do, found out by trying it in a network namespace that is
//! thrown away. Asking for versions and configurations would only be a guess: features are ported
//! back, built as modules that are not installed, or forbidden.

use std::fs;
use std::path::Path;

use kernel::{ErrorKind, Kernel, Netns, OnError};
use net::nft::{
    Base, Chain, ChainKind, Family, Hook, Object as NftObject, Policy, Rule, Statement, Table,
    TableId, priority,
};
use net::{Change, Link, LinkKind, LinkName, Object, Space, Step, Sysctl, Vxlan, VxlanForm};
use schemars::JsonSchema;
use serde::Serialize;

/// Something that podwire, plugins or clusters need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ability {
    /// What kind of thing it is.
    pub group: Group,
    /// Its name, such as `vxlan with a list of networks (vnifilter)`.
    pub name: String,
    /// Whether it is there.
    pub state: State,
    /// No node can do without it.
    pub essential: bool,
    /// What cannot be done without it; empty where it is there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub consequence: String,
    /// What to do, where something can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The kernel's own words, where it refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
}

/// What kinds of abilities there are, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Group {
    /// Rights of this process.
    Rights,
    /// The kernel as a whole.
    Kernel,
    /// Kinds of devices.
    Devices,
    /// Packet filter, translation and tracking.
    Firewall,
}

/// Whether something can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// It was tried, and it works; or its module is there, and was not loaded to try it.
    Yes,
    /// It was tried, and the kernel has no such thing.
    No,
    /// A right is missing to try it, or the kernel refused for another reason.
    Unknown,
}

impl Ability {
    fn new(group: Group, name: &str, state: State, without: &str) -> Self {
        let consequence = if state == State::Yes { String::new() } else { without.to_owned() };
        let name = name.to_owned();
        Self { group, name, state, essential: false, consequence, remedy: None, evidence: None }
    }

    fn essential(self) -> Self {
        Self { essential: true, ..self }
    }

    fn remedy(self, remedy: &str) -> Self {
        let remedy = (self.state != State::Yes).then(|| remedy.to_owned());
        Self { remedy, ..self }
    }
}

/// Tries everything. Nothing of it outlives the call.
pub fn abilities() -> Vec<Ability> {
    let mut abilities = rights(&fs::read_to_string("/proc/self/status").unwrap_or_default());
    abilities.push(release_ability(&release()));
    match Trial::begin() {
        Ok(mut trial) => {
            abilities.push(trial.settings());
            abilities.extend(trial.devices());
            abilities.extend(trial.firewall());
        }
        Err(error) => abilities.push(Ability {
            evidence: Some(error.to_string()),
            ..Ability::new(
                Group::Kernel,
                "network namespaces",
                match error.kind() {
                    ErrorKind::Unsupported => State::No,
                    _ => State::Unknown,
                },
                "no pod can be made, and nothing else could be tried",
            )
            .remedy("run this as root, or in a user namespace: unshare -Urnm podwire doctor")
            .essential()
        }),
    }
    abilities
}

/// Capabilities by their numbers in include/uapi/linux/capability.h.
const CAPABILITIES: [(u32, &str, &str); 3] = [
    (
        12,
        "CAP_NET_ADMIN",
        "devices, routes and firewalls cannot be changed, and firewalls not read",
    ),
    (13, "CAP_NET_RAW", "no probes can be sent, so that verify and demo cannot tell"),
    (21, "CAP_SYS_ADMIN", "namespaces of pods cannot be entered, so that they stay unseen"),
];

/// From the text of `/proc/self/status`.
fn rights(status: &str) -> Vec<Ability> {
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = held.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let right = |(number, name, without): (u32, &str, &str)| {
        let state = match held {
            Some(mask) if mask >> number & 1 == 1 => State::Yes,
            Some(_) => State::No,
            None => State::Unknown,
        };
        let ability = Ability::new(Group::Rights, name, state, without);
        ability.remedy(&format!("run as root, or give the process {name}")).essential()
    };
    CAPABILITIES.map(right).into()
}

/// The oldest kernel that podwire is made for.
const OLDEST: (u32, u32) = (5, 10);

fn release_ability(release: &str) -> Ability {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let version = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    };
    let state = match version {
        Some(version) if version >= OLDEST => State::Yes,
        Some(_) => State::No,
        None => State::Unknown,
    };
    let name = format!("Linux 5.10 or newer (this is {release})");
    Ability::new(Group::Kernel, &name, state, "nothing here was tried with such a kernel")
        .remedy("install a newer kernel")
        .essential()
}

/// A namespace to try things in.
struct Trial {
    kernel: Kernel,
    netns: Netns,
}

/// Kinds of devices that are told by their name alone, and what cannot be done without them.
const KINDS: [(&str, &str); 13] = [
    ("bridge", "the bridge plugin, labs and most networks of one node do not work"),
    ("veth", "no pod can be connected to its node"),
    ("macvlan", "the macvlan plugin does not work"),
    ("ipvlan", "the ipvlan plugin does not work"),
    ("vlan", "the vlan plugin does not work"),
    ("dummy", "the dummy plugin, and kube-proxy in ipvs mode, do not work"),
    ("vrf", "the vrf plugin does not work"),
    ("bond", "uplinks cannot be joined to one"),
    ("ifb", "the bandwidth plugin cannot limit what a pod sends"),
    ("wireguard", "networks that encrypt by WireGuard do not work; podwire does not need it"),
    ("geneve", "networks by Geneve, such as Cilium's, do not work; podwire does not need it"),
    ("ipip", "networks by IP in IP, such as Calico's, do not work; podwire does not need it"),
    ("netkit", "Cilium's netkit pods do not work; podwire does not need it"),
];

/// Kinds whose modules leave devices behind when they are loaded, in every namespace or in the host's,
/// and the modules' names. A question must not do that.
const LEAVING: [(&str, &str); 4] =
    [("bond", "bonding"), ("dummy", "dummy"), ("ifb", "ifb"), ("ipip", "ipip")];

/// The kinds without which there are no pods.
const ESSENTIAL: [&str; 2] = ["bridge", "veth"];

impl Trial {
    fn begin() -> kernel::Result<Self> {
        let netns = Netns::unnamed()?;
        let mut kernel = Kernel::new()?;
        kernel.open(&Space::At(netns.path().to_owned()))?;
        Ok(Self { kernel, netns })
    }

    fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> kernel::Result<()> {
        let space = Space::At(self.netns.path().to_owned());
        let step = |change| Step { space: space.clone(), change, why: "try it".into() };
        let plan: Vec<Step> = changes.into_iter().map(step).collect();
        self.kernel.apply(&plan, OnError::Undo).into_result()
    }

    fn settings(&mut self) -> Ability {
        let forward = Sysctl {
            key: "net/ipv4/ip_forward".to_owned(),
            value: "1".to_owned(),
            best_effort: false,
        };
        let written = self.apply([Change::Ensure(Object::Sysctl(forward))]);
        let without = "a node cannot be made to forward packets of its pods";
        judge(Group::Kernel, "writing below /proc/sys/net", written, without)
            .remedy("in a container, mount /proc/sys writable, or set what is needed beforehand")
            .essential()
    }

    /// Whether there are devices of a kind.
    fn kind(&mut self, kind: &str, without: &str) -> Ability {
        let leaving = LEAVING.iter().find(|(leaving, _)| *leaving == kind);
        let known = if leaving.is_some_and(|(_, module)| is_loadable(module)) {
            Ok(true)
        } else {
            let space = Space::At(self.netns.path().to_owned());
            self.kernel.knows_kind(&space, kind)
        };
        let ability = answer(Group::Devices, kind, known, without).remedy(MODULE);
        if ESSENTIAL.contains(&kind) { ability.essential() } else { ability }
    }

    /// Devices that programs make, by a file.
    fn tun() -> Ability {
        let opened = fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
        let state = match &opened {
            Ok(_) => State::Yes,
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => State::Unknown,
            Err(_) => State::No,
        };
        let evidence = opened.err().map(|error| format!("open /dev/net/tun: {error}"));
        let ability = Ability::new(Group::Devices, "tun", state, "the tap plugin does not work");
        Ability { evidence, ..ability.remedy(MODULE) }
    }

    fn devices(&mut self) -> Vec<Ability> {
        let mut abilities = Vec::new();
        for (kind, without) in KINDS {
            abilities.push(self.kind(kind, without));
        }
        abilities.push(Self::tun());
        let vxlan = |port, form| LinkKind::Vxlan(Vxlan { port, form });
        let classic = VxlanForm::Classic { vni: 1, underlay: None, local: None };
        let external = |gpe, filtered| VxlanForm::External { gpe, filtered };
        let forms = [
            ("vxlan", classic, "the agent joins nodes by host-gw only"),
            (
                "vxlan of which routes say the far end",
                external(false, false),
                "the agent needs `tunnel: {form: classic}`",
            ),
            (
                "vxlan that takes packets of named networks only",
                external(false, true),
                "the agent has its firewall see to that (Linux 5.18 has it)",
            ),
            ("vxlan without Ethernet inside", external(true, false), "there is no `backend: gpe`"),
        ];
        // Two tunnel ends of one port are in each other's way, so that each has its own.
        for (port, (name, form, without)) in (8000..).zip(forms) {
            abilities.push(self.tunnel(name, vxlan(port, form), without));
        }
        abilities
    }

    /// Whether a tunnel end comes out as it was asked for.
    fn tunnel(&mut self, name: &str, kind: LinkKind, without: &str) -> Ability {
        let Ok(link) = "try".parse::<LinkName>() else {
            return Ability::new(Group::Devices, name, State::Unknown, without);
        };
        let wanted = Link { kind: Some(kind), ..Link::existing(link) };
        let made = self.apply([Change::Create(Object::Link(wanted.clone()))]).and_then(|()| {
            let space = Space::At(self.netns.path().to_owned());
            let query = kernel::Query::Link(wanted.name.clone());
            let seen = self.kernel.observe(&space, &query)?;
            self.apply([Change::Delete(Object::Link(wanted.clone()))])?;
            // A kernel that does not know an attribute ignores it.
            let is_it =
                |object: &Object| matches!(object, Object::Link(it) if it.kind == wanted.kind);
            Ok(seen.iter().any(is_it))
        });
        answer(Group::Devices, name, made, without).remedy(MODULE)
    }

    fn firewall(&mut self) -> Vec<Ability> {
        use ChainKind::{Filter, Nat};
        let masquerade = || vec![Statement::Masquerade { fully_random: true }];
        let cases = [
            (
                "nftables for IPv4 and IPv6 at once",
                Family::Inet,
                Filter,
                Hook::Forward,
                vec![],
                "there is neither masquerade nor host ports",
            ),
            (
                "nftables on bridges",
                Family::Bridge,
                Filter,
                Hook::Forward,
                vec![],
                "`macspoofchk` of the bridge plugin does not work",
            ),
            (
                "masquerade at random ports",
                Family::Inet,
                Nat,
                Hook::Postrouting,
                masquerade(),
                "pods do not reach what is outside of the cluster",
            ),
            (
                "rewriting of destinations",
                Family::Inet,
                Nat,
                Hook::Prerouting,
                vec![Statement::Redirect { port: None }],
                "there are no host ports",
            ),
            (
                "packets that are not tracked",
                Family::Inet,
                Filter,
                Hook::Prerouting,
                vec![Statement::NoTrack],
                "each flow in a tunnel costs an entry of the connection table",
            ),
        ];
        let mut abilities = Vec::new();
        for (name, family, kind, hook, statements, without) in cases {
            let table = TableId { family, name: "podwire_doctor".into() };
            let at = if kind == Nat { priority::SRCNAT } else { priority::FILTER };
            let base =
                Base { kind, hook, priority: at, policy: Policy::Accept, devices: Vec::new() };
            let rules = match statements.is_empty() {
                true => Vec::new(),
                false => vec![Rule { statements, comment: None }],
            };
            let chain =
                Chain { table: table.clone(), name: "try".to_owned(), base: Some(base), rules };
            let table = Table::new(table);
            let nft = |object: NftObject| Change::Create(Object::Nft(object));
            let made = self.apply([nft(NftObject::Table(table.clone())), nft(chain.into())]);
            // What was made goes away before the next one, whose hook may be the same.
            let _ = self.apply([Change::Delete(Object::Nft(NftObject::Table(table)))]);
            let ability = judge(Group::Firewall, name, made, without).remedy(MODULE);
            let is_essential = family == Family::Inet && (kind == Nat || hook == Hook::Forward);
            abilities.push(if is_essential { ability.essential() } else { ability });
        }
        abilities
    }
}

const MODULE: &str = "load the kernel's module for it if there is one (modprobe), or take a kernel \
    that was built with it";

/// Whether a module is not loaded, and would be when it is needed.
fn is_loadable(module: &str) -> bool {
    let is_loaded = Path::new("/sys/module").join(module).exists();
    let all = format!("/lib/modules/{}/modules.dep", release());
    !is_loaded && fs::read_to_string(all).is_ok_and(|all| lists(&all, module))
}

/// Whether a module is in the text of a `modules.dep`: one a line, by its file, which may be
/// compressed, before what it needs.
fn lists(all: &str, module: &str) -> bool {
    let file = format!("/{module}.ko");
    all.lines().filter_map(|line| line.split(':').next()).any(|path| {
        path.rfind(&file)
            .is_some_and(|at| matches!(&path[at + file.len()..], "" | ".xz" | ".zst" | ".gz"))
    })
}

/// The running kernel's, as `uname -r` tells it.
fn release() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

fn judge(group: Group, name: &str, made: kernel::Result<()>, without: &str) -> Ability {
    answer(group, name, made.map(|()| true), without)
}

fn answer(group: Group, name: &str, there: kernel::Result<bool>, without: &str) -> Ability {
    let (state, evidence) = match there {
        Ok(true) => (State::Yes, None),
        Ok(false) => (State::No, None),
        Err(error) => {
            let state = match error.kind() {
                ErrorKind::Unsupported | ErrorKind::NotFound => State::No,
                _ => State::Unknown,
            };
            (state, Some(error.to_string()))
        }
    };
    Ability { evidence, ..Ability::new(group, name, state, without) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_read_from_the_mask() {
        let states = |status: &str| rights(status).iter().map(|it| it.state).collect::<Vec<_>>();
        assert_eq!(states("CapEff:\t000001ffffffffff\n"), [State::Yes; 3]);
        assert_eq!(states("CapEff:\t0000000000001000\n"), [State::Yes, State::No, State::No]);
        assert_eq!(states(""), [State::Unknown; 3]);
    }

    #[test]
    fn releases_are_compared_by_their_numbers() {
        for (release, state) in [
            ("5.10.0-28-amd64", State::Yes),
            ("6.18.3", State::Yes),
            ("5.9.12", State::No),
            ("4.19", State::No),
            ("", State::Unknown),
        ] {
            assert_eq!(release_ability(release).state, state, "{release}");
        }
    }

    #[test]
    fn modules_are_found_by_their_files() {
        let all = "kernel/net/ipv4/ipip.ko.xz: kernel/net/ipv4/tunnel4.ko.xz\n\
                   kernel/net/ipv4/tunnel4.ko.xz:\nkernel/drivers/net/dummy.ko:";
        assert!(lists(all, "ipip") && lists(all, "tunnel4") && lists(all, "dummy"));
        assert!(!lists(all, "ip") && !lists(all, "ifb") && !lists(all, "pip"));
    }

    #[test]
    fn what_is_there_needs_no_remedy() {
        let there = Ability::new(Group::Kernel, "a", State::Yes, "b").remedy("c");
        assert_eq!((there.consequence.as_str(), there.remedy), ("", None));
    }
}
