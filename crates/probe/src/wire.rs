//! What our datagrams hold. All numbers are in network byte order.
//!
//! | bytes | question | answer |
//! |---|---|---|
//! | 0–7 | `podwireQ` | `podwireA` |
//! | 8–15 | token | token of the question |
//! | 16–19 | attempt | attempt of the question |
//! | 20–23 | zero | size of the IP packet that held the question |
//! | 24–39 | zero | its source address, an IPv4 address as `::ffff:a.b.c.d` |
//! | 40– | zero, up to the size asked for | – |
//!
//! A question is never smaller than its answer, so that a responder makes no attack stronger.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The size of an answer, and of the smallest question.
pub(crate) const SMALLEST: usize = 40;

const QUESTION: &[u8; 8] = b"podwireQ";
const ANSWER: &[u8; 8] = b"podwireA";

/// What tells a question and its answer from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) token: u64,
    pub(crate) attempt: u32,
}

/// An answer as it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) token: Token,
    pub(crate) bytes: usize,
    pub(crate) source: IpAddr,
}

/// The bytes of IP and UDP headers around a datagram.
pub(crate) fn headers(address: IpAddr) -> usize {
    if address.is_ipv4() { 20 + 8 } else { 40 + 8 }
}

/// A question that fills an IP packet of `bytes` to or from `address`.
pub(crate) fn question(token: Token, bytes: usize, address: IpAddr) -> Vec<u8> {
    let mut datagram = start(QUESTION, token);
    datagram.resize(bytes.saturating_sub(headers(address)).max(SMALLEST), 0);
    datagram
}

/// The answer to `datagram`, if that is a question; `source` is where it came from.
pub(crate) fn answer(datagram: &[u8], source: IpAddr) -> Option<Vec<u8>> {
    let token = token(QUESTION, datagram)?;
    let bytes = datagram.len() + headers(source);
    let address = match source {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let mut answer = start(ANSWER, token);
    answer.extend((bytes as u32).to_be_bytes());
    answer.extend(address.octets());
    Some(answer)
}

/// The token of `datagram`, if that begins with a question.
pub(crate) fn asked(datagram: &[u8]) -> Option<Token> {
    token(QUESTION, datagram)
}

/// What an answer says, if `datagram` is one.
pub(crate) fn seen(datagram: &[u8]) -> Option<Seen> {
    let token = token(ANSWER, datagram)?;
    let bytes = u32::from_be_bytes(field(datagram, 20)?) as usize;
    let source = Ipv6Addr::from(field::<16>(datagram, 24)?).to_canonical();
    Some(Seen { token, bytes, source })
}

/// The two kinds of echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    Request,
    Reply,
}

impl Echo {
    /// The type of such an ICMP message (RFC 792, RFC 4443).
    pub(crate) fn kind(self, is_ipv6: bool) -> u8 {
        match (self, is_ipv6) {
            (Self::Request, false) => 8,
            (Self::Reply, false) => 0,
            (Self::Request, true) => 128,
            (Self::Reply, true) => 129,
        }
    }
}

/// The bytes of the header of an echo.
pub(crate) const ECHO_HEADER: usize = 8;

