//! The steps of one ADD: pure, from what the ports need and what was seen to a plan.

use net::nft::{Chain, Element};
use net::{Change, Plan, Step, Sysctl};

use super::HOST;
use super::rules::{self, Needs};
use crate::{elements, masquerade};

/// What was seen before planning.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Elements under the keys that are needed: of an ADD before this one, or of an earlier owner of
    /// the same address.
    pub(crate) replaced: Vec<Element>,
    /// Further elements of the same owners.
    pub(crate) stale: Vec<Element>,
    /// The settings by which the node's loopback addresses lead to the container.
    pub(crate) local_routes: Vec<String>,
}

/// All steps, in order. The nftables part is one transaction and comes last, so that there is never
/// anything to take back.
pub(crate) fn plan(needs: &Needs, mark: u32, seen: &Seen) -> Plan {
    let mut plan = Plan::new();
    for key in &seen.local_routes {
        let change = Change::Ensure(Sysctl::new(key, "1").into());
        plan.push(Step::new(&HOST, change, "lets the node reach the port by its loopback address"));
    }
    let mut ensure = |object: net::nft::Object, why| {
        plan.push(Step::new(&HOST, Change::Ensure(net::Object::Nft(object)), why));
    };
    ensure(masquerade::table().into(), "is where podwire's plugins keep their rules");
    for map in rules::maps() {
        ensure(map.into(), "knows where the node's ports lead");
    }
    for chain in rules::shared(mark) {
        ensure(chain.into(), "looks each port up once a connection");
    }
    if !seen.local_routes.is_empty() {
        ensure(rules::guard().into(), "keeps the node's loopback addresses to the node");
    }
    for chain in &needs.chains {
        ensure(chain.clone().into(), "knows who needs the node's address to reach the container");
    }
    plan.extend(removal(&seen.stale, &needs.chains));
    for element in needs.elements() {
        let old = seen.replaced.iter().find(|it| it.set == element.set && it.key == element.key);
        let to = net::Object::from(element.clone());
        let change = match old {
            Some(old) if old == element => continue,
            Some(old) => Change::replace(old.clone(), to),
            None => Change::Create(to),
        };
        plan.push(Step::new(&HOST, change, "leads the node's port to the container"));
    }
    plan
}

/// The steps that remove elements, and behind them the chains that only these led to, except for
/// those that are `needed`.
pub(crate) fn removal(elements: &[Element], needed: &[Chain]) -> Plan {
    let mut plan = elements::removal(elements.to_vec());
    let mut chains: Vec<Chain> = elements.iter().filter_map(rules::chain_of).collect();
    chains.dedup();
    chains.retain(|chain| needed.iter().all(|needed| needed.name != chain.name));
    let why = "is led to by nobody any more";
    plan.extend(chains.into_iter().map(|it| Step::new(&HOST, Change::Delete(it.into()), why)));
    plan
}
