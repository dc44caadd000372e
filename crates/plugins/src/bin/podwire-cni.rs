//! All of podwire's CNI plugins in one program, which acts by the name it is called by.

use std::process::ExitCode;

fn main() -> ExitCode {
    let first = std::env::args_os().next();
    plugins::main(plugins::called_as(first.as_deref())).unwrap_or_else(|| {
        eprintln!("podwire-cni is a set of CNI plugins: {}", plugins::NAMES.join(", "));
        eprintln!(
            "It acts by the name it is called by; `podwire install` puts the names into place."
        );
        ExitCode::from(2)
    })
}
