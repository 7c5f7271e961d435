//! What the rules that match a peer say of each port: sorted ranges that do not overlap.

use crate::{
    Action, Authentication, Decision, NamedPort, Order, PortMatch, PortProtocol, Ports, Proof,
    Protocol, Proxy, RuleId, Traffic, Verdict,
};
use std::collections::{BTreeMap, BTreeSet};

/// What one rule that matches the peer says.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The rule.
    pub(crate) rule: RuleId,
    pub(crate) order: Order,
    pub(crate) action: Action,
    pub(crate) authentication: Option<Authentication>,
    /// Whether it speaks of some peers, not of all.
    pub(crate) is_specific: bool,
    /// Its traffic, names resolved; None is everything.
    pub(crate) spans: Option<Vec<Span>>,
}

/// Ports of one protocol that a rule speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) protocol: PortProtocol,
    pub(crate) first: u16,
    pub(crate) last: u16,
    /// Who takes the traffic, and with what precedence.
    pub(crate) proxy: Option<(Proxy, u8)>,
    /// The places of protocols at which a rule wants something else of the same traffic.
    pub(crate) contradicted: Places,
}

/// What a set of rules says of each protocol and port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Class {
    /// All ranges, by protocol, sorted.
    ranges: Box<[Range]>,
    /// The first port of each: what is searched lies in one or two lines of the cache.
    firsts: Box<[u16]>,
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

/// A set of places of protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Places(u8);

impl Places {
    fn has(self, place: usize) -> bool {
        self.0 & (1 << place) != 0
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

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

    /// Whether it means this protocol.
    pub(crate) const fn is_meant_by(self, protocol: Protocol) -> bool {
        self.is_at(place(protocol))
    }

    /// The protocols that are meant by both.
    pub(crate) fn shared_with(self, other: Self) -> Places {
        let both = |place: &usize| self.is_at(*place) && other.is_at(*place);
        Places(
            (0..PROTOCOLS)
                .filter(both)
                .fold(0, |set, place| set | 1 << place),
        )
    }
}

impl Class {
    /// Compiles the entries, which come in document order.
    pub(crate) fn new(entries: &[Entry]) -> Self {
        let mut ranges = Vec::new();
        let mut ends = [0; PROTOCOLS];
        for (place, end) in ends.iter_mut().enumerate() {
            sweep(entries, place, &mut ranges);
            *end = u32::try_from(ranges.len()).expect("documents are bounded");
        }
        Self {
            firsts: ranges.iter().map(|range| range.first).collect(),
            ranges: ranges.into(),
            ends,
        }
    }

    /// What the rules say; None when none of them decides.
    #[inline]
    pub(crate) fn find(&self, protocol: Protocol, port: u16) -> Option<Verdict> {
        let place = place(protocol);
        let start = if place == 0 {
            0
        } else {
            self.ends[place - 1] as usize
        };
        let firsts = &self.firsts[start..self.ends[place] as usize];
        let after = firsts.partition_point(|first| *first <= port);
        let range = self.ranges.get(start + after.checked_sub(1)?)?;
        (port <= range.last).then_some(range.verdict)
    }

    /// A rule that denies, if all traffic of all protocols is denied by rules.
    pub(crate) fn denied_everywhere(&self) -> Option<RuleId> {
        let all = (0..PROTOCOLS).map(|place| self.denied_at(place, 0, u16::MAX));
        all.reduce(Option::and).flatten()
    }

    /// A rule that denies, if all of these spans are denied by rules; None when there are none.
    pub(crate) fn denied_over(&self, spans: &[Span]) -> Option<RuleId> {
        let of_span = |span: &Span| {
            let (protocol, first, last) = (span.protocol, span.first, span.last);
            let places = (0..PROTOCOLS).filter(move |place| protocol.is_at(*place));
            places.map(move |place| self.denied_at(place, first, last))
        };
        spans.iter().flat_map(of_span).reduce(Option::and).flatten()
    }

    fn denied_at(&self, place: usize, first: u16, last: u16) -> Option<RuleId> {
        let start = if place == 0 {
            0
        } else {
            self.ends[place - 1] as usize
        };
        let ranges = &self.ranges[start..self.ends[place] as usize];
        let mut next = u32::from(first);
        let mut rule = None;
        for range in ranges
            .iter()
            .filter(|range| range.last >= first && range.first <= last)
        {
            if u32::from(range.first) > next || range.verdict.decision != Decision::DenyRule {
                return None;
            }
            next = u32::from(range.last) + 1;
            rule = range.verdict.rule;
        }
        rule.filter(|_| next > u32::from(last))
    }

    /// Bytes it takes beyond itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        std::mem::size_of_val(&*self.ranges) + std::mem::size_of_val(&*self.firsts)
    }
}

