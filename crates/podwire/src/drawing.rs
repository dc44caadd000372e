//! Pictures and other answers, as they are asked for and where they go.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use render::{Format, View};

use crate::cli::print;
use crate::failure::{Exit, Failure, Result};
use crate::terminal::{Terminal, harmless};

/// The form of an answer, and its file.
#[derive(Debug, Args)]
pub(crate) struct Drawing {
    /// The form of the answer [default: text, or what the file's suffix says].
    #[arg(short, long, value_parser = formats())]
    output: Option<Format>,
    /// Write to a file; its suffix says the form: txt, tree, svg, html, dot, mmd or json.
    #[arg(short = 'O', long, value_name = "FILE")]
    output_file: Option<PathBuf>,
}

/// The forms by their names.
fn formats() -> impl TypedValueParser<Value = Format> {
    let names = PossibleValuesParser::new(Format::ALL.map(Format::name));
    names.try_map(|name| name.parse::<Format>())
}

impl Drawing {
    /// The form that is asked for.
    pub(crate) fn format(&self) -> Result<Format> {
        match (self.output, &self.output_file) {
            (Some(format), _) => Ok(format),
            (None, None) => Ok(Format::Text),
            (None, Some(path)) => Format::of(path).ok_or_else(|| {
                let path = harmless(&path.display().to_string());
                let what = format!("the suffix of {path} is that of no form of an answer");
                let names = Format::ALL.map(Format::suffix).join(", ");
                Failure::new(Exit::Usage, what)
                    .remedy(format!("end it with one of {names}, or name the form by -o"))
            }),
        }
    }

    /// What can be shown where the answer goes: a file has no colours, and takes all characters.
    pub(crate) fn terminal(&self, terminal: Terminal) -> Terminal {
        match self.output_file {
            Some(_) => Terminal { color: false, unicode: true, ..terminal },
            None => terminal,
        }
    }

    /// Puts the answer where it is wanted.
    pub(crate) fn put(&self, answer: &str) -> Result<()> {
        let Some(path) = &self.output_file else { return print(answer) };
        fs::write(path, answer).map_err(|error| {
            let path = harmless(&path.display().to_string());
            Failure::new(Exit::Unknown, format!("write {path}: {error}"))
        })
    }
}

/// A picture; one for a terminal is as wide as that.
pub(crate) fn draw(format: Format, view: View<'_>, terminal: Terminal) -> String {
    let width = (format == Format::Text).then_some(terminal.width);
    render::write(format, &View { width, unicode: terminal.unicode, ..view })
}
