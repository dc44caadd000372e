//! What the reader's terminal can show.

use std::env;
use std::io::IsTerminal;

use render::Picture;

use crate::cli::Color;

/// The width where nobody says how wide the terminal is.
const WIDTH: usize = 100;

/// What may be printed to standard output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    /// Colours and weights.
    pub(crate) color: bool,
    /// Box drawing.
    pub(crate) unicode: bool,
    /// Columns.
    pub(crate) width: usize,
}

impl Terminal {
    /// Looks at the flags, the environment and standard output.
    pub(crate) fn detect(color: Color, ascii: bool) -> Self {
        let stdout = std::io::stdout();
        let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || env::var_os("TERM").is_some_and(|term| term == "dumb");
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => stdout.is_terminal() && !plain,
        };
        let columns = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let size = || rustix::termios::tcgetwinsize(&stdout).ok().map(|size| size.ws_col.into());
        let width = columns.or_else(size).filter(|width| *width > 0).unwrap_or(WIDTH);
        Self { color, unicode: !ascii && is_utf8(), width }
    }

    /// How to draw on it.
    pub(crate) fn picture(self) -> Picture {
        Picture { width: self.width, unicode: self.unicode }
    }

    /// `text` with weight.
    pub(crate) fn bold(self, text: &str) -> String {
        self.styled("1", text)
    }

    /// `text` in the background.
    pub(crate) fn dim(self, text: &str) -> String {
        self.styled("2", text)
    }

    /// A word for what is as it should be.
    pub(crate) fn good(self, text: &str) -> String {
        self.styled("32", text)
    }

    /// A word for what is not.
    pub(crate) fn bad(self, text: &str) -> String {
        self.styled("1;31", text)
    }

    fn styled(self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// What a stranger has written, such as the name of a file: control characters would act on the
/// terminal, so they are shown.
pub(crate) fn harmless(text: &str) -> String {
    let shown = |char: char| match char.is_control() {
        true => char.escape_default().to_string(),
        false => char.to_string(),
    };
    text.chars().map(shown).collect()
}

/// Whether the locale's characters are UTF-8: the first of these variables that is set decides.
fn is_utf8() -> bool {
    let variables = ["LC_ALL", "LC_CTYPE", "LANG"];
    let locale = variables.iter().find_map(|name| env::var(name).ok().filter(|it| !it.is_empty()));
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}
