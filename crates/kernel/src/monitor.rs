//! What happens to the network of one namespace, told as it happens.
//!
//! A monitor says which objects came, changed or went, and changes nothing itself. It does not
//! interpret: who asked for what, and what to do about it, is for those who listen.

mod picture;

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::AsFd;
use std::time::Instant;

use net::nft::TableId;
use net::{Object, Space};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::picture::Picture;
use crate::error::{Error, ErrorKind, Result};
use crate::executor::Kernel;
use crate::handle::Handle;
use crate::netlink::{Protocol, Socket};
use crate::netns::Netns;
use crate::nft;
use crate::rtnetlink::{group, rtm};

/// What is listened to, where the kernel has it.
const GROUPS: [u32; 8] = [
    group::LINK,
    group::NEIGHBOUR,
    group::ADDRESS_V4,
    group::ROUTE_V4,
    group::RULE_V4,
    group::ADDRESS_V6,
    group::ROUTE_V6,
    group::RULE_V6,
];
/// How much may wait to be read, in bytes, of which the kernel grants twice as many: some 60,000
/// events, as the programming of thousands of peers makes them. Memory is taken only for what waits.
const WAITING: usize = 32 << 20;
/// How many datagrams of one kind are read before those of the other have their turn.
const TURN: usize = 1024;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An object came, or is now as told: the same that [`Kernel::observe`](crate::Kernel::observe)
    /// finds in the whole namespace. One that takes the place of another (of the same
    /// [`net::Key`]) is told by itself. A device is told at every event about it, also when nothing
    /// but its operational state changed.
    Seen(Object),
    /// An object went: a device as it was seen last, anything else as the kernel says. What is on a
    /// device goes with it, and routes by it go when it is set down; not all of that is told, and of
    /// the routes of IPv4 nothing. A device that got another name went under the old one, and what is
    /// on it is not told again under the new one.
    Gone(Object),
    /// Something in this table, or the table itself, came, changed or went.
    Nft(TableId),
    /// Events were lost, or could not be understood: anything may have happened.
    Lost,
}

/// Listens to the kernel in one namespace, and keeps that namespace alive.
#[derive(Debug)]
pub struct Monitor {
    /// Where questions are asked: an answer would be lost among events.
    handle: Handle,
    route: Socket,
    /// `None` on a kernel without netfilter.
    netfilter: Option<Socket>,
    picture: Picture,
    ready: VecDeque<Notice>,
    is_lost: bool,
}

impl Monitor {
    /// Begins to listen in `space`: what happens after this is told.
    pub fn new(space: &Space) -> Result<Self> {
        let home = Netns::current()?;
        let mut handle = Handle::open(space, &home)?;
        let listen = || Ok::<_, Error>((listen_to_route()?, listen_to_nft()?));
        let (route, netfilter) = handle.inside(&home, listen)??;
        // What happens from here on waits to be read, so nothing falls in between.
        let picture = Picture::look(handle.route())?;
        let ready = VecDeque::new();
        Ok(Self { handle, route, netfilter, picture, ready, is_lost: false })
    }

    /// From now on tells nothing of what `kernel` itself does to routes and tables in `space`: whoever
    /// has changed thousands of them need not look at all of them because of that. (Neighbours have to
    /// be heard of to be understood when they go.) While `kernel` makes a large transaction, nothing of
    /// nftables is told at all; what others did meanwhile is
    /// [`Applied::unheard`](crate::Applied::unheard).
    pub fn ignore(&mut self, kernel: &mut Kernel, space: &Space) -> Result<()> {
        let (home, handle) = kernel.handle(space)?;
        self.route.ignore(handle.route().port()?, &[rtm::NEWROUTE, rtm::DELROUTE])?;
        if let Some(listener) = &self.netfilter {
            listener.ignore(handle.netfilter(home)?.port()?, &[])?;
            handle.spare(nft::Listener::of(listener)?);
        }
        Ok(())
    }