/// The spans of traffic, names resolved; None is everything. A name that the destination does not
/// have means nothing.
pub(crate) fn spans(traffic: &Traffic, names: &[NamedPort]) -> Option<Vec<Span>> {
    match traffic {
        Traffic::All => None,
        Traffic::Of(ports) => Some(ports.iter().flat_map(|port| resolve(port, names)).collect()),
    }
}

/// The spans of one description of traffic.
pub(crate) fn resolve<'a>(
    port: &'a PortMatch,
    names: &'a [NamedPort],
) -> impl Iterator<Item = Span> + 'a {
    let proxy = port
        .inspection
        .as_ref()
        .map(|one| (one.proxy(), one.precedence()));
    let span = move |protocol, first, last| Span {
        protocol,
        first,
        last,
        proxy,
        contradicted: Places::default(),
    };
    let (range, name) = match &port.ports {
        Ports::Range(first, last) => (Some(span(port.protocol, *first, *last)), None),
        Ports::Named(name) => (None, Some(name)),
    };
    let is_meant = move |named: &&NamedPort| {
        Some(&named.name) == name
            && (port.protocol == PortProtocol::Any || port.protocol == named.protocol)
    };
    let named = names
        .iter()
        .filter(is_meant)
        .map(move |named| span(named.protocol, named.port, named.port));
    range.into_iter().chain(named)
}

/// A rule that holds at a port: the least one decides. Inside one order a deny comes first, then
/// proxies by precedence, then plain allows, then those that pass on; of equals the first in
/// document order. [policy-semantics §0, §7]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    order: Order,
    class: u8,
    /// Place in the entries.
    entry: u32,
    /// Place in the spans of the entry.
    span: u32,
}

const DENY: u8 = 0;
const PLAIN: u8 = 250;
const PASS: u8 = 251;

fn class(action: Action, span: Option<&Span>) -> u8 {
    match (action, span.and_then(|span| span.proxy)) {
        (Action::Deny, _) => DENY,
        (Action::Pass, _) => PASS,
        (Action::Allow, Some((_, precedence))) => precedence.clamp(1, PLAIN - 1),
        (Action::Allow, None) => PLAIN,
    }
}

/// Walks the ports of one protocol from low to high, with the rules that hold at each.
fn sweep(entries: &[Entry], place: usize, ranges: &mut Vec<Range>) {
    // By port: which rules begin or have ended there.
    let mut changes: BTreeMap<u32, Vec<(Rank, bool)>> = BTreeMap::new();
    for (number, entry) in (0..).zip(entries) {
        let mut mark = |number_of_span, span: Option<&Span>, first: u16, last: u16| {
            let rank = Rank {
                order: entry.order,
                class: class(entry.action, span),
                entry: number,
                span: number_of_span,
            };
            changes
                .entry(u32::from(first))
                .or_default()
                .push((rank, true));
            let behind = u32::from(last) + 1;
            changes.entry(behind).or_default().push((rank, false));
        };
        match &entry.spans {
            None => mark(0, None, 0, u16::MAX),
            Some(spans) => {
                for (number, span) in (0..).zip(spans) {
                    if span.protocol.is_at(place) {
                        mark(number, Some(span), span.first, span.last);
                    }
                }
            }
        }
    }
    let first_new = ranges.len();
    let mut holding = BTreeSet::new();
    let mut points = changes.into_iter().peekable();
    while let Some((first, changes)) = points.next() {
        for (rank, begins) in changes {
            if begins {
                holding.insert(rank);
            } else {
                holding.remove(&rank);
            }
        }
        if let (Some(verdict), Some((next, _))) = (decide(&holding, entries, place), points.peek())
        {
            push(ranges, first_new, bound(first), bound(next - 1), verdict);
        }
    }
}

/// What the rules that hold say together; None when all of them pass it on.
fn decide(holding: &BTreeSet<Rank>, entries: &[Entry], place: usize) -> Option<Verdict> {
    let mut rest = holding.iter().peekable();
    loop {
        let first = **rest.peek()?;
        let entry = &entries[first.entry as usize];
        let decision = match entry.action {
            Action::Pass => {
                let is_past = |rank: &&Rank| rank.order.tier > first.order.tier;
                while rest.next_if(|rank| !is_past(rank)).is_some() {}
                continue;
            }
            Action::Deny => Decision::DenyRule,
            Action::Allow => allow(first, rest, entries, place),
        };
        return Some(Verdict {
            decision,
            rule: Some(entry.rule),
        });
    }
}

