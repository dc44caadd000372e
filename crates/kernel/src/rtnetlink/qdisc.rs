//! `RTM_*QDISC`: `struct tcmsg` and the parameters of `tbf` (include/uapi/linux/pkt_sched.h).

use net::{Qdisc, QdiscKind};

use super::{text, u32_of};
use crate::attribute::{Writer, iterate};
use crate::dump;

const KIND: u16 = 1;
const OPTIONS: u16 = 2;

const TBF_PARMS: u16 = 1;
const TBF_RATE64: u16 = 4;
const TBF_BURST: u16 = 6;

const ROOT: u32 = 0xffff_ffff;
/// `1:`, the handle that `tc` would show; any will do for a root of one's own.
const HANDLE: u32 = 0x0001_0000;

const HEADER: usize = 20;
/// `struct tc_tbf_qopt`: two `tc_ratespec` of 12 bytes, limit, buffer, mtu.
const TBF_QOPT: usize = 36;
/// `PSCHED_TICKS_PER_SEC`: the kernel counts bucket depth in ticks of 64 ns.
const TICK_NANOS: u64 = 64;

/// The payload of a request that sets or removes `qdisc` on the device `index`.
pub(crate) fn request(qdisc: &Qdisc, index: u32) -> Vec<u8> {
    let mut writer = Writer::after(&header(index, HANDLE));
    let QdiscKind::Tbf { rate, burst, limit } = qdisc.kind;
    writer.put_str(KIND, "tbf").nest(OPTIONS, |options| {
        let mut parameters = [0; TBF_QOPT];
        // Byte 1 is linklayer Ethernet; without it the kernel wants a rate table.
        parameters[1] = 1;
        let rate32 = u32::try_from(rate).unwrap_or(u32::MAX);
        parameters[8..12].copy_from_slice(&rate32.to_ne_bytes());
        parameters[24..28].copy_from_slice(&limit.to_ne_bytes());
        let ticks = u64::from(burst) * 1_000_000_000 / rate.max(1) / TICK_NANOS;
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
        parameters[28..32].copy_from_slice(&ticks.to_ne_bytes());
        options.put(TBF_PARMS, &parameters).put(TBF_BURST, &burst.to_ne_bytes());
        if rate > u64::from(u32::MAX) {
            options.put(TBF_RATE64, &rate.to_ne_bytes());
        }
    });
    writer.bytes().to_vec()
}

/// The payload of a request that removes the root of the device `index`.
pub(crate) fn delete(index: u32) -> Vec<u8> {
    header(index, 0).to_vec()
}

/// The payload of a request for all disciplines.
pub(crate) fn all() -> Vec<u8> {
    vec![0; HEADER]
}

/// Reads a root discipline; `None` for those below a root.
pub(crate) fn parse(payload: &[u8]) -> Option<dump::Qdisc> {
    let header = payload.get(..HEADER)?;
    if u32_of(&header[12..])? != ROOT {
        return None;
    }
    let mut qdisc = dump::Qdisc { index: u32_of(&header[4..])?, kind: String::new(), tbf: None };
    for (kind, value) in iterate(&payload[HEADER..]) {
        match kind {
            KIND => qdisc.kind = text(value),
            OPTIONS if qdisc.kind == "tbf" => qdisc.tbf = tbf(value),
            _ => {}
        }
    }
    Some(qdisc)
}

fn tbf(options: &[u8]) -> Option<QdiscKind> {
    let (mut parameters, mut rate64) = (None, None);
    for (kind, value) in iterate(options) {
        match kind {
            TBF_PARMS => parameters = value.get(..TBF_QOPT),
            TBF_RATE64 => rate64 = value.try_into().ok().map(u64::from_ne_bytes),
            _ => {}
        }
    }
    let parameters = parameters?;
    let rate = rate64.unwrap_or(u64::from(u32_of(&parameters[8..])?));
    let ticks = u64::from(u32_of(&parameters[28..])?);
    let burst = ticks * TICK_NANOS * rate / 1_000_000_000;
    Some(QdiscKind::Tbf {
        rate,
        burst: u32::try_from(burst).unwrap_or(u32::MAX),
        limit: u32_of(&parameters[24..])?,
    })
}

fn header(index: u32, handle: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&handle.to_ne_bytes());
    bytes[12..16].copy_from_slice(&ROOT.to_ne_bytes());
    bytes
}
