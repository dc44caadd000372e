//! Runs a program and prints the most memory, in bytes, that it had in use at once.
//!
//! A program of its own because the kernel counts from what the parent had in use: the parent has
//! to be smaller than what it measures.
#![expect(clippy::disallowed_methods, reason = "measuring a process means starting it")]

use std::process::{Command, ExitCode, Stdio};

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().ok_or("usage: peak PROGRAM [ARGUMENT]…")?;
    let mut child = Command::new(program).args(arguments).stdout(Stdio::null()).spawn()?;
    let (status, usage) = kernel::process::wait(&mut child)?;
    println!("{}", usage.peak_memory);
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
