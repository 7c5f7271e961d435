//! What was last told of each connection, so that sums that only grow become what was added.

use portcullis_engine::{Record, RecordKind, Totals};
use portcullis_policy::Protocol;
use std::collections::HashMap;
use std::net::IpAddr;

/// Longer than any connection lives without a packet.
const SILENT_SECONDS_MAX: i64 = 3 * 3600;
/// How long the other end of a connection that was cut may still tell of it.
const CUT_SECONDS_MAX: i64 = 60;
/// Both ends of a connection may tell that it was cut, and each knows when it began by itself.
const SAME_BEGIN_NS: u64 = 1_000_000_000;

/// Connections of one key whose sums are known.
const ALIKE_MAX: usize = 64;

/// What all records of a connection have in common, in the direction in which it began. Of ICMP the
/// number of an exchange is not told, so several may have one key.
type Key = ((IpAddr, IpAddr), (u16, u16), Protocol);

/// Connections that began, and whose sums have not been told yet.
#[derive(Debug)]
struct Begun<T> {
    under: T,
    count: u32,
    second: i64,
}

/// Connections whose sums are known.
#[derive(Debug)]
struct Told<T> {
    under: T,
    sums: Vec<Totals>,
    /// Whether policy cut one: it may be that nothing else is told of it.
    is_cut: bool,
    second: i64,
}

/// What one record adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed<T> {
    /// What its connection is counted under: what was said when it was counted first.
    pub under: T,
    /// Whether it is of a connection that has not been counted under this yet.
    pub is_new: bool,
    /// Packets, of the side that began first.
    pub packets: [u64; 2],
    /// Bytes of IP.
    pub bytes: [u64; 2],
    /// From the SYN to its answer, in microseconds, with the first sums of a connection; zero with
    /// all others, and where it is not known.
    pub round_trip_us: u32,
}

/// Connections that are open, as far as is known.
#[derive(Debug)]
pub struct Connections<T> {
    begun: HashMap<Key, Begun<T>>,
    told: HashMap<Key, Told<T>>,
    /// Of either.
    max: usize,
    /// Whether one found no room: what is not known may have been counted all the same.
    has_refused: bool,
}

