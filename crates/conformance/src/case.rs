//! What a case is: a promise of the plugins that users rely on, and how to see whether it is kept.

use std::fmt;

use cni::Version;

use crate::node::Node;

/// One promise, for each of the plugins that make it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name, the same for each subject.
    pub what: &'static str,
    /// Who makes it: plugins, or chains of plugins joined by `+`. The last one is judged.
    pub subjects: &'static [&'static str],
    /// What is checked, as a sentence.
    pub checks: &'static str,
    /// Where the promise is written down.
    pub source: &'static str,
    /// The version of the specification that the plugins must speak for it to be theirs.
    pub since: Version,
    /// Further plugins that it takes.
    pub also: &'static [&'static str],
    /// Who is known not to keep it.
    pub known: &'static [Known],
    /// Sees whether it is kept, on a fresh machine, and panics if it is not.
    pub run: fn(&Node),
}

/// A difference that is known: a case that fails, and has to fail just so.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Whose.
    pub by: By,
    /// The only subject that has it; every one if there is none.
    pub of: Option<&'static str>,
    /// Part of the failure's text, so that no other failure passes for it.
    pub shows: &'static str,
    /// Why it is so.
    pub because: &'static str,
}

/// Whose a known difference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The plugins of the containernetworking project, up to 1.9.
    Reference,
    /// Those of them that do not speak 1.1.0 of the specification, such as Debian 12's 1.1.1.
    OldReference,
    /// podwire's.
    Podwire,
}

/// Whose a plugin is, told by how it introduces itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    /// A plugin of the containernetworking project, or one that is built as those are.
    Reference,
    /// podwire's.
    Podwire,
    /// Somebody else's, of whom nothing is known.
    Other,
}

/// A case for one of its subjects.
#[derive(Clone, Copy, Debug)]
pub struct Instance {
    /// The case.
    pub case: &'static Case,
    /// The subject.
    pub subject: &'static str,
}

/// Makes a case named as its function.
macro_rules! case {
    ($run:ident, $subjects:expr, $source:expr, $checks:expr) => {
        $crate::case::Case {
            what: stringify!($run),
            subjects: $subjects,
            checks: $checks,
            source: $source,
            since: cni::Version::V0_1_0,
            also: &[],
            known: &[],
            run: $run,
        }
    };
}
pub(crate) use case;

impl Case {
    pub(crate) const fn since(self, since: Version) -> Self {
        Self { since, ..self }
    }

    pub(crate) const fn also(self, also: &'static [&'static str]) -> Self {
        Self { also, ..self }
    }

    pub(crate) const fn known(self, known: &'static [Known]) -> Self {
        Self { known, ..self }
    }
}

impl Known {
    pub(crate) const fn new(by: By, shows: &'static str, because: &'static str) -> Self {
        Self { by, of: None, shows, because }
    }

    pub(crate) const fn of(self, subject: &'static str) -> Self {
        Self { of: Some(subject), ..self }
    }
}

impl Instance {
    /// Its name, which no other one has.
    pub fn name(&self) -> String {
        format!("{}/{}", self.subject, self.case.what)
    }

    /// The plugin that is judged.
    pub fn judged(&self) -> &'static str {
        self.subject.rsplit('+').next().unwrap_or(self.subject)
    }

    /// The files that it takes.
    pub fn needs(&self) -> impl Iterator<Item = &'static str> {
        // A main plugin has its addresses from this one where a case does not say otherwise.
        let ipam = self.subject.starts_with("bridge") || self.subject.starts_with("ptp");
        let ipam = ipam.then_some("host-local");
        self.subject.split('+').chain(ipam).chain(self.case.also.iter().copied())
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reference => "containernetworking/plugins up to 1.9",
            Self::OldReference => "containernetworking/plugins before spec 1.1.0",
            Self::Podwire => "podwire",
        })
    }
}

impl fmt::Display for Implementation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reference => "containernetworking/plugins",
            Self::Podwire => "podwire",
            Self::Other => "unknown",
        })
    }
}
