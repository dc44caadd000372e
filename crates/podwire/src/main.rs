//! `podwire`: the command line. Called by a plugin's name, it is that plugin.

mod agent;
mod cli;
mod cni;
mod completion;
mod demo;
mod doctor;
mod drawing;
mod dry_run;
mod explain;
mod failure;
mod install;
mod interrupt;
mod ipam;
mod lab;
mod look;
mod progress;
mod replace;
mod responder;
mod snapshot;
mod table;
mod terminal;
mod verify;

use std::process::ExitCode;

fn main() -> ExitCode {
    let called = std::env::args_os().next();
    match plugins::main(plugins::called_as(called.as_deref())) {
        Some(code) => code,
        None => cli::main(),
    }
}
