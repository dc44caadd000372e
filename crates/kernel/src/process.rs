//! Processes: waiting for them, with what they used, how this one keeps its memory, and under which
//! kernel it runs.

use std::process::{Child, ExitStatus};
use std::time::Duration;

use crate::error::{Error, Result};

/// What a process used up while it lived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The most memory that it had in use at once, in bytes; at least what its parent had in use
    /// when it was started, because the kernel counts from there.
    pub peak_memory: u64,
    /// The time of processors that it took, its own and the kernel's for it.
    pub processor_time: Duration,
}

/// Waits until a process ends. Its pipes stay with the caller, who empties them first.
pub fn wait(child: &mut Child) -> Result<(ExitStatus, Usage)> {
    use std::os::unix::process::ExitStatusExt;

    // `Child::wait` closes it, too: a child that reads to the end would never come to its own.
    drop(child.stdin.take());
    let mut status = 0;
    // SAFETY: all zeroes are a valid `rusage`, which consists of numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live values of ours; the process has not been waited for,
        // since whoever does that through `Child` has no use for this function.
        match unsafe { libc::wait4(child.id() as libc::pid_t, &mut status, 0, &mut usage) } {
            -1 => {
                let error = std::io::Error::last_os_error();
                if error.kind() != std::io::ErrorKind::Interrupted {
                    return Err(Error::io("wait for a process", &error));
                }
            }
            _ => {
                let peak_memory = u64::try_from(usage.ru_maxrss).unwrap_or_default() * 1024;
                let processor_time = duration(usage.ru_utime) + duration(usage.ru_stime);
                let usage = Usage { peak_memory, processor_time };
                return Ok((ExitStatus::from_raw(status), usage));
            }
        }
    }
}

fn duration(time: libc::timeval) -> Duration {
    let part = |value: i64| u64::try_from(value).unwrap_or_default();
    Duration::from_secs(part(time.tv_sec)) + Duration::from_micros(part(time.tv_usec))
}

/// Has this process give back memory that it needs no more, at the price of asking for it again: for
/// one that lives long, works seldom and then with much. By itself glibc keeps what a thread once had
/// for that thread, and takes the largest piece that it has seen for a small one. Lower limits would
/// save half a megabyte and cost the agent a tenth of its time for thousands of peers, in pages that
/// come and go. Called before threads are started.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    for (what, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, 256 * 1024),
        (libc::M_TRIM_THRESHOLD, 1024 * 1024),
    ] {
        // SAFETY: it takes numbers; what it does not know it refuses.
        unsafe { libc::mallopt(what, value) };
    }
}

/// The kernel's version, as far as it decides.
pub fn release() -> (u32, u32) {
    let name = rustix::system::uname();
    let text = name.release().to_string_lossy();
    let mut numbers =
        text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "tests start processes")]
    fn a_process_that_ended_has_used_memory() {
        let mut child = std::process::Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        let (status, usage) = wait(&mut child).unwrap();
        assert_eq!(status.code(), Some(3));
        assert!(usage.peak_memory > 64 * 1024, "{usage:?}");
        assert!(!usage.processor_time.is_zero(), "{usage:?}");
    }
}