/// An echo request that carries a question and fills an IP packet of `bytes`. The kernel sees to
/// the checksum of ICMPv6.
pub(crate) fn echo(token: Token, bytes: usize, address: IpAddr) -> Vec<u8> {
    let is_ipv6 = address.is_ipv6();
    let mut message = vec![Echo::Request.kind(is_ipv6), 0, 0, 0, 0, 0, 0, 0];
    // The identifier and the number, by which translators tell echoes apart.
    message[4..8].copy_from_slice(&(token.token as u32).to_be_bytes());
    message.extend(question(token, bytes, address));
    if !is_ipv6 {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// The token of an echo as a raw socket hears it: that of IPv4 has its IP header in front.
pub(crate) fn echoed(packet: &[u8], is_ipv6: bool, echo: Echo) -> Option<Token> {
    let message = packet.get(ip_header(packet, is_ipv6)?..)?;
    if *message.first()? != echo.kind(is_ipv6) {
        return None;
    }
    token(QUESTION, message.get(ECHO_HEADER..)?)
}

/// The bytes of the header of a datagram (RFC 768).
const UDP_HEADER: usize = 8;

/// A datagram as a raw socket hears it, with the ports that it came from and went to.
pub(crate) fn datagram(packet: &[u8], is_ipv6: bool) -> Option<(u16, u16, &[u8])> {
    let packet = packet.get(ip_header(packet, is_ipv6)?..)?;
    let port = |at| field(packet, at).map(u16::from_be_bytes);
    Some((port(0)?, port(2)?, packet.get(UDP_HEADER..)?))
}

/// A datagram with its header, for a raw socket to send.
pub(crate) fn with_header(from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> Vec<u8> {
    const UDP: u16 = 17;
    let length = ((UDP_HEADER + datagram.len()) as u16).to_be_bytes();
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    let mut packet = [&ports[..], &length, &[0; 2], datagram].concat();
    // What the sum is of besides (RFC 768, RFC 8200 section 8.1); in this order, because that does
    // not matter to it.
    let mut summed = [&UDP.to_be_bytes()[..], &length].concat();
    for address in [from.ip(), to.ip()] {
        match address {
            IpAddr::V4(it) => summed.extend(it.octets()),
            IpAddr::V6(it) => summed.extend(it.octets()),
        }
    }
    summed.extend(&packet);
    // Nothing would mean that there is none.
    let sum = Some(checksum(&summed)).filter(|sum| *sum != 0).unwrap_or(0xffff);
    packet[6..8].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// How long the IP header is that a raw socket gives: only IPv4's does.
fn ip_header(packet: &[u8], is_ipv6: bool) -> Option<usize> {
    if is_ipv6 { Some(0) } else { Some(usize::from(packet.first()? & 0x0f) * 4) }
}

/// The checksum of the Internet protocols (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default()))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn start(magic: &[u8; 8], token: Token) -> Vec<u8> {
    [&magic[..], &token.token.to_be_bytes(), &token.attempt.to_be_bytes()].concat()
}

fn token(magic: &[u8; 8], datagram: &[u8]) -> Option<Token> {
    if datagram.len() < SMALLEST || !datagram.starts_with(magic) {
        return None;
    }
    Some(Token {
        token: u64::from_be_bytes(field(datagram, 8)?),
        attempt: u32::from_be_bytes(field(datagram, 16)?),
    })
}

fn field<const N: usize>(datagram: &[u8], at: usize) -> Option<[u8; N]> {
    datagram.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: Token = Token { token: 0x0123_4567_89ab_cdef, attempt: 2 };

    #[test]
    fn an_answer_tells_what_the_question_looked_like() {
        for (source, size) in [("10.1.0.4", 1450), ("fd00:1::4", 1450), ("fd00:1::4", 88)] {
            let source = source.parse().unwrap();
            let question = question(TOKEN, size, source);
            assert_eq!(question.len() + headers(source), size);
            let answer = answer(&question, source).unwrap();
            assert_eq!(answer.len(), SMALLEST);
            assert_eq!(seen(&answer), Some(Seen { token: TOKEN, bytes: size, source }));
        }
    }

    #[test]
    fn a_question_is_never_smaller_than_its_answer() {
        assert_eq!(question(TOKEN, 0, "10.1.0.4".parse().unwrap()).len(), SMALLEST);
    }

    #[test]
    fn an_echo_carries_a_question_of_its_size() {
        let v4 = echo(TOKEN, 1400, "10.1.0.4".parse().unwrap());
        assert_eq!(v4.len() + 20, 1400);
        assert_eq!(checksum(&v4), 0, "the sum of all, with the checksum, is nothing");
        let packet = [&[0x45; 1][..], &[0; 19], &v4].concat();
        assert_eq!(echoed(&packet, false, Echo::Request), Some(TOKEN));
        assert_eq!(echoed(&packet, false, Echo::Reply), None);
        let v6 = echo(TOKEN, 1400, "fd00:1::4".parse().unwrap());
        assert_eq!(v6.len() + 40, 1400);
        assert_eq!(echoed(&v6, true, Echo::Request), Some(TOKEN));
        assert_eq!(echoed(&[], false, Echo::Request), None);
        assert_eq!(echoed(&[0x4f; 30], false, Echo::Request), None, "cut off");
    }

    #[test]
    fn a_datagram_has_a_header_with_the_sum_of_all() {
        for (from, to) in [("10.1.0.4:53", "10.1.0.5:4096"), ("[fd00::4]:53", "[fd00::5]:4096")] {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let sent = with_header(from, to, b"odd");
            let mut all = match (from.ip(), to.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
                (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
                _ => unreachable!(),
            };
            all.extend([0, 17, 0, sent.len() as u8]);
            assert_eq!(checksum(&[&all[..], &sent].concat()), 0);
            let is_ipv6 = from.is_ipv6();
            let heard = if is_ipv6 { sent } else { [&[0x45; 1][..], &[0; 19], &sent].concat() };
            assert_eq!(datagram(&heard, is_ipv6), Some((53, 4096, &b"odd"[..])));
            assert_eq!(datagram(&heard[..7], is_ipv6), None, "cut off");
        }
    }

    #[test]
    fn strays_are_neither_questions_nor_answers() {
        let source = "10.1.0.4".parse().unwrap();
        let good = question(TOKEN, 0, source);
        let reply = answer(&good, source).unwrap();
        for stray in [&b""[..], b"podwire", &good[..SMALLEST - 1], &[0; 100], &reply] {
            assert_eq!(answer(stray, source), None);
        }
        for stray in [&b""[..], b"podwireA", &reply[..SMALLEST - 1], &[0; 100], &good] {
            assert_eq!(seen(stray), None);
        }
    }
}
