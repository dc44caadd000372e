//! What breaks a lab and repairs it, as it is typed.

use clap::Args;
use clap::builder::PossibleValuesParser;
use lab::faults::{self, Fault};

use super::Format;
use super::lab::{Show, Which};

/// A fault by its name; shells complete it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known(pub(crate) &'static Fault);

/// How a fault is understood.
fn known() -> impl clap::builder::TypedValueParser<Value = Known> {
    use clap::builder::TypedValueParser;
    let names = faults::all().map(|fault| clap::builder::PossibleValue::new(fault.name));
    PossibleValuesParser::new(names.collect::<Vec<_>>()).try_map(|name| {
        faults::named(&name).map(Known).ok_or_else(|| format!("there is no fault {name}"))
    })
}

/// `podwire lab break`
#[derive(Debug, Args)]
pub(crate) struct Break {
    /// Which fault; `podwire lab faults` lists them.
    #[arg(value_parser = known(), hide_possible_values = true)]
    pub(crate) fault: Known,
    /// What it is made on, such as pod/pod1, node/node2 or link/pod1:eth0 [default: the first that it
    /// can be made on].
    #[arg(long, value_name = "OBJ")]
    pub(crate) on: Option<String>,
    /// Also if an agent is at work that heals it at once.
    #[arg(long)]
    pub(crate) anyway: bool,
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) show: Show,
}

/// `podwire lab fix`
#[derive(Debug, Args)]
pub(crate) struct Fix {
    /// Which fault [default: all but the one that a quiz hides].
    #[arg(value_parser = known(), hide_possible_values = true)]
    pub(crate) fault: Option<Known>,
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) show: Show,
}

/// `podwire lab faults`
#[derive(Debug, Args)]
pub(crate) struct Faults {
    /// Tell all about this one.
    #[arg(value_parser = known(), hide_possible_values = true)]
    pub(crate) fault: Option<Known>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
    /// Leave the first line out.
    #[arg(long)]
    pub(crate) no_headers: bool,
}

/// `podwire lab quiz`
#[derive(Debug, Args)]
pub(crate) struct Quiz {
    /// Which one is hidden, and where, follows from this number [default: by chance].
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Look whether it is repaired, also by packets, and say what it was.
    #[arg(long, conflicts_with_all = ["seed", "hint", "give_up"])]
    pub(crate) check: bool,
    /// Tell a little about it; a little more each time.
    #[arg(long, conflicts_with_all = ["seed", "give_up"])]
    pub(crate) hint: bool,
    /// Say what it is, and repair it.
    #[arg(long, conflicts_with = "seed")]
    pub(crate) give_up: bool,
    #[command(flatten)]
    pub(crate) which: Which,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
}
