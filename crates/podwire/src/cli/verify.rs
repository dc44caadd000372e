//! `podwire verify` as it is typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use diagnosis::Reference;
use diagnosis::verify::{Pairs, Rule};
use render::verify::Form;

use super::cni::duration;

pub(crate) const EXAMPLES: &str = "Examples:
  podwire verify                       all labs of this machine, and its own pods
  podwire verify lab/default           a lab, held to the three promises
  podwire verify pod/pod1 node/node2   what has to do with them
  podwire verify --only mtu -o json    one rule, for programs
  podwire verify --list                what is asked, in whose words
  podwire verify --report junit=verify.xml --report html=verify.html

Packets are sent from the pods' and nodes' own namespaces to each other, and nowhere else.

Exit codes: 0 every rule holds; 1 a rule is broken; 3 could not tell, as without pods or rights; 4
there is no such thing, or several. Blocked by a policy is not broken.";

/// `podwire verify`
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// lab/NAME, pod/NAME, pod/NAMESPACE/NAME or node/NAME: what has to do with these [default:
    /// everything on this machine].
    pub(crate) subjects: Vec<Reference>,
    /// Ask the responders of several machines, which this file names, instead of this machine.
    #[arg(long, value_name = "FILE", env = "PODWIRE_VERIFY_RESPONDERS")]
    pub(crate) responders: Option<PathBuf>,
    /// Whose text is the measure [default: strict for labs, current for others].
    #[arg(long, value_enum, env = "PODWIRE_VERIFY_PROFILE")]
    pub(crate) profile: Option<Profile>,
    /// Only this rule; may be given more than once.
    #[arg(long, value_name = "RULE", value_delimiter = ',', value_parser = rules(), env = "PODWIRE_VERIFY_ONLY")]
    pub(crate) only: Vec<Rule>,
    /// Not this rule; may be given more than once.
    #[arg(long, value_name = "RULE", value_delimiter = ',', value_parser = rules(), env = "PODWIRE_VERIFY_SKIP")]
    pub(crate) skip: Vec<Rule>,
    /// Print the rules with their texts, and ask nothing.
    #[arg(long)]
    pub(crate) list: bool,
    /// Which pairs: all, or sample=N, which leaves out no pod and no two nodes [default: all up to
    /// 10,000 pairs of pods, else sample=2000].
    #[arg(long, value_parser = pairs, env = "PODWIRE_VERIFY_PAIRS")]
    pub(crate) pairs: Option<Pairs>,
    /// The form of the report [default: text, or what the file's suffix says].
    #[arg(short, long, value_parser = forms())]
    pub(crate) output: Option<Form>,
    /// Write to a file; its suffix says the form: txt, json, xml, md or html.
    #[arg(short = 'O', long, value_name = "FILE")]
    pub(crate) output_file: Option<PathBuf>,
    /// One more report into a file; may be given more than once.
    #[arg(long, value_name = "FORM=FILE", value_parser = report)]
    pub(crate) report: Vec<(Form, PathBuf)>,
    /// How long an answer is waited for.
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = duration, env = "PODWIRE_VERIFY_TIMEOUT")]
    pub(crate) timeout: Duration,
    /// A rule that there is nothing to ask about (as dns without a resolver) is an answer that is
    /// missing: exit code 3.
    #[arg(long, env = "PODWIRE_VERIFY_STRICT")]
    pub(crate) strict: bool,
}

/// Whose text is the measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// The three promises that Kubernetes' networking began with.
    Strict,
    /// What Kubernetes' page says today.
    Current,
}

impl From<Profile> for diagnosis::verify::Profile {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Strict => Self::Strict,
            Profile::Current => Self::Current,
        }
    }
}

fn rules() -> impl TypedValueParser<Value = Rule> {
    PossibleValuesParser::new(Rule::ALL.map(Rule::name)).try_map(|name| name.parse::<Rule>())
}

fn forms() -> impl TypedValueParser<Value = Form> {
    PossibleValuesParser::new(Form::ALL.map(Form::name)).try_map(|name| name.parse::<Form>())
}

fn pairs(text: &str) -> Result<Pairs, String> {
    let wrong = || "expected all or sample=N".to_owned();
    match text.split_once('=') {
        None if text == "all" => Ok(Pairs::All),
        Some(("sample", number)) => number.parse().map(Pairs::Sample).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

fn report(text: &str) -> Result<(Form, PathBuf), String> {
    let (form, file) = text.split_once('=').ok_or("expected FORM=FILE, such as junit=out.xml")?;
    let form = form.parse::<Form>().map_err(|error| error.to_string())?;
    match file {
        "" => Err("there is no file's name after the form".to_owned()),
        file => Ok((form, file.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_reports_are_read_or_refused() {
        assert_eq!(pairs("all"), Ok(Pairs::All));
        assert_eq!(pairs("sample=200"), Ok(Pairs::Sample(200)));
        for wrong in ["", "some", "sample", "sample=", "sample=-1", "all=3"] {
            pairs(wrong).unwrap_err();
        }
        assert_eq!(report("junit=a=b.xml"), Ok((Form::Junit, "a=b.xml".into())));
        for wrong in ["", "junit", "junit=", "xml=a"] {
            report(wrong).unwrap_err();
        }
    }
}
