//! Asking many at once, on one thread.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::responder::{LARGEST, Responder};
use crate::wire::{self, Token};
use crate::{Answer, Failure, Limits, Pair, Place, Question, Shape};

/// Sends a packet over each of `pairs` and back, and returns what came of them, in their order.
///
/// `seed` is random: it tells these packets from strays and from forgeries.
pub fn exchange(
    pairs: &[Pair<'_>],
    shape: Shape,
    limits: Limits,
    seed: u64,
) -> Vec<Result<Answer, Failure>> {
    let mut results = Vec::with_capacity(pairs.len());
    for batch in pairs.chunks(limits.at_once.max(1)) {
        let mut responders = Vec::with_capacity(batch.len());
        let mut asked = Vec::with_capacity(batch.len());
        for pair in batch {
            let number = (results.len() + asked.len()) as u64;
            let ready = within(pair.to, || Responder::open_any_port(pair.to.address));
            asked.push(ready.and_then(|responder| {
                let to = responder.address();
                responders.push(responder);
                Asked::prepare(&Question { from: pair.from, to }, shape, token(seed, number))
            }));
        }
        results.extend(run(asked, &responders, limits));
    }
    results
}

/// Asks ends that answer by themselves, such as the [`Responder`]s of other machines.
///
/// `seed` is as for [`exchange`].
pub fn ask(
    questions: &[Question<'_>],
    shape: Shape,
    limits: Limits,
    seed: u64,
) -> Vec<Result<Answer, Failure>> {
    let mut results = Vec::with_capacity(questions.len());
    for batch in questions.chunks(limits.at_once.max(1)) {
        let first = results.len();
        let prepare = |(place, question): (usize, &Question<'_>)| {
            Asked::prepare(question, shape, token(seed, (first + place) as u64))
        };
        let asked = batch.iter().enumerate().map(prepare).collect();
        results.extend(run(asked, &[], limits));
    }
    results
}

/// The token of question `number`: the mixing step of SplitMix64 (Steele, Lea and Flood, 2014), so
/// that one token does not give away the next.
pub(crate) fn token(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Opens something inside the namespace of a place.
pub(crate) fn within<T>(
    place: Place<'_>,
    open: impl FnOnce() -> io::Result<T>,
) -> Result<T, Failure> {
    let unusable = |reason: String| Failure::Unusable { address: place.address, reason };
    match place.netns.enter(open) {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(error)) => {
            Err(unusable(error.raw_os_error().map_or_else(|| error.to_string(), crate::reason)))
        }
        Err(error) => Err(unusable(error.to_string())),
    }
}

/// A question on its way.
///
/// Its socket is not connected, so that an answer from a wrong address is seen, not dropped.
struct Asked {
    socket: UdpSocket,
    own: SocketAddr,
    to: SocketAddr,
    token: u64,
    shape: Shape,
    /// When each attempt was sent.
    sent: Vec<Instant>,
    result: Option<Result<Answer, Failure>>,
}

impl Asked {
    fn prepare(question: &Question<'_>, shape: Shape, token: u64) -> Result<Self, Failure> {
        let Question { from, to } = *question;
        within(from, || {
            let socket = UdpSocket::bind((from.address, 0))?;
            socket.set_nonblocking(true)?;
            kernel::prepare_probe(socket.as_fd(), to.is_ipv6(), shape.dont_fragment)
                .map_err(io::Error::other)?;
            let own = socket.local_addr()?;
            Ok(Self { socket, own, to, token, shape, sent: Vec::new(), result: None })
        })
    }

    fn send(&mut self, now: Instant) {
        let token = Token { token: self.token, attempt: self.sent.len() as u32 };
        let question = wire::question(token, self.shape.bytes, self.to.ip());
        self.sent.push(now);
        match self.socket.send_to(&question, self.to) {
            Ok(_) => {}
            // No room in a queue: as good as lost on the way.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.fail(&error),
        }
    }

    /// Takes in what has arrived, up to the answer.
    fn receive(&mut self, now: Instant, buffer: &mut [u8]) {
        while self.result.is_none() {
            match self.socket.recv_from(buffer) {
                Ok((length, from)) => self.take(&buffer[..length], from, now),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // IPv6 is fragmented by its sender only (RFC 8200 section 5), whom the first packet
                // has now taught to do so.
                Err(e) if is_too_large(&e) && !self.shape.dont_fragment => {}
                Err(error) => self.fail(&error),
            }
        }
    }

    fn take(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) {
        let Some(seen) = wire::seen(datagram).filter(|seen| seen.token.token == self.token) else {
            return;
        };
        let Some(sent) = self.sent.get(seen.token.attempt as usize) else { return };
        let answer = Answer {
            seen_source: seen.source,
            answered_from: from.ip(),
            bytes: seen.bytes,
            rtt: now.saturating_duration_since(*sent),
        };
        let (own, asked) = (self.own.ip(), self.to.ip());
        self.result = Some(if answer.seen_source != own {
            Err(Failure::SourceChanged { own, answer })
        } else if answer.answered_from != asked {
            Err(Failure::OtherAnswered { asked, answer })
        } else {
            Ok(answer)
        });
    }

    fn fail(&mut self, error: &io::Error) {
        let errno = error.raw_os_error().unwrap_or_default();
        self.result = Some(Err(Failure::errno(errno)));
    }
}

fn is_too_large(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error())
}

/// Lets the questions and the responders talk until all is answered or the time is over.
fn run(
    mut batch: Vec<Result<Asked, Failure>>,
    responders: &[Responder],
    limits: Limits,
) -> Vec<Result<Answer, Failure>> {
    // Whatever is asked for, questions are not sent as fast as a loop can run.
    let again = limits.again.max(Duration::from_millis(1));
    let start = Instant::now();
    let mut buffer = vec![0; LARGEST];
    loop {
        let now = Instant::now();
        let left = limits.patience.saturating_sub(now.saturating_duration_since(start));
        if left.is_zero() {
            break;
        }
        let unanswered = |asked: &&mut Asked| asked.result.is_none();
        let mut waiting: Vec<&mut Asked> = batch.iter_mut().flatten().filter(unanswered).collect();
        for asked in &mut waiting {
            if asked.sent.last().is_none_or(|sent| *sent + again <= now) {
                asked.send(now);
            }
        }
        waiting.retain(unanswered);
        let due = waiting.iter().filter_map(|asked| asked.sent.last()).min();
        let Some(due) = due.map(|sent| *sent + again) else { break };
        let (questions, answers) =
            ready(&waiting, responders, left.min(due.saturating_duration_since(now)));
        for place in questions {
            waiting[place].receive(Instant::now(), &mut buffer);
        }
        for place in answers {
            responders[place].answer();
        }
    }
    let result = |asked: Result<Asked, Failure>| {
        asked.and_then(|asked| asked.result.unwrap_or(Err(Failure::TimedOut(limits.patience))))
    };
    batch.into_iter().map(result).collect()
}

/// Waits until a packet arrives somewhere, and returns the places of those who have one.
fn ready(
    questions: &[&mut Asked],
    responders: &[Responder],
    wait: Duration,
) -> (Vec<usize>, Vec<usize>) {
    let mut fds: Vec<PollFd<'_>> = questions
        .iter()
        .map(|asked| asked.socket.as_fd())
        .chain(responders.iter().map(AsFd::as_fd))
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
        .collect();
    // A signal, or a wait that is too long to be told, only makes the caller look again.
    let _ = poll(&mut fds, Timespec::try_from(wait).ok().as_ref());
    let ready = |fds: &[PollFd<'_>]| -> Vec<usize> {
        (0..fds.len()).filter(|place| !fds[*place].revents().is_empty()).collect()
    };
    let (questions, responders) = fds.split_at(questions.len());
    (ready(questions), ready(responders))
}
