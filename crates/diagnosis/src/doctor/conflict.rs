//! What is in the way of pods on this machine, beyond what [`crate`] finds in the network itself:
//! other firewalls, programs that change networks by themselves, tables that fill up.

use net::nft::{Object, Statement};
use topology::{Machine, Namespace, Role};

use super::Surroundings;
use crate::{Code, Finding, Severity, Thing};

/// Looks at a machine and at what runs on it.
pub fn conflicts(machine: &Machine, surroundings: &Surroundings) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for namespace in machine.namespaces.iter().filter(|it| forwards(it)) {
        findings.extend(legacy_tables(namespace));
        findings.extend(firewalld(namespace));
        findings.extend(conntrack(namespace));
    }
    findings.extend(neighbours(machine));
    findings.extend(programs(surroundings));
    findings
}

/// What forwards pods' packets: other namespaces have firewalls for themselves only.
fn forwards(namespace: &Namespace) -> bool {
    matches!(namespace.role, Role::Host | Role::Node)
}

/// A finding that only needs to be completed.
pub(super) fn finding(code: Code, severity: Severity, text: String, consequence: &str) -> Finding {
    let consequence = consequence.to_owned();
    Finding { code, severity, text, consequence, remedy: None, about: Vec::new(), command: None }
}

impl Finding {
    pub(super) fn on(self, namespace: &Namespace) -> Self {
        Self { about: vec![Thing::Namespace(namespace.id)], ..self }
    }

    pub(super) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    pub(super) fn command(self, command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), ..self }
    }
}

fn legacy_tables(namespace: &Namespace) -> Option<Finding> {
    if namespace.legacy_tables.is_empty() {
        return None;
    }
    let tables = namespace.legacy_tables.join(", ");
    let text = format!("iptables in its old form has tables in {}: {tables}", namespace.name);
    let consequence = "what they drop or rewrite happens beside everything that nft shows, and \
        podwire cannot see it";
    Some(
        finding(Code::LegacyTables, Severity::Unusual, text, consequence)
            .on(namespace)
            .remedy("move these rules to iptables-nft: iptables-legacy-save | iptables-nft-restore")
            .command("iptables-legacy-save; ip6tables-legacy-save"),
    )
}

/// firewalld's table is its own; its masquerade knows nothing of pods (kubernetes#89564).
fn firewalld(namespace: &Namespace) -> Option<Finding> {
    let masquerades = |object: &Object| match object {
        Object::Chain(chain) if chain.table.name == "firewalld" => {
            let mut statements = chain.rules.iter().flat_map(|rule| &rule.statements);
            statements.any(|it| matches!(it, Statement::Masquerade { .. }))
        }
        _ => false,
    };
    if !namespace.dump.nft.iter().any(masquerades) {
        return None;
    }
    let text = format!("firewalld masquerades in {}", namespace.name);
    let consequence = "packets of pods to other nodes' pods get this node's address, which breaks \
        the first promise, and policies by address with it";
    Some(
        finding(Code::FirewalldMasquerade, Severity::Warning, text, consequence)
            .on(namespace)
            .remedy(
                "firewall-cmd --permanent --zone=ZONE --remove-masquerade; firewall-cmd --reload",
            )
            .command("nft list table inet firewalld"),
    )
}

/// From these parts of a table on it is nearly full, and full.
const FILLING: [(Severity, u64, u64); 2] =
    [(Severity::Wrong, 95, 100), (Severity::Warning, 75, 100)];

fn fill(count: u64, max: u64) -> Option<Severity> {
    let is_reached = |(_, part, whole): &&(Severity, u64, u64)| {
        u128::from(count) * u128::from(*whole) >= u128::from(max) * u128::from(*part)
    };
    if max == 0 {
        return None;
    }
    FILLING.iter().find(is_reached).map(|(severity, ..)| *severity)
}

fn conntrack(namespace: &Namespace) -> Option<Finding> {
    let seen = namespace.conntrack?;
    let severity = fill(seen.count, seen.max)?;
    let (count, max) = (seen.count, seen.max);
    let text = format!("{} tracks {count} connections of at most {max}", namespace.name);
    let consequence = "where the table is full, new connections are dropped, and only the kernel's \
        log says so";
    Some(
        finding(Code::ConntrackFull, severity, text, consequence)
            .on(namespace)
            .remedy(format!("sysctl -w net.netfilter.nf_conntrack_max={}", max.saturating_mul(2)))
            .command("sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max"),
    )
}

/// One limit holds for the neighbours of all namespaces together.
fn neighbours(machine: &Machine) -> Vec<Finding> {
    let mut findings = Vec::new();
    for family in ["ipv4", "ipv6"] {
        let key = format!("net.{family}.neigh.default.gc_thresh3");
        let max = machine.host.settings.get(&key).and_then(|it| it.trim().parse::<u64>().ok());
        let Some(max) = max else { continue };
        let is_of = |address: std::net::IpAddr| address.is_ipv4() == (family == "ipv4");
        let entries = machine.namespaces.iter().flat_map(|it| &it.dump.neighbours);
        let count = entries
            .filter(|it| !it.bridge && !it.noarp && it.address.is_some_and(is_of))
            .count() as u64;
        let Some(severity) = fill(count, max) else { continue };
        let text =
            format!("all namespaces together have {count} {family} neighbours of at most {max}");
        let consequence = "where the table is full, packets to pods and nodes that are not in it \
            are dropped without an error";
        let (soft, hard) = (max, max.saturating_mul(4));
        findings.push(
            finding(Code::NeighboursFull, severity, text, consequence)
                .remedy(format!(
                    "sysctl -w net.{family}.neigh.default.gc_thresh2={soft} \
                     net.{family}.neigh.default.gc_thresh3={hard}"
                ))
                .command(format!("sysctl {key}; ip -s -s neigh | wc -l")),
        );
    }
    findings
}

