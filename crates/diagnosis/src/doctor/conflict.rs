//! What is in the way of pods on this machine, beyond what [`crate`] finds in the network itself:
//! other firewalls, programs that change networks by themselves, tables that fill up.

use net::nft::{Object, Statement};
use topology::{Machine, Namespace, Role};

use super::Surroundings;
use crate::{Code, Finding, Thing};

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

fn legacy_tables(namespace: &Namespace) -> Option<Finding> {
    if namespace.legacy_tables.is_empty() {
        return None;
    }
    let tables = namespace.legacy_tables.join(", ");
    let text = format!("iptables in its old form has tables in {}: {tables}.", namespace.name);
    let consequence = "What they drop or rewrite happens beside everything that nft shows, and \
        podwire cannot see it.";
    Some(
        Finding::new(Code::LegacyTables, text, consequence, vec![Thing::Namespace(namespace.id)])
            .remedy("move these rules to iptables-nft: iptables-legacy-save | iptables-nft-restore")
            .shown_by("iptables-legacy-save; ip6tables-legacy-save"),
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
    if !net::nft::acting(&namespace.dump.nft).any(masquerades) {
        return None;
    }
    let text = format!("firewalld masquerades in {}.", namespace.name);
    let consequence = "Packets of pods to other nodes' pods get this node's address, which breaks \
        the first promise, and policies by address with it.";
    Some(
        Finding::new(
            Code::FirewalldMasquerade,
            text,
            consequence,
            vec![Thing::Namespace(namespace.id)],
        )
        .remedy("firewall-cmd --permanent --zone=ZONE --remove-masquerade; firewall-cmd --reload")
        .shown_by("nft list table inet firewalld"),
    )
}

/// From this many hundredths of a table on it is as good as full, and nearly full.
const FULL: u128 = 95;
const FILLING: u128 = 75;

/// The code for a table that is full, or the one for one that is nearly full.
fn fill(count: u64, max: u64, full: Code, filling: Code) -> Option<Code> {
    match u128::from(count) * 100 / u128::from(max).max(1) {
        _ if max == 0 => None,
        FULL.. => Some(full),
        FILLING.. => Some(filling),
        _ => None,
    }
}

fn conntrack(namespace: &Namespace) -> Option<Finding> {
    let seen = namespace.conntrack?;
    let code = fill(seen.count, seen.max, Code::ConntrackFull, Code::ConntrackFilling)?;
    let (count, max) = (seen.count, seen.max);
    let text = format!("{} tracks {count} connections of at most {max}.", namespace.name);
    let consequence = "Where the table is full, new connections are dropped, and only the kernel's \
        log says so.";
    Some(
        Finding::new(code, text, consequence, vec![Thing::Namespace(namespace.id)])
            .remedy(format!("sysctl -w net.netfilter.nf_conntrack_max={}", max.saturating_mul(2)))
            .shown_by("sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max"),
    )
}

/// One limit holds for the neighbours of all namespaces together.
fn neighbours(machine: &Machine) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (family, is_v4) in [("ipv4", true), ("ipv6", false)] {
        let key = format!("net.{family}.neigh.default.gc_thresh3");
        let max = machine.host.settings.get(&key).and_then(|it| it.trim().parse::<u64>().ok());
        let Some(max) = max else { continue };
        let count = machine.neighbours(is_v4) as u64;
        let code = fill(count, max, Code::NeighboursFull, Code::NeighboursFilling);
        let Some(code) = code else { continue };
        let text =
            format!("All namespaces together have {count} {family} neighbours of at most {max}.");
        let consequence = "Where the table is full, packets to pods and nodes that are not in it \
            are dropped without an error.";
        let (soft, hard) = (max, max.saturating_mul(4));
        findings.push(
            Finding::new(code, text, consequence, Vec::new())
                .remedy(format!(
                    "sysctl -w net.{family}.neigh.default.gc_thresh2={soft} \
                     net.{family}.neigh.default.gc_thresh3={hard}"
                ))
                .shown_by(format!("sysctl {key}; ip -s neigh | wc -l")),
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
        let text = format!("systemd-networkd removes {removed} that it does not know.");
        let consequence = "When it starts again or a cable is plugged in, the ways to other nodes' \
            pods are gone until the agent has seen it.";
        findings.push(
            Finding::new(Code::NetworkdRemoves, text, consequence, Vec::new())
                .remedy(
                    "`podwire install --agent` brings a drop-in with ManageForeignRoutes=no and \
                     ManageForeignRoutingPolicyRules=no",
                )
                .shown_by("systemd-analyze cat-config systemd/networkd.conf"),
        );
    }
    if surroundings.network_manager_manages {
        let text = "NetworkManager takes every new device for its own.".to_owned();
        let consequence = "It may take addresses and routes away from tunnels, bridges and pods' \
            cables.";
        findings.push(
            Finding::new(Code::NetworkManagerManages, text, consequence, Vec::new())
                .remedy("`podwire install --agent` brings a drop-in that names them as unmanaged")
                .shown_by("NetworkManager --print-config; nmcli device"),
        );
    }
    if let Some(file) = &surroundings.address_policy {
        let text = format!("udev gives new devices hardware addresses, by {}.", file.display());
        let consequence = "The address of a bridge or tunnel whose maker chose none changes after \
            it was made, and what others have noted of it is wrong; podwire chooses its own, to \
            which udev keeps.";
        findings.push(
            Finding::new(Code::AddressPolicy, text, consequence, Vec::new())
                .remedy(
                    "for other plugins: a .link file with OriginalName=flannel* cni* veth* and \
                     MACAddressPolicy=none",
                )
                .shown_by("udevadm test-builtin net_setup_link /sys/class/net/cni0"),
        );
    }
    if surroundings.selinux_enforces {
        let text = "SELinux enforces its policy.".to_owned();
        let consequence = "Plugins and their files need the labels that the runtime's policy wants, \
            or they are refused without a word of theirs.";
        findings.push(
            Finding::new(Code::Selinux, text, consequence, Vec::new())
                .remedy("restorecon -R /opt/cni /etc/cni /var/lib/cni /var/lib/podwire")
                .shown_by("ausearch -m avc -ts recent"),
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

    fn codes(namespace: Namespace, settings: &[(&str, &str)]) -> Vec<Code> {
        let mut machine = Machine { namespaces: vec![namespace], ..Machine::default() };
        let owned = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        machine.host.settings = owned.collect();
        let findings = conflicts(&machine, &Surroundings::default());
        findings.iter().map(|it| it.code).collect()
    }

    #[test]
    fn a_quiet_node_has_no_conflict() {
        assert_eq!(codes(node(), &[("net.ipv4.neigh.default.gc_thresh3", "1024")]), []);
    }

    #[test]
    fn tables_that_fill_up_are_told() {
        for (count, code) in [
            (0, None),
            (74, None),
            (75, Some(Code::ConntrackFilling)),
            (96, Some(Code::ConntrackFull)),
        ] {
            let full = Namespace { conntrack: Some(Conntrack { count, max: 100 }), ..node() };
            let expected: Vec<_> = code.into_iter().collect();
            assert_eq!(codes(full, &[]), expected, "{count}");
        }
        let neighbour = |last: u8| Neighbour {
            index: 2,
            address: Some([10, 0, 0, last].into()),
            ..Neighbour::default()
        };
        let mut full = node();
        full.dump.neighbours = (1..=8).map(neighbour).collect();
        let settings = [("net.ipv4.neigh.default.gc_thresh3", "10")];
        let mut of_peers = full.clone();
        assert_eq!(codes(full, &settings), [Code::NeighboursFilling]);
        // There is always room for what somebody has written.
        of_peers.dump.neighbours.iter_mut().for_each(|it| it.permanent = true);
        assert_eq!(codes(of_peers, &settings), []);
    }

    #[test]
    fn only_what_forwards_is_asked_for_firewalls() {
        let tables = vec!["nat".to_owned()];
        let mut seen = Namespace { legacy_tables: tables, ..node() };
        assert_eq!(codes(seen.clone(), &[]), [Code::LegacyTables]);
        seen.role = Role::Pod;
        assert_eq!(codes(seen, &[]), []);
    }
}
