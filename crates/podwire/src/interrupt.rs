//! Ctrl-C and `SIGTERM` ask to stop; what was made is then removed in good order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::failure::Exit;

/// The signal that asked to stop, if one did.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// Listens from now on. Where that is impossible, a signal ends the process at once, and the
    /// next command clears what it left.
    pub(crate) fn listen() -> Self {
        let signal = Arc::new(AtomicUsize::new(0));
        for number in [SIGINT, SIGTERM] {
            let _ = signal_hook::flag::register_usize(number, signal.clone(), number as usize);
        }
        Self(signal)
    }

    /// How to end because of it.
    pub(crate) fn exit(&self) -> Option<Exit> {
        match self.0.load(Ordering::Relaxed) as i32 {
            0 => None,
            SIGTERM => Some(Exit::Terminated),
            _ => Some(Exit::Interrupted),
        }
    }
}
