//! The plugins' elements in nftables, which carry the names of their attachments.

use cni::Error;
use kernel::Kernel;
use net::nft::{Element, TableId};
use net::{Change, Plan, Space, Step};

/// The elements of all of these sets that `wanted` picks. No such set, no such element.
pub(crate) fn find(
    kernel: &mut Kernel,
    table: &TableId,
    sets: &[&str],
    wanted: impl Fn(&Element) -> bool,
) -> Result<Vec<Element>, Error> {
    let mut found = Vec::new();
    for set in sets {
        let all = kernel.nft_elements(&Space::Here, table, set).map_err(Error::internal)?;
        found.extend(all.unwrap_or_default().into_iter().filter(&wanted));
    }
    Ok(found)
}

/// The steps that remove elements.
pub(crate) fn removal(elements: Vec<Element>) -> Plan {
    let step = |element: Element| {
        Step::new(&Space::Here, Change::Delete(element.into()), "forgets the pod")
    };
    elements.into_iter().map(step).collect()
}
