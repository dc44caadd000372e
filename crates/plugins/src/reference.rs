//! What the reference plugins left in the firewall for an attachment that podwire removes.
//!
//! A node can be upgraded under running pods: their rules are found by the names that the reference
//! computes from the attachment, as iptables' nft form and as nftables. What it wrote with
//! iptables-legacy cannot be seen by nftables.

use cni::hash;
use kernel::Kernel;
use net::Space;
use net::nft::{Family, TableId};

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
    kernel.remove_foreign_rules(here, &table, "masq_checks", &mark)
}