fn programs(surroundings: &Surroundings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let removed = match surroundings {
        Surroundings { networkd_removes_routes: true, networkd_removes_rules: true, .. } => {
            Some("routes and rules")
        }
        Surroundings { networkd_removes_routes: true, .. } => Some("routes"),
        Surroundings { networkd_removes_rules: true, .. } => Some("rules"),
        _ => None,
    };
    if let Some(removed) = removed {
        let text = format!("systemd-networkd removes {removed} that it does not know");
        let consequence = "when it starts again or a cable is plugged in, the ways to other nodes' \
            pods are gone until the agent has seen it";
        findings.push(
            finding(Code::NetworkdRemoves, Severity::Warning, text, consequence)
                .remedy(
                    "`podwire install --agent` brings a drop-in with ManageForeignRoutes=no and \
                     ManageForeignRoutingPolicyRules=no",
                )
                .command("systemd-analyze cat-config systemd/networkd.conf"),
        );
    }
    if surroundings.network_manager_manages {
        let text = "NetworkManager takes every new device for its own".to_owned();
        let consequence = "it may take addresses and routes away from tunnels, bridges and pods' \
            cables";
        findings.push(
            finding(Code::NetworkManagerManages, Severity::Warning, text, consequence)
                .remedy("`podwire install --agent` brings a drop-in that names them as unmanaged")
                .command("NetworkManager --print-config; nmcli device"),
        );
    }
    if let Some(file) = &surroundings.address_policy {
        let text = format!("udev gives new devices hardware addresses, by {}", file.display());
        let consequence = "the address of a bridge or tunnel whose maker chose none changes after \
            it was made, and what others have noted of it is wrong; podwire chooses its own, to \
            which udev keeps";
        findings.push(
            finding(Code::AddressPolicy, Severity::Unusual, text, consequence)
                .remedy(
                    "for other plugins: a .link file with OriginalName=flannel* cni* veth* and \
                     MACAddressPolicy=none",
                )
                .command("udevadm test-builtin net_setup_link /sys/class/net/cni0"),
        );
    }
    if surroundings.selinux_enforces {
        let text = "SELinux enforces its policy".to_owned();
        let consequence = "plugins and their files need the labels that the runtime's policy wants, \
            or they are refused without a word of theirs";
        findings.push(
            finding(Code::Selinux, Severity::Unusual, text, consequence)
                .remedy("restorecon -R /opt/cni /etc/cni /var/lib/cni /var/lib/podwire")
                .command("ausearch -m avc -ts recent"),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use kernel::dump::Neighbour;
    use topology::{Conntrack, NetnsId};

    use super::*;

    fn node() -> Namespace {
        let id = NetnsId { device: 4, inode: 1 };
        Namespace { name: "n1".to_owned(), role: Role::Host, ..Namespace::new(id) }
    }

    fn codes(namespace: Namespace, settings: &[(&str, &str)]) -> Vec<(Code, Severity)> {
        let mut machine = Machine { namespaces: vec![namespace], ..Machine::default() };
        let owned = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        machine.host.settings = owned.collect();
        let findings = conflicts(&machine, &Surroundings::default());
        findings.iter().map(|it| (it.code, it.severity)).collect()
    }

    #[test]
    fn a_quiet_node_has_no_conflict() {
        assert_eq!(codes(node(), &[("net.ipv4.neigh.default.gc_thresh3", "1024")]), []);
    }

    #[test]
    fn tables_that_fill_up_are_told() {
        for (count, severity) in
            [(0, None), (74, None), (75, Some(Severity::Warning)), (96, Some(Severity::Wrong))]
        {
            let full = Namespace { conntrack: Some(Conntrack { count, max: 100 }), ..node() };
            let expected: Vec<_> =
                severity.map(|it| (Code::ConntrackFull, it)).into_iter().collect();
            assert_eq!(codes(full, &[]), expected, "{count}");
        }
        let neighbour = |last: u8| Neighbour {
            bridge: false,
            index: 2,
            address: Some([10, 0, 0, last].into()),
            mac: None,
            master: None,
            permanent: false,
            noarp: false,
            of_master: false,
            protocol: 0,
        };
        let mut full = node();
        full.dump.neighbours = (1..=8).map(neighbour).collect();
        let settings = [("net.ipv4.neigh.default.gc_thresh3", "10")];
        assert_eq!(codes(full, &settings), [(Code::NeighboursFull, Severity::Warning)]);
    }

    #[test]
    fn only_what_forwards_is_asked_for_firewalls() {
        let tables = vec!["nat".to_owned()];
        let mut seen = Namespace { legacy_tables: tables, ..node() };
        assert_eq!(codes(seen.clone(), &[]), [(Code::LegacyTables, Severity::Unusual)]);
        seen.role = Role::Pod;
        assert_eq!(codes(seen, &[]), []);
    }
}
