//! What the rules that match a peer say of each port: sorted ranges that do not overlap.

use crate::{Decision, PortProtocol, Protocol, RuleId, Verdict};
use std::collections::BTreeMap;

/// What one rule that matches the peer says.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The rule.
    pub(crate) rule: RuleId,
    /// Whether it forbids.
    pub(crate) is_deny: bool,
    /// Its traffic, names resolved; None is everything.
    pub(crate) ranges: Option<Vec<(PortProtocol, u16, u16)>>,
}

/// What a set of rules says of each protocol and port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Class {
    /// All ranges, by protocol, sorted.
    ranges: Vec<Range>,
    /// Where the ranges of each protocol end, in the order of `place`.
    ends: [u32; PROTOCOLS],
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Range {
    first: u16,
    last: u16,
    verdict: Verdict,
}

/// TCP, UDP, SCTP, ICMP, ICMPv6, and all others as one.
const PROTOCOLS: usize = 6;

const fn place(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
        Protocol::Sctp => 2,
        Protocol::Icmp => 3,
        Protocol::Icmpv6 => 4,
        Protocol::Other(_) => 5,
    }
}

impl PortProtocol {
    /// Whether it is the protocol in this place.
    const fn is_at(self, place: usize) -> bool {
        match self {
            Self::Any => place <= 2,
            Self::Tcp => place == 0,
            Self::Udp => place == 1,
            Self::Sctp => place == 2,
            Self::Icmp => place == 3,
            Self::Icmpv6 => place == 4,
        }
    }
}

impl Class {
    /// Compiles the entries, which come in document order.
    pub(crate) fn new(entries: &[Entry]) -> Self {
        let mut class = Self::default();
        for place in 0..PROTOCOLS {
            sweep(entries, place, &mut class.ranges);
            class.ends[place] = u32::try_from(class.ranges.len()).expect("documents are bounded");
        }
        class
    }

    /// What the rules say; None when none of them matches.
    pub(crate) fn find(&self, protocol: Protocol, port: u16) -> Option<Verdict> {
        let place = place(protocol);
        let start = if place == 0 {
            0
        } else {
            self.ends[place - 1] as usize
        };
        let ranges = &self.ranges[start..self.ends[place] as usize];
        let after = ranges.partition_point(|range| range.first <= port);
        let range = ranges[..after].last()?;
        (port <= range.last).then_some(range.verdict)
    }
}

/// Whether it allows, and where it was written: the least one that holds decides, so a deny comes
/// before an allow, and of several the first in document order.
type Rank = (bool, RuleId);

/// Walks the ports of one protocol from low to high, with the rules that hold at each.
fn sweep(entries: &[Entry], place: usize, ranges: &mut Vec<Range>) {
    // By port: how many ranges of an entry begin (+1) or have ended (-1) there.
    let mut changes: BTreeMap<u32, Vec<(Rank, i32)>> = BTreeMap::new();
    let mut mark = |entry: &Entry, first: u16, last: u16| {
        let rank = (!entry.is_deny, entry.rule);
        changes.entry(u32::from(first)).or_default().push((rank, 1));
        changes
            .entry(u32::from(last) + 1)
            .or_default()
            .push((rank, -1));
    };
    for entry in entries {
        match &entry.ranges {
            None => mark(entry, 0, u16::MAX),
            Some(list) => {
                for (protocol, first, last) in list {
                    if protocol.is_at(place) {
                        mark(entry, *first, *last);
                    }
                }
            }
        }
    }
    let first_new = ranges.len();
    let mut holding: BTreeMap<Rank, i32> = BTreeMap::new();
    let mut points = changes.into_iter().peekable();
    while let Some((first, changes)) = points.next() {
        for (rank, change) in changes {
            let count = holding.entry(rank).or_default();
            *count += change;
            if *count == 0 {
                holding.remove(&rank);
            }
        }
        let (Some((rank, _)), Some((next, _))) = (holding.first_key_value(), points.peek()) else {
            continue;
        };
        let verdict = Verdict {
            decision: if rank.0 {
                Decision::Allow
            } else {
                Decision::DenyRule
            },
            rule: Some(rank.1),
        };
        push(ranges, first_new, bound(first), bound(next - 1), verdict);
    }
}

