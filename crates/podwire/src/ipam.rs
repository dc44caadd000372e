//! `podwire ipam`: the addresses that host-local has given out on this node, whoever's plugin did.

mod check;
mod collect;
mod list;
mod survey;

use std::process::ExitCode;

pub(crate) use self::check::Report;
pub(crate) use self::list::ReservationList;
use crate::cli::ipam::IpamCommand;
use crate::failure::Result;
use crate::terminal::Terminal;

/// Runs one of its commands.
pub(crate) fn run(command: &IpamCommand, terminal: Terminal) -> Result<ExitCode> {
    match command {
        IpamCommand::List(it) => list::run(it, terminal),
        IpamCommand::Check(it) => check::run(it, terminal),
        IpamCommand::Gc(it) => collect::run(it),
    }
}
