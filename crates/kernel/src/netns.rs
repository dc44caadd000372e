//! Network namespaces: open, compare, create, remove, enter, and start processes inside.
//!
//! A namespace is entered by one thread, for the time of one call, and never left half-way: if
//! the way back is barred, the process ends, because nothing it did afterwards would happen where
//! its author thinks.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// An open network namespace.
#[derive(Debug)]
pub struct Netns {
    file: File,
    path: PathBuf,
}

/// Who a namespace is, whatever path leads to it: device and inode of its nsfs file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NetnsId {
    /// `st_dev` of nsfs.
    pub device: u64,
    /// `st_ino`: the number that `readlink /proc/self/ns/net` shows.
    pub inode: u64,
}

const NSFS_MAGIC: u64 = 0x6e73_6673;
/// `_IO(0xb7, 3)` of `linux/nsfs.h`.
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
const OWN: &str = "/proc/thread-self/ns/net";

impl Netns {
    /// The namespace of the calling thread.
    pub fn current() -> Result<Self> {
        Self::open(Path::new(OWN))
    }

    /// The namespace of a process.
    pub fn of_process(pid: u32) -> Result<Self> {
        Self::open(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// The namespace that is bound to, or linked from, `path`. The texts of the two failures are
    /// those of the reference plugins, which runtimes look for.
    pub fn open(path: &Path) -> Result<Self> {
        let what = || format!("open network namespace {}", path.display());
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(path)
            .map_err(|e| Error::io(what(), &e))?;
        let magic = rustix::fs::fstatfs(&file)
            .map_err(|e| Error::errno(what(), e.raw_os_error(), None))?
            .f_type as u64;
        if magic != NSFS_MAGIC {
            let text = format!("unknown FS magic on {:?}: {magic:x}", path.display().to_string());
            return Err(Error::text(what(), ErrorKind::WrongKind, text));
        }
        // SAFETY: the request takes no argument and answers with a number.
        if unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) } != libc::CLONE_NEWNET {
            let text = "it is a namespace of another kind";
            return Err(Error::text(what(), ErrorKind::WrongKind, text));
        }
        Ok(Self { file, path: path.to_owned() })
    }

    /// Who this namespace is.
    pub fn id(&self) -> Result<NetnsId> {
        let metadata = self
            .file
            .metadata()
            .map_err(|e| Error::io(format!("stat {}", self.path.display()), &e))?;
        Ok(NetnsId { device: metadata.dev(), inode: metadata.ino() })
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same namespace by a second descriptor.
    pub fn twin(&self) -> Result<Self> {
        let file = self
            .file
            .try_clone()
            .map_err(|e| Error::io(format!("share {}", self.path.display()), &e))?;
        Ok(Self { file, path: self.path.clone() })
    }

    /// Runs `work` inside, on the calling thread, and comes back.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        let home = Self::current()?;
        self.enter_from(&home, work)
    }

    /// As [`Netns::enter`], for callers that keep their own namespace open.
    pub(crate) fn enter_from<T>(&self, home: &Self, work: impl FnOnce() -> T) -> Result<T> {
        // Who is there already needs no right to enter (CAP_SYS_ADMIN).
        if self.id().is_ok_and(|id| home.id().is_ok_and(|own| own == id)) {
            return Ok(work());
        }
        set(&self.file).map_err(|e| {
            Error::io(format!("enter network namespace {}", self.path.display()), &e)
        })?;
        let way_back = WayBack(home);
        let result = work();
        drop(way_back);
        Ok(result)
    }

