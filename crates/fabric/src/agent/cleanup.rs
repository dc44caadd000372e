//! Taking away all that the agent has made.

use std::collections::HashSet;

use net::{LinkName, Object, Plan, Space, nft};

use super::order::{as_link, rules_last};
use super::ours::{Ours, device_of};
use super::why::why;
use crate::{Config, Nodes};

/// The steps that remove all that is ours of what is `seen`, and nothing else.
pub fn cleanup(config: &Config, seen: &[Object]) -> Plan {
    let ours = Ours::of(config);
    let devices: HashSet<&LinkName> =
        seen.iter().filter(|it| ours.is(it)).filter_map(as_link).map(|link| &link.name).collect();
    // What is on a device goes with it, and what is in a table with that.
    let stays = |object: &Object| device_of(object).is_none_or(|link| !devices.contains(link));
    let is_table = |object: &Object| matches!(object, Object::Nft(nft::Object::Table(_)));
    let mut left: Vec<Object> = seen
        .iter()
        .filter(|it| ours.is(it) && stays(it))
        .filter(|it| !matches!(it, Object::Nft(_)) || is_table(it))
        .cloned()
        .collect();
    rules_last(&mut left);
    let mut plan = net::diff(&Space::Here, Vec::new(), &left, |_| true);
    for step in &mut plan {
        step.why = why(&Nodes::default(), step).into();
    }
    plan
}