    /// The next thing that happened; waits for it until `deadline`, or for as long as it takes.
    /// `None` if nothing has happened until then: with a deadline that has passed, if nothing waits
    /// to be told.
    pub fn next(&mut self, deadline: Option<Instant>) -> Result<Option<Notice>> {
        loop {
            if self.is_lost {
                self.begin_again()?;
                return Ok(Some(Notice::Lost));
            }
            if let Some(notice) = self.ready.pop_front() {
                return Ok(Some(notice));
            }
            match self.read() {
                Ok(true) => {}
                Ok(false) if wait(self.sockets(), deadline)? => {}
                Ok(false) => return Ok(None),
                Err(error) if is_loss(&error) => self.is_lost = true,
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until one of several has something to tell; `false` if none has until `deadline`.
    pub fn wait_for_any<'a>(
        monitors: impl IntoIterator<Item = &'a Self>,
        deadline: Instant,
    ) -> Result<bool> {
        let monitors: Vec<&Self> = monitors.into_iter().collect();
        if monitors.iter().any(|it| it.is_lost || !it.ready.is_empty()) {
            return Ok(true);
        }
        wait(monitors.iter().flat_map(|it| it.sockets()), Some(deadline))
    }

    /// Reads what has come in; `false` if nothing has.
    fn read(&mut self) -> Result<bool> {
        let Self { route, netfilter, picture, ready, .. } = self;
        let mut any = false;
        let mut turn = 0..TURN;
        while turn.next().is_some()
            && route.take(|message| picture.tell(message.kind, message.payload, ready))?
        {
            any = true;
        }
        if let Some(socket) = netfilter {
            // A transaction of thousands of elements is as many messages about the same table.
            let mut tables = BTreeSet::new();
            let mut turn = 0..TURN;
            while turn.next().is_some()
                && socket.take(|it| tables.extend(nft::changed_table(it.kind, it.payload)))?
            {
                any = true;
            }
            ready.extend(tables.into_iter().map(Notice::Nft));
        }
        Ok(any)
    }

    /// Where it listens.
    fn sockets(&self) -> impl Iterator<Item = &Socket> {
        [Some(&self.route), self.netfilter.as_ref()].into_iter().flatten()
    }

    /// Starts afresh after a loss. The kernel drops what comes to a socket that overflowed, without
    /// another word, until all that waits there has been read. Only what is looked at after that is
    /// followed by the events that change it.
    fn begin_again(&mut self) -> Result<()> {
        for socket in [Some(&mut self.route), self.netfilter.as_mut()].into_iter().flatten() {
            loop {
                match socket.take(|_| {}) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) if is_loss(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.ready.clear();
        self.picture = Picture::look(self.handle.route())?;
        self.is_lost = false;
        Ok(())
    }
}

/// Waits until there is something to read; `false` if nothing came until `deadline`.
fn wait<'a>(sockets: impl Iterator<Item = &'a Socket>, deadline: Option<Instant>) -> Result<bool> {
    let left = deadline.map(|it| it.saturating_duration_since(Instant::now()));
    let timeout = left.and_then(|left| Timespec::try_from(left).ok());
    let mut fds: Vec<PollFd<'_>> =
        sockets.map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)).collect();
    let ready = rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref()))
        .map_err(|e| Error::errno("wait for netlink events", e.raw_os_error(), None))?;
    Ok(ready > 0)
}

fn listen_to_route() -> Result<Socket> {
    let mut socket = Socket::open(Protocol::Route)?;
    socket.let_wait(WAITING);
    socket.subscribe(&GROUPS)?;
    match socket.subscribe(&[group::TUNNEL]) {
        // A kernel that does not know the group has none of its objects either.
        Err(error) if error.raw_errno() == Some(libc::EINVAL) => Ok(socket),
        answer => answer.map(|()| socket),
    }
}

fn listen_to_nft() -> Result<Option<Socket>> {
    let mut socket = match Socket::open(Protocol::Netfilter) {
        Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(None),
        opened => opened?,
    };
    socket.let_wait(WAITING);
    socket.subscribe(&[nft::GROUP])?;
    Ok(Some(socket))
}

/// Whether events were dropped, or one is larger than anything that is understood.
fn is_loss(error: &Error) -> bool {
    matches!(error.raw_errno(), Some(libc::ENOBUFS | libc::EMSGSIZE))
}