/// What the allows say that come with the first one. The narrowest that speaks of authentication
/// is heard: fewest ports first, then some peers before all. [policy-semantics §8.4]
fn allow<'a>(
    first: Rank,
    rest: impl Iterator<Item = &'a Rank>,
    entries: &[Entry],
    place: usize,
) -> Decision {
    let span_of = |rank: &Rank| {
        let spans = entries[rank.entry as usize].spans.as_ref();
        spans.map(|spans| spans[rank.span as usize])
    };
    let mut heard: Option<(u32, bool, std::cmp::Reverse<Authentication>)> = None;
    for rank in rest.take_while(|rank| (rank.order, rank.class) == (first.order, first.class)) {
        let span = span_of(rank);
        if span.is_some_and(|span| span.contradicted.has(place)) {
            return Decision::Conflict;
        }
        let entry = &entries[rank.entry as usize];
        if let Some(authentication) = entry.authentication {
            let width = span.map_or(u32::MAX, |span| u32::from(span.last - span.first));
            let says = (width, !entry.is_specific, std::cmp::Reverse(authentication));
            heard = Some(heard.map_or(says, |other| other.min(says)));
        }
    }
    let proof = match heard.map(|heard| heard.2.0) {
        None | Some(Authentication::Disabled) => None,
        Some(Authentication::Required) => Some(Proof::Mutual),
        Some(Authentication::AlwaysFails) => Some(Proof::Impossible),
    };
    match (span_of(&first).and_then(|span| span.proxy), proof) {
        (Some((proxy, _)), proof) => Decision::Redirect(proxy, proof),
        (None, Some(proof)) => Decision::Authenticate(proof),
        (None, None) => Decision::Allow,
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
    use crate::Tier;

    fn span(protocol: PortProtocol, first: u16, last: u16) -> Span {
        Span {
            protocol,
            first,
            last,
            proxy: None,
            contradicted: Places::default(),
        }
    }

    fn entry(rule: u32, action: Action, spans: Option<&[(PortProtocol, u16, u16)]>) -> Entry {
        let spans = spans.map(|spans| spans.iter().map(|(p, a, b)| span(*p, *a, *b)).collect());
        Entry {
            rule: RuleId(rule),
            order: Order::default(),
            action,
            authentication: None,
            is_specific: true,
            spans,
        }
    }

    fn says(decision: Decision, rule: u32) -> Option<Verdict> {
        Some(Verdict {
            decision,
            rule: Some(RuleId(rule)),
        })
    }

    #[test]
    fn a_denied_range_is_a_hole_in_an_allowed_one() {
        let class = Class::new(&[
            entry(0, Action::Allow, None),
            entry(1, Action::Deny, Some(&[(PortProtocol::Any, 8000, 9000)])),
        ]);
        let (allowed, denied) = (says(Decision::Allow, 0), says(Decision::DenyRule, 1));
        assert_eq!(class.find(Protocol::Tcp, 7999), allowed);
        assert_eq!(class.find(Protocol::Udp, 8000), denied);
        assert_eq!(class.find(Protocol::Sctp, 9000), denied);
        assert_eq!(class.find(Protocol::Tcp, 9001), allowed);
        assert_eq!(class.find(Protocol::Icmp, 8), allowed);
        assert_eq!(class.find(Protocol::Other(47), 0), allowed);
    }

    #[test]
    fn the_first_rule_in_document_order_is_named() {
        let class = Class::new(&[
            entry(3, Action::Allow, Some(&[(PortProtocol::Tcp, 80, 80)])),
            entry(5, Action::Allow, Some(&[(PortProtocol::Tcp, 1, 100)])),
        ]);
        assert_eq!(class.find(Protocol::Tcp, 79), says(Decision::Allow, 5));
        assert_eq!(class.find(Protocol::Tcp, 80), says(Decision::Allow, 3));
        assert_eq!(class.find(Protocol::Tcp, 81), says(Decision::Allow, 5));
        assert_eq!(class.find(Protocol::Tcp, 101), None);
        assert_eq!(class.find(Protocol::Udp, 80), None);
    }

    #[test]
    fn a_pass_skips_the_rest_of_its_tier() {
        let at = |rule, action, tier, priority| Entry {
            order: Order { tier, priority },
            ..entry(rule, action, None)
        };
        let class = Class::new(&[
            at(0, Action::Pass, Tier::Admin, 1),
            at(1, Action::Deny, Tier::Admin, 2),
            at(2, Action::Allow, Tier::Normal, 0),
        ]);
        assert_eq!(class.find(Protocol::Tcp, 1), says(Decision::Allow, 2));
        let class = Class::new(&[
            at(0, Action::Pass, Tier::Admin, 1),
            at(1, Action::Allow, Tier::Admin, 1),
        ]);
        assert_eq!(class.find(Protocol::Tcp, 1), says(Decision::Allow, 1));
    }
}