/// A port that was widened for the walk. It ends one behind the last port, never further.
fn bound(port: u32) -> u16 {
    u16::try_from(port).expect("ranges end at the last port")
}

/// Adds a range, or makes the last one longer when it says the same.
fn push(ranges: &mut Vec<Range>, first_new: usize, first: u16, last: u16, verdict: Verdict) {
    if ranges.len() > first_new
        && let Some(before) = ranges.last_mut()
        && before.verdict == verdict
        && u32::from(before.last) + 1 == u32::from(first)
    {
        before.last = last;
        return;
    }
    ranges.push(Range {
        first,
        last,
        verdict,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(rule: u32, is_deny: bool, ranges: Option<&[(PortProtocol, u16, u16)]>) -> Entry {
        Entry {
            rule: RuleId(rule),
            is_deny,
            ranges: ranges.map(<[_]>::to_vec),
        }
    }

    fn allowed(rule: u32) -> Option<Verdict> {
        Some(Verdict {
            decision: Decision::Allow,
            rule: Some(RuleId(rule)),
        })
    }

    fn denied(rule: u32) -> Option<Verdict> {
        Some(Verdict {
            decision: Decision::DenyRule,
            rule: Some(RuleId(rule)),
        })
    }

    #[test]
    fn a_denied_range_is_a_hole_in_an_allowed_one() {
        let class = Class::new(&[
            entry(0, false, None),
            entry(1, true, Some(&[(PortProtocol::Any, 8000, 9000)])),
        ]);
        assert_eq!(class.find(Protocol::Tcp, 7999), allowed(0));
        assert_eq!(class.find(Protocol::Udp, 8000), denied(1));
        assert_eq!(class.find(Protocol::Sctp, 9000), denied(1));
        assert_eq!(class.find(Protocol::Tcp, 9001), allowed(0));
        assert_eq!(class.find(Protocol::Icmp, 8), allowed(0));
        assert_eq!(class.find(Protocol::Other(47), 0), allowed(0));
    }

    #[test]
    fn the_first_rule_in_document_order_is_named() {
        let class = Class::new(&[
            entry(3, false, Some(&[(PortProtocol::Tcp, 80, 80)])),
            entry(5, false, Some(&[(PortProtocol::Tcp, 1, 100)])),
        ]);
        assert_eq!(class.find(Protocol::Tcp, 79), allowed(5));
        assert_eq!(class.find(Protocol::Tcp, 80), allowed(3));
        assert_eq!(class.find(Protocol::Tcp, 81), allowed(5));
        assert_eq!(class.find(Protocol::Tcp, 101), None);
        assert_eq!(class.find(Protocol::Udp, 80), None);
    }

    #[test]
    fn the_first_and_the_last_port_belong_to_a_range() {
        let class = Class::new(&[entry(0, false, Some(&[(PortProtocol::Udp, 0, u16::MAX)]))]);
        assert_eq!(class.find(Protocol::Udp, 0), allowed(0));
        assert_eq!(class.find(Protocol::Udp, u16::MAX), allowed(0));
        assert_eq!(class.find(Protocol::Tcp, 0), None);
    }

    #[test]
    fn ranges_of_one_rule_may_overlap() {
        let class = Class::new(&[entry(
            0,
            false,
            Some(&[(PortProtocol::Tcp, 10, 20), (PortProtocol::Any, 15, 30)]),
        )]);
        assert_eq!(class.find(Protocol::Tcp, 21), allowed(0));
        assert_eq!(class.find(Protocol::Udp, 14), None);
        assert_eq!(
            class.ranges.len(),
            3,
            "one range for each of TCP, UDP and SCTP"
        );
    }
}
