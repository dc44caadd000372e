//! The node file as a source: read, and read again when it changes.

use std::ffi::{CStr, OsString};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fabric::{Node, Report, parse_nodes};
use rustix::fs::inotify;

/// How often the file is read without any sign of a change: a directory may come to be, and a mount
/// may go.
const SLOW: Duration = Duration::from_secs(30);
/// How long the file is let rest that came or went, and may be about to be written or replaced.
const SETTLE: Duration = Duration::from_millis(10);

/// The nodes of a file, or why there are none, with the file's name.
pub(super) fn read(path: &Path) -> Result<Vec<Node>, String> {
    parse(path, &text(path)?)
}

fn text(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("read {}: {error}", path.display()))
}

fn parse(path: &Path, text: &str) -> Result<Vec<Node>, String> {
    parse_nodes(text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Tells the file's nodes whenever it says something else, for ever. A bad version is told as such,
/// once, and the last good one stays in force.
pub(super) fn watch(path: PathBuf, tell: impl Fn(Report) + Send + 'static) {
    let run = move || {
        let watch = Watch::new(&path);
        let mut told: Option<Result<String, String>> = None;
        let mut was_good = false;
        let mut last = Instant::now();
        loop {
            let text = text(&path);
            if told.as_ref() != Some(&text) {
                let read = text.as_ref().map_err(Clone::clone).and_then(|text| parse(&path, text));
                (last, was_good) = (Instant::now(), read.is_ok());
                tell(match read {
                    Ok(nodes) => Report::Complete(nodes.into()),
                    Err(why) => Report::Astray(why),
                });
                told = Some(text);
            } else if was_good && last.elapsed() >= SLOW {
                // As a source does that is asked anew.
                last = Instant::now();
                tell(Report::Unchanged);
            }
            watch.wait(SLOW);
        }
    };
    std::thread::spawn(run);
}

/// Something that notices changes in the directory of a file: editors and mounts replace files.
pub(super) struct Watch {
    fd: Option<OwnedFd>,
    name: OsString,
}

impl Watch {
    /// Of the directory that a file is in.
    pub(super) fn new(path: &Path) -> Self {
        let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
        let open = || -> rustix::io::Result<_> {
            let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
            let flags = FINISHED
                | inotify::WatchFlags::CREATE
                | inotify::WatchFlags::DELETE
                | inotify::WatchFlags::MOVED_FROM;
            inotify::add_watch(&fd, directory.unwrap_or(Path::new(".")), flags)?;
            Ok(fd)
        };
        Self { fd: open().ok(), name: path.file_name().unwrap_or_default().to_owned() }
    }

    /// Returns when something has changed, or after `patience`.
    pub(super) fn wait(&self, patience: Duration) {
        let Some(fd) = &self.fd else {
            std::thread::sleep(Duration::from_secs(1));
            return;
        };
        let timeout = rustix::event::Timespec::try_from(patience).ok();
        let mut fds = [rustix::event::PollFd::new(fd, rustix::event::PollFlags::IN)];
        let is_told = rustix::event::poll(&mut fds, timeout.as_ref()).is_ok_and(|ready| ready > 0);
        if is_told && self.is_under_way(fd) {
            std::thread::sleep(SETTLE);
            self.is_under_way(fd);
        }
    }

    /// Takes what has been noticed so far; whether more is about to come: the file came or went, and was
    /// neither closed by who wrote it nor put in its place as a whole. What happens to files beside it
    /// is waited for by nobody.
    fn is_under_way(&self, fd: &OwnedFd) -> bool {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(fd, &mut buffer);
        let mut last_is_end = true;
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(CStr::to_bytes);
            if name == Some(self.name.as_bytes()) {
                last_is_end = event.events().bits() & FINISHED.bits() != 0;
            }
        }
        !last_is_end
    }
}

/// What ends a change of a file.
const FINISHED: inotify::WatchFlags =
    inotify::WatchFlags::CLOSE_WRITE.union(inotify::WatchFlags::MOVED_TO);
