//! Ctrl-C, `SIGTERM` and a terminal that goes away ask to stop; what was made is then removed in
//! good order.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::failure::{Exit, Failure};

/// The signal that asked to stop, if one did.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// Listens from now on. Where that is impossible, a signal ends the process at once, and the
    /// next command clears what it left.
    pub(crate) fn listen() -> Self {
        let signal = Arc::new(AtomicUsize::new(0));
        // `nohup` promises that this process and those that it starts outlive the terminal.
        let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
        for number in [SIGINT, SIGTERM].into_iter().chain(hangup) {
            let _ = signal_hook::flag::register_usize(number, signal.clone(), number as usize);
        }
        Self(signal)
    }

    /// How to end because of it.
    pub(crate) fn exit(&self) -> Option<Exit> {
        match self.0.load(Ordering::Relaxed) as i32 {
            0 => None,
            SIGHUP => Some(Exit::HungUp),
            SIGTERM => Some(Exit::Terminated),
            _ => Some(Exit::Interrupted),
        }
    }

    /// Why an operation failed, where it may be because of that.
    pub(crate) fn failure(&self, error: impl Into<Failure>) -> Failure {
        error.into().exit(self.exit())
    }
}

/// Whether whoever started this process has it ignore a signal.
fn is_ignored(number: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (number - 1) & 1 == 1)
}
