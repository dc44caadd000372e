//! CHECK: do the ports still lead where ADD led them?

use cni::{Error, Request};
use kernel::Kernel;
use net::nft::Chain;

use super::config::Config;
use super::{HOST, local_routes, needs, previous, rules};
use crate::attachment::Attachment;
use crate::{check, elements};

/// CHECK: looks at each port of this attachment, at the chains that all of them share, and at the
/// settings by which the node's loopback addresses lead to the container.
pub(super) fn check(request: &Request) -> Result<(), Error> {
    let config = Config::parse(request)?;
    let fail = |text: String| Err(check::fail(text));
    let Some(previous) = previous(request)? else {
        return fail("Required prevResult missing".to_owned());
    };
    let (ports, mut needs) = needs(&config, request, &previous)?;
    if ports.is_empty() {
        return Ok(());
    }
    let mut kernel = Kernel::new().map_err(Error::internal)?;
    let attachment = Attachment::of(request);
    let mut beside = Vec::new();
    for (port, element) in &needs.ports {
        let seen = elements::at_place_of(&mut kernel, element)?;
        let comment = seen.as_ref().and_then(|seen| seen.comment.as_deref());
        if comment.is_some_and(|comment| attachment.is_beside(comment)) {
            beside.push(*port);
        } else if seen.as_ref() != Some(element) {
            return fail(format!("host port {port} does not lead to {}", port.target));
        }
    }
    needs.leave(&beside);
    for element in &needs.hairpins {
        if elements::at_place_of(&mut kernel, element)?.as_ref() != Some(element) {
            return fail(format!("nft map {} does not know {}", element.set, element.key));
        }
    }
    check_shared(&mut kernel, config.mark)?;
    let local_routes = local_routes(&mut kernel, &config, &needs)?;
    let guard = (!local_routes.is_empty()).then(rules::guard);
    for chain in needs.chains.iter().chain(&guard) {
        check::chain(&mut kernel, chain)?;
    }
    for key in local_routes {
        if kernel.sysctl(&HOST, &key).map_err(Error::internal)?.as_deref() != Some("1") {
            return fail(format!(
                "{key} is not 1: the port is not there on the loopback addresses"
            ));
        }
    }
    Ok(())
}

/// The chains that all ports share are as some configuration wants them: the mark is one for the
/// node, and the last network whose ADD wrote it has chosen it.
fn check_shared(kernel: &mut Kernel, mark: u32) -> Result<(), Error> {
    let others = (0..32).map(|bit| 1 << bit).filter(|other| *other != mark);
    for candidate in [mark].into_iter().chain(others) {
        if all_hold(kernel, &rules::shared(candidate))? {
            return Ok(());
        }
    }
    rules::shared(mark).iter().try_for_each(|chain| check::chain(kernel, chain))
}

fn all_hold(kernel: &mut Kernel, chains: &[Chain]) -> Result<bool, Error> {
    for chain in chains {
        if !kernel.nft_chain_holds(&HOST, chain).map_err(Error::internal)? {
            return Ok(false);
        }
    }
    Ok(true)
}
