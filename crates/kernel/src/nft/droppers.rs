//! What other programs drop of what is forwarded, so that one who looks for lost packets knows whom
//! to ask.
//!
//! Rules are read for their verdicts only: a firewall has thousands, and what else is in them does
//! not matter here.

use std::collections::{HashMap, HashSet};

use net::Space;
use net::nft::{Chain, Family, Hook, Policy, TableId};

use super::expression::{be32, text};
use super::message::{begin_any, parse_chain, parse_table, put_rules_name, split};
use super::uapi::{data, expr, msg, rule};
use super::{collect, consistent, found, number};
use crate::attribute::iterate;
use crate::error::Result;
use crate::executor::Kernel;
use crate::netlink::Socket;
use crate::observe::without_nftables;

/// A base chain of another program that may drop what is forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignDrop {
    /// Which packets it sees.
    pub family: Family,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// It drops whatever none of its rules decides about.
    pub policy_drop: bool,
    /// A rule of it, or of a chain that its rules lead to, drops or rejects. What maps lead to is
    /// not looked at.
    pub drop_rules: bool,
    /// One of those rules drops or rejects whatever comes to it, and whatever comes to the base chain
    /// comes to it unless an earlier rule has decided.
    pub drops_the_rest: bool,
}

impl Kernel {
    /// The base chains at hook forward, in other tables than podwire's own, that may drop packets.
    pub fn forward_droppers(&mut self, space: &Space) -> Result<Vec<ForeignDrop>> {
        let (home, handle) = self.handle(space)?;
        let read = handle.netfilter(home).and_then(|socket| {
            consistent(socket, droppers).map_err(|error| error.during("look for firewalls"))
        });
        without_nftables(read)
    }
}

fn droppers(socket: &mut Socket) -> Result<Vec<ForeignDrop>> {
    let mut dormant = collect(socket, msg::GETTABLE, &begin_any(), parse_table)?;
    dormant.retain(|table| table.dormant);
    let chains = collect(socket, msg::GETCHAIN, &begin_any(), parse_chain)?;
    let is_forward = |chain: &Chain| {
        let own = [net::owner::AGENT_NFT_TABLE, net::owner::PLUGIN_NFT_TABLE];
        chain.base.as_ref().is_some_and(|base| base.hook == Hook::Forward)
            && dormant.iter().all(|table| table.id != chain.table)
            && !own.contains(&chain.table.name.as_str())
    };
    let mut tables: HashMap<TableId, HashMap<String, Verdicts>> = HashMap::new();
    let mut droppers = Vec::new();
    for chain in chains.into_iter().filter(is_forward) {
        let Chain { table, name, base, .. } = chain;
        if !tables.contains_key(&table) {
            let verdicts = verdicts_of(socket, &table)?;
            tables.insert(table.clone(), verdicts);
        }
        let (mut some, mut rest) = (false, false);
        if let Some(verdicts) = tables.get(&table) {
            some = reaches(verdicts, &name, |it| &it.leads_to, |it| it.drops);
            rest = reaches(verdicts, &name, |it| &it.always_leads_to, |it| it.drops_all);
        }
        let policy_drop = base.is_some_and(|base| base.policy == Policy::Drop);
        if policy_drop || some {
            droppers.push(ForeignDrop {
                family: table.family,
                table: table.name.to_string(),
                chain: name,
                policy_drop,
                drop_rules: some,
                drops_the_rest: rest,
            });
        }
    }
    Ok(droppers)
}

/// What the rules of a chain come to.
#[derive(Debug, Default)]
struct Verdicts {
    drops: bool,
    /// By a rule that matches everything.
    drops_all: bool,
    leads_to: Vec<String>,
    /// By a rule that matches everything.
    always_leads_to: Vec<String>,
}

/// Whether `is_found` holds for a chain, or for one that `next` leads to from it.
fn reaches(
    chains: &HashMap<String, Verdicts>,
    from: &str,
    next: impl Fn(&Verdicts) -> &[String],
    is_found: impl Fn(&Verdicts) -> bool,
) -> bool {
    let mut seen = HashSet::new();
    let mut open = vec![from];
    while let Some(name) = open.pop() {
        let Some(chain) = chains.get(name).filter(|_| seen.insert(name)) else { continue };
        if is_found(chain) {
            return true;
        }
        open.extend(next(chain).iter().map(String::as_str));
    }
    false
}

/// The verdicts of all rules of a table, by chain.
fn verdicts_of(socket: &mut Socket, table: &TableId) -> Result<HashMap<String, Verdicts>> {
    let all = Chain { table: table.clone(), name: String::new(), base: None, rules: Vec::new() };
    let mut chains: HashMap<String, Verdicts> = HashMap::new();
    let read = socket.dump(number(msg::GETRULE), put_rules_name(&all).bytes(), |message| {
        let Some((_, attributes)) = split(message.payload) else { return };
        let mut chain = None;
        let mut expressions = &[][..];
        for (kind, value) in iterate(attributes) {
            match kind {
                rule::CHAIN => chain = Some(text(value)),
                rule::EXPRESSIONS => expressions = value,
                _ => {}
            }
        }
        if let Some(chain) = chain {
            chains.entry(chain).or_default().add(expressions);
        }
    });
    found(read)?;
    Ok(chains)
}

impl Verdicts {
    /// Adds what one rule comes to.
    fn add(&mut self, expressions: &[u8]) {
        // What only counts or tells lets every packet go on to the verdict.
        const PASSIVE: [&str; 3] = ["counter", "log", "notrack"];
        let mut matches_all = true;
        for (_, expression) in iterate(expressions) {
            let (mut name, mut inner) = (String::new(), &[][..]);
            for (kind, value) in iterate(expression) {
                match kind {
                    expr::NAME => name = text(value),
                    expr::DATA => inner = value,
                    _ => {}
                }
            }
            let drops = match name.as_str() {
                "immediate" => match verdict(inner) {
                    Some((data::DROP, _)) => true,
                    Some((data::JUMP | data::GOTO, Some(chain))) => {
                        if matches_all {
                            self.always_leads_to.push(chain.clone());
                        }
                        self.leads_to.push(chain);
                        false
                    }
                    _ => false,
                },
                "reject" => true,
                // A target of iptables.
                "target" => {
                    attribute(inner, expr::TARGET_NAME).map(text).as_deref() == Some("REJECT")
                }
                passive => {
                    matches_all &= PASSIVE.contains(&passive);
                    false
                }
            };
            self.drops |= drops;
            self.drops_all |= drops && matches_all;
        }
    }
}

/// The verdict of an immediate expression, with the chain that it leads to.
fn verdict(inner: &[u8]) -> Option<(i32, Option<String>)> {
    let verdict = attribute(attribute(inner, expr::IMMEDIATE_DATA)?, data::VERDICT)?;
    let code = be32(attribute(verdict, data::VERDICT_CODE)?)? as i32;
    Some((code, attribute(verdict, data::VERDICT_CHAIN).map(text)))
}

fn attribute(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    iterate(attributes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}
