//! The plugins' elements in nftables, which carry the names of their attachments.

use cni::Error;
use kernel::{Kernel, OnError};
use net::nft::{Element, TableId};
use net::{Change, Plan, Space, Step};

/// The elements of all of these sets whose comment is wanted. No such set, no such element.
pub(crate) fn find(
    kernel: &mut Kernel,
    table: &TableId,
    sets: &[&str],
    is_wanted: impl Fn(Option<&str>) -> bool,
) -> Result<Vec<Element>, Error> {
    let mut found = Vec::new();
    for set in sets {
        let elements = kernel.nft_elements(&Space::Here, table, set, &is_wanted);
        found.extend(elements.map_err(Error::internal)?.unwrap_or_default());
    }
    Ok(found)
}

/// What is there under an element's key, whosever.
pub(crate) fn at_place_of(
    kernel: &mut Kernel,
    element: &Element,
) -> Result<Option<Element>, Error> {
    let Element { table, set, key, .. } = element;
    kernel.nft_element(&Space::Here, table, set, key).map_err(Error::internal)
}

/// The steps that remove elements.
pub(crate) fn removal(elements: Vec<Element>) -> Plan {
    let step = |element: Element| {
        Step::new(&Space::Here, Change::Delete(element.into()), "forgets the pod")
    };
    elements.into_iter().map(step).collect()
}

/// Removes elements; gone already is done.
pub(crate) fn remove(kernel: &mut Kernel, elements: Vec<Element>) -> Result<(), Error> {
    let plan = removal(elements);
    kernel.apply(&plan, OnError::Continue).into_result().map_err(Error::internal)
}
