//! Pictures, as they are asked for and where they go.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use render::{Format, View};

use crate::cli::print;
use crate::failure::{Exit, Failure, Result};
use crate::terminal::{Terminal, harmless};

/// The form of a picture, and its file.
#[derive(Debug, Args)]
pub(crate) struct Drawing {
    /// The form of the picture [default: text, or what the file's suffix says].
    #[arg(short, long, value_parser = formats())]
    output: Option<Format>,
    /// Write to a file; its suffix says the form: txt, tree, svg, html, dot, mmd or json.
    #[arg(short = 'O', long, value_name = "FILE")]
    output_file: Option<PathBuf>,
}

/// The forms by their names.
pub(crate) fn formats() -> impl TypedValueParser<Value = Format> {
    let names = PossibleValuesParser::new(Format::ALL.map(Format::name));
    names.try_map(|name| name.parse::<Format>())
}

impl Drawing {
    /// Draws what is to be seen, to where it is wanted.
    pub(crate) fn write(&self, view: View<'_>, terminal: Terminal) -> Result<()> {
        let format = self.format()?;
        let Some(path) = &self.output_file else {
            let width = (format == Format::Text).then_some(terminal.width);
            let view = View { width, unicode: terminal.unicode, ..view };
            return print(&render::write(format, &view));
        };
        fs::write(path, render::write(format, &view)).map_err(|error| {
            let path = harmless(&path.display().to_string());
            Failure::new(Exit::Unknown, format!("write {path}: {error}"))
        })
    }

    fn format(&self) -> Result<Format> {
        match (self.output, &self.output_file) {
            (Some(format), _) => Ok(format),
            (None, None) => Ok(Format::Text),
            (None, Some(path)) => Format::of(path).ok_or_else(|| {
                let path = harmless(&path.display().to_string());
                let what = format!("the suffix of {path} is that of no picture");
                let names = Format::ALL.map(Format::suffix).join(", ");
                Failure::new(Exit::Usage, what)
                    .remedy(format!("end it with one of {names}, or name the form by -o"))
            }),
        }
    }
}