impl<T: Copy + PartialEq> Connections<T> {
    /// Nothing known. At most `max` at one time are known to have begun, and the sums of as many:
    /// what a further one has passed is told with its end, all at once.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            begun: HashMap::new(),
            told: HashMap::new(),
            max,
            has_refused: false,
        }
    }

    /// What a record adds to what is counted under `under`.
    pub fn take(&mut self, record: &Record, second: i64, under: T) -> Passed<T> {
        match (record.kind, key(record)) {
            (RecordKind::Drop(_), _) | (RecordKind::Revoked(_), None) => Passed::nothing(under),
            (RecordKind::Flow, key) => Passed {
                is_new: key.is_none_or(|key| self.begin(key, record, second, under)),
                ..Passed::nothing(under)
            },
            (_, Some(key)) => self.go_on(key, record, second, under),
            (RecordKind::Update | RecordKind::End(_), None) => Passed::nothing(under),
        }
    }

    /// True when it has not been counted yet.
    fn begin(&mut self, key: Key, record: &Record, second: i64, under: T) -> bool {
        // What is only audited is told whenever policy is asked, not once for a connection.
        if is_audited(record) {
            let begun = self.begun.get_mut(&key).map(|begun| &mut begun.under);
            let told = self.told.get_mut(&key).map(|told| &mut told.under);
            if let Some(known) = begun.or(told) {
                return std::mem::replace(known, under) != under;
            }
        }
        let is_full = self.begun.len() >= self.max;
        match self.begun.get_mut(&key) {
            Some(begun) => {
                begun.count += 1;
                (begun.under, begun.second) = (under, second);
            }
            None if is_full => self.has_refused = true,
            None => {
                let begun = Begun {
                    under,
                    count: 1,
                    second,
                };
                self.begun.insert(key, begun);
            }
        }
        true
    }

    fn go_on(&mut self, key: Key, record: &Record, second: i64, under: T) -> Passed<T> {
        let now = record.totals;
        let has_begun = self.begun.contains_key(&key);
        if let Some(told) = self.told.get_mut(&key)
            && let Some(place) = place_of(&told.sums, &now, has_begun)
        {
            told.second = second;
            let before = told.sums[place];
            let passed = Passed::between(told.under, &before, &now);
            match record.kind {
                RecordKind::End(_) => {
                    told.sums.swap_remove(place);
                    if told.sums.is_empty() {
                        self.told.remove(&key);
                    }
                }
                kind => {
                    told.is_cut |= matches!(kind, RecordKind::Revoked(_));
                    for side in 0..2 {
                        let sums = &mut told.sums[place];
                        sums.packets[side] = sums.packets[side].max(now.packets[side]);
                        sums.bytes[side] = sums.bytes[side].max(now.bytes[side]);
                    }
                }
            }
            return passed;
        }
        // The other end may know it by another name, and tell the same sums.
        if matches!(record.kind, RecordKind::Revoked(_)) && !has_begun {
            return Passed::nothing(under);
        }
        let is_end = matches!(record.kind, RecordKind::End(_));
        let has_room = match self.told.get(&key) {
            Some(told) => told.sums.len() < ALIKE_MAX,
            None => self.told.len() < self.max,
        };
        if !is_end && !has_room {
            self.has_refused = true;
            return Passed::nothing(under);
        }
        let counted = self.claim(&key);
        let under = counted.unwrap_or(under);
        if !is_end {
            let told = self.told.entry(key).or_insert(Told {
                under,
                sums: Vec::new(),
                is_cut: false,
                second,
            });
            told.is_cut |= matches!(record.kind, RecordKind::Revoked(_));
            told.sums.push(now);
        }
        Passed {
            is_new: counted.is_none() && !self.has_refused,
            round_trip_us: now.round_trip_us,
            ..Passed::between(under, &Totals::default(), &now)
        }
    }

    /// What one that began is counted under: from now on its sums are known.
    fn claim(&mut self, key: &Key) -> Option<T> {
        let begun = self.begun.get_mut(key)?;
        let under = begun.under;
        begun.count -= 1;
        if begun.count == 0 {
            self.begun.remove(key);
        }
        Some(under)
    }

    /// How many are known; several of ICMP between the same two may be one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.begun.len() + self.told.len()
    }

    /// Forgets those that were cut, and makes room when there is none: the ends of connections may
    /// have been missed.
    pub fn sweep(&mut self, now: i64) {
        let age = |second: i64| now.saturating_sub(second);
        self.told
            .retain(|_, told| !told.is_cut || age(told.second) < CUT_SECONDS_MAX);
        if self.told.len() >= self.max {
            self.told
                .retain(|_, told| age(told.second) < SILENT_SECONDS_MAX);
        }
        if self.begun.len() >= self.max {
            self.begun
                .retain(|_, begun| age(begun.second) < SILENT_SECONDS_MAX);
        }
    }
}

impl<T> Passed<T> {
    const fn nothing(under: T) -> Self {
        Self {
            under,
            is_new: false,
            packets: [0; 2],
            bytes: [0; 2],
            round_trip_us: 0,
        }
    }

    fn between(under: T, before: &Totals, now: &Totals) -> Self {
        Self {
            packets: [0, 1]
                .map(|side| u64::from(now.packets[side].saturating_sub(before.packets[side]))),
            bytes: [0, 1].map(|side| now.bytes[side].saturating_sub(before.bytes[side])),
            ..Self::nothing(under)
        }
    }
}

/// Whether it passed though a policy denies it, which is only told.
#[must_use]
pub fn is_audited(record: &Record) -> bool {
    let mut verdicts = [record.egress, record.ingress].into_iter().flatten();
    record.kind == RecordKind::Flow && verdicts.any(|verdict| !verdict.decision.is_allowed())
}

/// None where it could not be read.
fn key(record: &Record) -> Option<Key> {
    let (source, destination) = record.addresses?;
    let (from, to) = record.ports;
    let protocol = record.protocol?;
    let is_icmp = matches!(protocol, Protocol::Icmp | Protocol::Icmpv6);
    Some(match (record.is_reply == Some(true), is_icmp) {
        (false, _) => ((source, destination), (from, to), protocol),
        // In place of a port stands the type of the message that began it.
        (true, true) => ((destination, source), (from, to), protocol),
        (true, false) => ((destination, source), (to, from), protocol),
    })
}

/// Which of these sums are of the same connection: those of another only when none has begun that
/// they could be of.
fn place_of(sums: &[Totals], now: &Totals, has_begun: bool) -> Option<usize> {
    let distance = |sums: &Totals| sums.opened.0.abs_diff(now.opened.0);
    let (place, nearest) = (sums.iter().map(distance).enumerate()).min_by_key(|(_, far)| *far)?;
    let is_same = nearest == 0 || (!has_begun && nearest <= SAME_BEGIN_NS);
    is_same.then_some(place)
}
