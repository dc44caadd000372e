//! nftables: tables by name, rules by what they say, masquerade by its own word.

use std::collections::{BTreeMap, HashMap};

use net::nft::{Object, Rule, Statement, TableId};

use super::{Kind, Say};
use crate::Namespace;

/// What is counted by number of equals, because rules have no names.
type Counts = BTreeMap<(String, &'static str), BTreeMap<String, isize>>;

pub(super) fn compare(was: &Namespace, is: &Namespace, say: &mut Say<'_>) {
    let tables = |namespace: &Namespace| {
        let opaque = namespace
            .dump
            .opaque
            .iter()
            .map(|it| format!("{} {} (its {} {})", it.family, it.table, it.kind, it.name));
        by_id(namespace).map(|(table, _)| table.to_string()).chain(opaque).collect()
    };
    say.sets("nftables table", &tables(was), &tables(is));
    let old: HashMap<&TableId, bool> = by_id(was).collect();
    for (table, dormant) in by_id(is) {
        if old.get(table).is_some_and(|was| *was != dormant) {
            let what = if dormant { "fell dormant: none of its rules acts" } else { "acts again" };
            say.changed("nftables", format!("nftables table {table} {what}"));
        }
    }
    let mut counts = Counts::new();
    count(is, 1, &mut counts);
    count(was, -1, &mut counts);
    for ((place, kind), texts) in counts {
        for (change, verb, sign) in [(Kind::Gone, "gone", -1), (Kind::New, "new", 1)] {
            let of_it = || texts.iter().filter(|(_, count)| count.signum() == sign);
            let number: isize = of_it().map(|(_, count)| count.abs()).sum();
            let Some((first, _)) = of_it().next() else { continue };
            let text = match number {
                1 => format!("1 {verb} {kind} in {place}: {first}"),
                _ => format!("{number} {verb} {kind}s in {place}, the first: {first}"),
            };
            say.push(change, "nftables", text);
        }
    }
}

/// Tables, and whether they are dormant.
fn by_id(namespace: &Namespace) -> impl Iterator<Item = (&TableId, bool)> {
    namespace.dump.nft.iter().filter_map(|object| match object {
        Object::Table(table) => Some((&table.id, table.dormant)),
        _ => None,
    })
}

fn count(namespace: &Namespace, sign: isize, counts: &mut Counts) {
    let mut add = |place: String, kind, text: String| {
        *counts.entry((place, kind)).or_default().entry(text).or_default() += sign;
    };
    for object in &namespace.dump.nft {
        match object {
            Object::Chain(chain) => {
                let place = format!("nftables chain {} {}", chain.table, chain.name);
                let base = chain.base.as_ref().map(|base| format!("{base:?}")).unwrap_or_default();
                add(
                    format!("nftables table {}", chain.table),
                    "chain",
                    format!("{} {base}", chain.name).trim_end().to_owned(),
                );
                for rule in &chain.rules {
                    add(place.clone(), kind(rule), rule.to_string());
                }
            }
            Object::Element(element) => {
                let place = format!("nftables set {} {}", element.table, element.set);
                add(place, "element", element.key.to_string());
            }
            Object::Set(set) if !set.flags.anonymous => {
                add(format!("nftables table {}", set.table), "set", set.name.clone());
            }
            Object::Set(_) | Object::Table(_) => {}
        }
    }
}

/// What people call a rule.
fn kind(rule: &Rule) -> &'static str {
    let does = |is_it: fn(&Statement) -> bool| rule.statements.iter().any(is_it);
    match rule {
        _ if does(|it| matches!(it, Statement::Masquerade { .. })) => "masquerade rule",
        _ if does(|it| matches!(it, Statement::Nat(_) | Statement::Redirect { .. })) => "NAT rule",
        _ => "rule",
    }
}
