//! What the reference plugins left in the firewall for an attachment that podwire removes.
//!
//! A node can be upgraded under running pods: their rules are found by the names that the reference
//! computes from the attachment, as iptables' nft form and as nftables. What it wrote with
//! iptables-legacy is only reported, with the commands that remove it.

use std::net::IpAddr;

use cni::hash;
use kernel::Kernel;
use net::Space;
use net::nft::{Family, Nat, NatTarget, Rule, Statement, TableId, Test, Value};

use crate::attachment::Attachment;

/// Removes masquerade and spoof check of the reference's `bridge` and `ptp`. Nothing of it there is
/// done.
pub(crate) fn remove_rules(
    kernel: &mut Kernel,
    attachment: &Attachment,
) -> Result<(), kernel::Error> {
    let Attachment { network, container_id, ifname } = attachment;
    let here = &Space::Here;
    let masquerade = hash::chain_name(network, container_id);
    report_legacy(kernel, &masquerade);
    let guard = format!("cni-br-iface-{container_id}-{ifname}");
    let guard_mac = format!("{guard}-mac");
    let chains = [
        (Family::Ip, &masquerade),
        (Family::Ip6, &masquerade),
        (Family::Bridge, &guard),
        (Family::Bridge, &guard_mac),
    ];
    for (family, chain) in chains {
        kernel.remove_foreign_chain(here, &TableId::new(family, "nat"), chain)?;
    }
    let table = TableId::new(Family::Inet, "cni_plugins_masquerade");
    let mark = hash::attachment(network, ifname, container_id);
    let is_marked =
        |rule: &Rule| rule.comment.as_deref().is_some_and(|comment| comment.starts_with(&mark));
    kernel.remove_foreign_rules(here, &table, "masq_checks", is_marked)
}

/// Removes the port mappings of the reference's `portmap`. Its nftables rules name the container
/// alone; where its addresses are known, those of the same container on other networks stay.
pub(crate) fn remove_port_mappings(
    kernel: &mut Kernel,
    attachment: &Attachment,
    addresses: &[IpAddr],
) -> Result<(), kernel::Error> {
    let Attachment { network, container_id, .. } = attachment;
    let here = &Space::Here;
    report_legacy(kernel, &hash::chain_name_with_prefix("DN-", network, container_id));
    for family in [Family::Ip, Family::Ip6] {
        // `CNI-SN-` is what versions before 0.9 also made.
        for prefix in ["DN-", "SN-"] {
            let chain = hash::chain_name_with_prefix(prefix, network, container_id);
            kernel.remove_foreign_chain(here, &TableId::new(family, "nat"), &chain)?;
        }
        let is_theirs = |rule: &Rule| {
            rule.comment.as_deref() == Some(container_id)
                && (addresses.is_empty() || addresses.iter().any(|address| names(rule, *address)))
        };
        let table = TableId::new(family, "cni_hostport");
        for chain in ["hostports", "hostip_hostports", "masquerading"] {
            kernel.remove_foreign_rules(here, &table, chain, is_theirs)?;
        }
    }
    Ok(())
}

/// Whether a rule matches or rewrites to an address.
fn names(rule: &Rule, address: IpAddr) -> bool {
    rule.statements.iter().any(|statement| match statement {
        Statement::Match { test: Test::Is(Value::Address(it)), .. } => *it == address,
        Statement::Nat(Nat { to: NatTarget::Address(it, _), .. }) => *it == address,
        _ => false,
    })
}

/// Says what is left in the old form of iptables, which podwire does not change, and how to remove
/// it.
fn report_legacy(kernel: &mut Kernel, chain: &str) {
    if !kernel.legacy_nat_mentions(&Space::Here, chain).unwrap_or_default() {
        return;
    }
    eprintln!(
        "podwire: the reference plugin has left chain {chain} in iptables-legacy, which podwire does \
         not change; to see it: iptables-legacy-save -t nat | grep {chain}; to remove it, delete the \
         rules that lead to it (iptables-legacy -t nat -D ...), then: iptables-legacy -t nat -F {chain}; \
         iptables-legacy -t nat -X {chain} (for IPv6: ip6tables-legacy)"
    );
}