    /// Starts a process inside.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        self.enter(|| command.spawn())?
            .map_err(|e| Error::io(format!("start {}", command.get_program().display()), &e))
    }

    /// Makes a new namespace and binds it to `path`, which must not exist.
    pub fn create(path: &Path) -> Result<Self> {
        let what = || format!("create network namespace {}", path.display());
        let make = || -> io::Result<()> {
            // SAFETY: a thread of its own leaves the shared namespace; unsharing the network
            // namespace takes no memory or descriptors away from the others.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
            bind(Path::new(OWN), path)
        };
        let in_a_thread = || {
            std::thread::scope(|scope| scope.spawn(make).join())
                .unwrap_or_else(|_| Err(io::Error::other("the thread that makes it died")))
        };
        with_mount_point(path, in_a_thread).map_err(|e| Error::io(what(), &e))?;
        Self::open(path)
    }

    /// Makes a new namespace that nothing but this value leads to: it ends with it. Its path leads
    /// there for as long, and for this process only.
    pub fn unnamed() -> Result<Self> {
        let make = || -> io::Result<File> {
            // SAFETY: as in `create`.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
            File::open(OWN)
        };
        let file = std::thread::scope(|scope| scope.spawn(make).join())
            .unwrap_or_else(|_| Err(io::Error::other("the thread that makes it died")))
            .map_err(|e| Error::io("create a network namespace", &e))?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Ok(Self { file, path })
    }

    /// Binds this namespace to one more path, which must not exist.
    pub fn bind_to(&self, path: &Path) -> Result<()> {
        with_mount_point(path, || bind(&self.path, path))
            .map_err(|e| Error::io(format!("bind network namespace to {}", path.display()), &e))
    }

    /// Takes the mount and the file at `path` away; gone already is done. The namespace itself
    /// ends with its last process, descriptor or mount.
    pub fn remove(path: &Path) -> Result<()> {
        let what = || format!("remove network namespace {}", path.display());
        match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // EINVAL: a file is there on which nothing is mounted, as a kill in the middle of
            // `create` leaves it.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(e) => return Err(Error::errno(what(), e.raw_os_error(), None)),
        }
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(what(), &e)),
            _ => Ok(()),
        }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Prepares `directory` (such as `/run/netns`) for namespaces as `ip netns` does: a shared mount
/// of its own, so that what is bound there is seen in every mount namespace.
pub fn prepare_directory(directory: &Path) -> Result<()> {
    let what = || format!("prepare {} for network namespaces", directory.display());
    fs::create_dir_all(directory).map_err(|e| Error::io(what(), &e))?;
    let share = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    match rustix::mount::mount_change(directory, share) {
        Ok(()) => Ok(()),
        // Not a mount point yet.
        Err(rustix::io::Errno::INVAL) => rustix::mount::mount_bind_recursive(directory, directory)
            .and_then(|()| rustix::mount::mount_change(directory, share))
            .map_err(|e| Error::errno(what(), e.raw_os_error(), None)),
        Err(e) => Err(Error::errno(what(), e.raw_os_error(), None)),
    }
}

/// Whether `directory` is a mount of its own, as [`prepare_directory`] makes it (proc_pid_mountinfo(5)).
pub fn is_prepared(directory: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let is_it = |line: &str| line.split(' ').nth(4).is_some_and(|at| Path::new(at) == directory);
    // A mount that another one hides is still listed.
    directory.is_dir() && mounts.lines().any(is_it)
}

/// Takes back what [`prepare_directory`] did. Where something is bound in it, the kernel refuses,
/// and all stays as it is.
pub fn release_directory(directory: &Path) {
    if rustix::mount::unmount(directory, UnmountFlags::NOFOLLOW).is_ok() {
        let _ = fs::remove_dir(directory);
    }
}

/// Moves the whole process, which must have one thread only, into user, network and mount
/// namespaces of its own, in which it is root and `/run` is empty: an ordinary user's machine.
pub fn isolate_process() -> Result<()> {
    let what = "make user, network and mount namespaces of our own";
    let fail = |e: rustix::io::Errno| Error::errno(what, e.raw_os_error(), None);
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // SAFETY: the process has a single thread, so nothing else loses what is unshared.
    unsafe {
        rustix::thread::unshare_unsafe(
            UnshareFlags::NEWUSER | UnshareFlags::NEWNET | UnshareFlags::NEWNS,
        )
    }
    .map_err(fail)?;
    let write = |file: &str, text: String| {
        fs::write(file, text).map_err(|e| Error::io(format!("{what}: write {file}"), &e))
    };
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("0 {user} 1"))?;
    write("/proc/self/gid_map", format!("0 {group} 1"))?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(fail)?;
    rustix::mount::mount("tmpfs", "/run", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None)
        .map_err(fail)
}

/// Leads back to where the thread came from when it is dropped, also while unwinding.
struct WayBack<'a>(&'a Netns);

impl Drop for WayBack<'_> {
    fn drop(&mut self) {
        if set(&self.0.file).is_err() {
            std::process::abort();
        }
    }
}

fn set(file: &File) -> io::Result<()> {
    rustix::thread::move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(io::Error::from)
}

/// Makes the empty file at `path` on which `mount` mounts. What could not be made whole is not left
/// half.
fn with_mount_point(path: &Path, mount: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o444).open(path)?;
    mount().inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

fn bind(from: &Path, to: &Path) -> io::Result<()> {
    rustix::mount::mount_bind(from, to).map_err(io::Error::from)
}
