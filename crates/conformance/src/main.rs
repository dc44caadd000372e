//! `conformance`: whether a directory of CNI plugins keeps what users of such plugins rely on.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use conformance::{Directory, Report};

/// Tests a directory of CNI plugins, each case in namespaces of its own.
#[derive(Debug, Parser)]
#[command(name = "conformance")]
#[command(after_help = "Exit codes: 0 all is as expected, 1 something is not, 2 wrong use, \
    3 could not tell.")]
struct Cli {
    /// The directory of the plugins.
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    plugins: Option<PathBuf>,
    /// Only the cases whose name contains this.
    #[arg(long, value_name = "FILTER", default_value = "")]
    only: String,
    /// Print the cases and what they check, and run none.
    #[arg(long)]
    list: bool,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people: what is not as it should be, and the sums.
    Text,
    /// For programs: everything.
    Json,
}

const NO: u8 = 1;
const USAGE: u8 = 2;
const UNKNOWN: u8 = 3;

fn main() -> ExitCode {
    conformance::become_case();
    let cli = Cli::parse();
    let Some(plugins) = cli.plugins.filter(|_| !cli.list) else {
        return print(&conformance::list(&cli.only));
    };
    let directory = match Directory::open(&plugins) {
        Ok(directory) => directory,
        Err(error) => {
            eprintln!(
                "error: {error}\n  fix: --plugins DIR with CNI plugins in it, outside of /run"
            );
            return ExitCode::from(UNKNOWN);
        }
    };
    if let Err(why) = conformance::check_machine(&[]) {
        eprintln!(
            "error: no case can run on this machine: {}\n  fix: install what is missing, or allow \
             user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone)",
            why.trim_end()
        );
        return ExitCode::from(UNKNOWN);
    }
    let finished = conformance::run(&directory, &cli.only, &[]);
    if finished.is_empty() {
        eprintln!("error: no case has {:?} in its name\n  fix: --list shows their names", cli.only);
        return ExitCode::from(USAGE);
    }
    let report = Report { directory, finished };
    let text = match cli.output {
        Output::Text => format!("{report}\n"),
        Output::Json => format!("{:#}\n", report.json()),
    };
    let printed = print(&text);
    if report.is_good() { printed } else { ExitCode::from(NO) }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // Who closed the pipe has read enough.
        Err(_) => ExitCode::from(UNKNOWN),
    }
}
