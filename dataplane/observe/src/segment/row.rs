//! A record as bytes of a fixed number. Drop reasons and names are numbers of the block it is in.

use crate::stored::Stored;
use portcullis_engine::{Drop, Ending, RecordKind};
use portcullis_policy::{Decision, Proof, Protocol, Proxy};

/// Bytes of one record.
pub(super) const ROW: usize = 121;

/// By code, from 1; zero is none. Never change the order: files are older than the program.
const DECISIONS: [Decision; 21] = [
    Decision::Allow,
    Decision::AllowUnpoliced,
    Decision::AllowLocalHost,
    Decision::AllowDefault,
    Decision::DenyRule,
    Decision::DenyDefault,
    Decision::Conflict,
    Decision::Authenticate(Proof::Mutual),
    Decision::Authenticate(Proof::Impossible),
    Decision::Redirect(Proxy::Http, None),
    Decision::Redirect(Proxy::Http, Some(Proof::Mutual)),
    Decision::Redirect(Proxy::Http, Some(Proof::Impossible)),
    Decision::Redirect(Proxy::Tls, None),
    Decision::Redirect(Proxy::Tls, Some(Proof::Mutual)),
    Decision::Redirect(Proxy::Tls, Some(Proof::Impossible)),
    Decision::Redirect(Proxy::Dns, None),
    Decision::Redirect(Proxy::Dns, Some(Proof::Mutual)),
    Decision::Redirect(Proxy::Dns, Some(Proof::Impossible)),
    Decision::Redirect(Proxy::Listener, None),
    Decision::Redirect(Proxy::Listener, Some(Proof::Mutual)),
    Decision::Redirect(Proxy::Listener, Some(Proof::Impossible)),
];

/// By code. Never change the order.
const ENDINGS: [Ending; 6] = [
    Ending::Finished,
    Ending::Reset,
    Ending::Idle,
    Ending::Unanswered,
    Ending::Evicted,
    Ending::Replaced,
];

/// The place of a value in a list, from 0.
fn code<T: PartialEq>(list: &[T], value: &T) -> u8 {
    let place = list.iter().position(|known| known == value);
    // What is not in the list reads as nothing known.
    place
        .and_then(|place| u8::try_from(place).ok())
        .unwrap_or(u8::MAX)
}

fn decision_code(decision: Option<Decision>) -> u8 {
    decision.map_or(0, |decision| code(&DECISIONS, &decision).saturating_add(1))
}

fn decision(code: u8) -> Option<Option<Decision>> {
    match code {
        0 => Some(None),
        code => DECISIONS
            .get(usize::from(code) - 1)
            .map(|known| Some(*known)),
    }
}

/// Adds a record. `drops` are the reasons of the block: one that is new goes to their end.
pub(super) fn pack(record: &Stored, drops: &mut Vec<Drop>, out: &mut Vec<u8>) {
    let mut drop_code = |reason: Drop| {
        if !drops.contains(&reason) {
            drops.push(reason);
        }
        code(drops, &reason)
    };
    let kind = match record.kind {
        RecordKind::Flow => [0, 0],
        RecordKind::Update => [1, 0],
        RecordKind::End(ending) => [2, code(&ENDINGS, &ending)],
        RecordKind::Revoked(reason) => [3, drop_code(reason)],
        RecordKind::Drop(reason) => [4, drop_code(reason)],
    };
    let protocol = match record.protocol {
        None => [0, 0],
        Some(Protocol::Other(number)) => [2, number],
        Some(named) => [1, named.number()],
    };
    out.extend_from_slice(&record.time.to_le_bytes());
    for number in [record.bytes[0], record.bytes[1], record.opened] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for number in [
        record.packets[0],
        record.packets[1],
        record.round_trip_us,
        record.from,
        record.to,
        record.identities[0],
        record.identities[1],
        record.egress_rule,
        record.ingress_rule,
        record.length,
        record.names,
    ] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(record.addresses.as_flattened());
    for port in record.ports {
        out.extend_from_slice(&port.to_le_bytes());
    }
    out.extend_from_slice(&kind);
    out.extend_from_slice(&protocol);
    out.extend_from_slice(&[
        decision_code(record.egress),
        decision_code(record.ingress),
        record.flags_or_code,
        record.is_reply.map_or(0, |is_reply| 1 + u8::from(is_reply)),
        record.has,
    ]);
}

/// Bytes that are taken from the front.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*front)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }
}

/// Reads a record. None for bytes that none has, and for a reason that this program does not know.
pub(super) fn unpack(bytes: &[u8], drops: &[Option<Drop>]) -> Option<Stored> {
    let bytes = &mut Bytes(bytes);
    Some(Stored {
        time: bytes.take().map(i64::from_le_bytes)?,
        bytes: [bytes.u64()?, bytes.u64()?],
        opened: bytes.u64()?,
        packets: [bytes.u32()?, bytes.u32()?],
        round_trip_us: bytes.u32()?,
        from: bytes.u32()?,
        to: bytes.u32()?,
        identities: [bytes.u32()?, bytes.u32()?],
        egress_rule: bytes.u32()?,
        ingress_rule: bytes.u32()?,
        length: bytes.u32()?,
        names: bytes.u32()?,
        addresses: [bytes.take()?, bytes.take()?],
        ports: [bytes.u16()?, bytes.u16()?],
        kind: kind(bytes.take()?, drops)?,
        protocol: match bytes.take()? {
            [0, _] => None,
            [1, number] => Some(Protocol::from_number(number)),
            [2, number] => Some(Protocol::Other(number)),
            _ => return None,
        },
        egress: decision(bytes.byte()?)?,
        ingress: decision(bytes.byte()?)?,
        flags_or_code: bytes.byte()?,
        is_reply: match bytes.byte()? {
            0 => None,
            1 => Some(false),
            2 => Some(true),
            _ => return None,
        },
        has: bytes.byte()?,
    })
}

fn kind([kind, code]: [u8; 2], drops: &[Option<Drop>]) -> Option<RecordKind> {
    let reason = || drops.get(usize::from(code)).copied().flatten();
    match kind {
        0 => Some(RecordKind::Flow),
        1 => Some(RecordKind::Update),
        2 => ENDINGS.get(usize::from(code)).copied().map(RecordKind::End),
        3 => reason().map(RecordKind::Revoked),
        4 => reason().map(RecordKind::Drop),
        _ => None,
    }
}
