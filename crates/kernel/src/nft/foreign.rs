//! Removing what other programs made in nftables, by what they called it.
//!
//! Their rules have no keys, only handles, so they are looked for first. Whatever else is in a rule
//! is not looked at: a rule of iptables' nft form is removed like any other.

use net::Space;
use net::nft::{Chain, Rule, Statement, TableId, Verdict};

use super::message::{parse_rule, put_chain_name, put_rule_handle, put_rules_name, rule_handle};
use super::transaction::{Request, send};
use super::uapi::msg;
use super::{found, number, unsupported};
use crate::error::Result;
use crate::executor::Kernel;
use crate::netlink::Socket;
use crate::observe::without_nftables;

/// The kernel's longest name of a chain, in bytes (`NFT_CHAIN_MAXNAMELEN` without the end of the
/// string). It refuses to look for a longer one.
const LONGEST_NAME: usize = 255;

impl Kernel {
    /// Deletes an nftables chain that another program made, with its rules and those that lead to
    /// it; gone already is done. What podwire makes is changed by plans instead.
    pub fn remove_foreign_chain(
        &mut self,
        space: &Space,
        table: &TableId,
        chain: &str,
    ) -> Result<bool> {
        let (home, handle) = self.handle(space)?;
        let socket = handle.netfilter(home);
        without_nftables(socket.and_then(|socket| remove_chain(socket, table, chain)))
    }

    /// Deletes those of another program's rules in a chain that `unwanted` picks.
    pub fn remove_foreign_rules(
        &mut self,
        space: &Space,
        table: &TableId,
        chain: &str,
        unwanted: impl Fn(&Rule) -> bool,
    ) -> Result<()> {
        let (home, handle) = self.handle(space)?;
        let socket = handle.netfilter(home);
        without_nftables(socket.and_then(|socket| remove_rules(socket, table, chain, unwanted)))
    }
}

/// Deletes a chain, its rules, and the rules of its table that lead to it; `false` if there is no
/// such chain.
fn remove_chain(socket: &mut Socket, table: &TableId, name: &str) -> Result<bool> {
    if name.len() > LONGEST_NAME {
        return Ok(false);
    }
    let chain = nameless(table, name);
    let there = socket.get(number(msg::GETCHAIN), put_chain_name(&chain).bytes(), |_| {});
    if found(there.map_err(unsupported))?.is_none() {
        return Ok(false);
    }
    let leads_here = |rule: &Rule| {
        rule.statements.iter().any(|statement| match statement {
            Statement::Verdict(Verdict::Jump(to) | Verdict::Goto(to)) => to == name,
            _ => false,
        })
    };
    let mut requests = deletions(socket, table, None, leads_here)?;
    requests.push(Request::delete(msg::DELRULE, put_rules_name(&chain)));
    requests.push(Request::delete(msg::DELCHAIN, put_chain_name(&chain)));
    make(socket, &requests).map(|()| true)
}

/// Deletes the rules of a chain that `unwanted` picks; none if there is no such chain.
fn remove_rules(
    socket: &mut Socket,
    table: &TableId,
    chain: &str,
    unwanted: impl Fn(&Rule) -> bool,
) -> Result<()> {
    let requests = deletions(socket, table, Some(chain), unwanted)?;
    make(socket, &requests)
}

/// The requests that delete the rules picked, of one chain or of all.
fn deletions(
    socket: &mut Socket,
    table: &TableId,
    chain: Option<&str>,
    unwanted: impl Fn(&Rule) -> bool,
) -> Result<Vec<Request>> {
    let mut requests = Vec::new();
    let question = put_rules_name(&nameless(table, chain.unwrap_or_default()));
    let all = socket.dump(number(msg::GETRULE), question.bytes(), |message| {
        let Some((of, chain, rule)) = parse_rule(message.payload) else { return };
        let Some(handle) = rule_handle(message.payload) else { return };
        if of == *table && unwanted(&rule) {
            let message = put_rule_handle(&nameless(table, &chain), &handle);
            requests.push(Request::delete(msg::DELRULE, message));
        }
    });
    found(all.map_err(unsupported))?;
    Ok(requests)
}

fn make(socket: &mut Socket, requests: &[Request]) -> Result<()> {
    if requests.is_empty() {
        return Ok(());
    }
    match send(socket, requests)?.into_iter().next() {
        // Somebody else was quicker.
        Some((_, error)) if error.raw_errno() == Some(libc::ENOENT) => Ok(()),
        Some((_, error)) => Err(error.during("remove what another program left in nftables")),
        None => Ok(()),
    }
}

fn nameless(table: &TableId, name: &str) -> Chain {
    Chain { table: table.clone(), name: name.to_owned(), base: None, rules: Vec::new() }
}
