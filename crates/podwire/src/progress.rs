//! A line on the terminal for what takes more than a moment.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How long nothing is said.
const SILENCE: Duration = Duration::from_secs(1);

/// How much of a known number of parts is done.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    done: usize,
    all: usize,
    shown: bool,
}

impl Progress {
    /// Nothing of `all` parts is done.
    pub(crate) fn new(all: usize) -> Self {
        Self { started: Instant::now(), done: 0, all, shown: false }
    }

    /// One more part is done.
    pub(crate) fn tell(&mut self) {
        self.tell_more(1);
    }

    /// So many more are done.
    pub(crate) fn tell_more(&mut self, parts: usize) {
        self.done += parts;
        let mut stderr = io::stderr();
        if self.started.elapsed() > SILENCE && stderr.is_terminal() {
            self.shown = true;
            let _ = write!(stderr, "\r{} of {} ", self.done, self.all);
        }
    }

    /// Makes room for what comes after.
    pub(crate) fn end(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
