//! Who talks most: connections, drops, packets and bytes by what people group by.

use crate::observe::{Event, Judgement, Sighting, protocol_name};
use clap::ValueEnum;
use portcullis_engine::{Now, RecordKind, Totals};
use portcullis_policy::Protocol;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;

/// Rows that are told apart; what belongs to none of the first so many is one row of others.
const ROWS_MAX: usize = 10_000;
/// Connections whose totals are remembered, so that none is added twice.
const OPEN_MAX: usize = 200_000;
/// Both ends of a connection may tell of it, and both know when it began, to a tenth of a second.
const SAME_BEGIN: u64 = 1_000_000_000;

/// What rows are made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Grouping {
    /// Who began: pod, `host`, address.
    Source,
    /// Who was meant.
    Destination,
    /// The destination's port and the protocol; for ICMP the type.
    Port,
    /// The protocol.
    Protocol,
    /// The verdict.
    Verdict,
    /// Both namespaces.
    Namespace,
    /// The namespace of who began.
    SourceNamespace,
    /// The namespace of who was meant.
    DestinationNamespace,
    /// The workload of who began.
    SourceWorkload,
    /// The workload of who was meant.
    DestinationWorkload,
    /// The key of the drop reason.
    Reason,
}

impl Grouping {
    /// The title of its column.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Source => "SOURCE",
            Self::Destination => "DESTINATION",
            Self::Port => "PORT",
            Self::Protocol => "PROTOCOL",
            Self::Verdict => "VERDICT",
            Self::Namespace => "NAMESPACES",
            Self::SourceNamespace => "SOURCE NAMESPACE",
            Self::DestinationNamespace => "DESTINATION NAMESPACE",
            Self::SourceWorkload => "SOURCE WORKLOAD",
            Self::DestinationWorkload => "DESTINATION WORKLOAD",
            Self::Reason => "REASON",
        }
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ranked {
    /// What it is about, in the order of the groupings; empty for all others together.
    pub by: Vec<String>,
    /// Connections that passed.
    pub connections: u64,
    /// Packets that were dropped.
    pub drops: u64,
    /// Packets that passed, both ways, as far as they have been told.
    pub packets: u64,
    /// Bytes of IP that passed, both ways.
    pub bytes: u64,
}

/// What tells connections apart.
type Key = (IpAddr, IpAddr, (u16, u16), Protocol);

/// A connection, and what of it has been added.
#[derive(Debug)]
struct Open {
    row: usize,
    opened: Option<Now>,
    added: (u64, u64),
    has_ended: bool,
}

/// Rows that grow.
#[derive(Debug)]
pub struct Ranking {
    by: Vec<Grouping>,
    rows: Vec<Ranked>,
    places: HashMap<Vec<String>, usize>,
    open: HashMap<Key, Open>,
}

impl Ranking {
    /// No rows yet.
    #[must_use]
    pub fn new(by: &[Grouping]) -> Self {
        Self {
            by: by.to_vec(),
            // The first is for others.
            rows: vec![Ranked::default()],
            places: HashMap::new(),
            open: HashMap::new(),
        }
    }

    /// Adds an event.
    pub fn note(&mut self, event: &Event) {
        let Some(values) = self.values(event) else {
            return;
        };
        let row = self.row(values);
        match event.record.kind {
            RecordKind::Drop(_) | RecordKind::Revoked(_) => self.rows[row].drops += 1,
            RecordKind::Flow => self.begin(event, row),
            RecordKind::Update => self.go_on(event, row, false),
            RecordKind::End(_) => self.go_on(event, row, true),
        }
    }

    /// The rows, those with most of something first, and how many there are.
    #[must_use]
    pub fn rows(self, sort: fn(&Ranked) -> u64, limit: usize) -> (Vec<Ranked>, usize) {
        let mut rows: Vec<_> = self.rows.into_iter().filter(|row| row.has_any()).collect();
        rows.sort_by(|one, other| {
            let key = |row: &Ranked| Reverse((sort(row), row.connections, row.drops));
            // Else the order would differ from call to call.
            key(one)
                .cmp(&key(other))
                .then_with(|| one.by.cmp(&other.by))
        });
        let all = rows.len();
        rows.truncate(limit);
        (rows, all)
    }

    fn row(&mut self, values: Vec<String>) -> usize {
        if let Some(place) = self.places.get(&values) {
            return *place;
        }
        if self.rows.len() > ROWS_MAX {
            return 0;
        }
        self.rows.push(Ranked {
            by: values.clone(),
            ..Ranked::default()
        });
        self.places.insert(values, self.rows.len() - 1);
        self.rows.len() - 1
    }

    fn begin(&mut self, event: &Event, row: usize) {
        let Some(key) = key(event) else { return };
        let known = self.open.get(&key);
        // What is only audited is told whenever policy is asked, not once for a connection.
        let is_audited = Judgement::all(event).any(|judgement| judgement.is_audited);
        if is_audited && known.is_some_and(|open| !open.has_ended && open.row == row) {
            return;
        }
        self.rows[row].connections += 1;
        self.hold(
            key,
            Open {
                row,
                opened: None,
                added: (0, 0),
                has_ended: false,
            },
        );
    }

    /// Adds what is new in the totals of a connection, which count from its beginning.
    fn go_on(&mut self, event: &Event, row: usize, has_ended: bool) {
        let Some(key) = key(event) else { return };
        let totals = &event.record.totals;
        let sums = sums(totals);
        if let Some(open) = self.open.get_mut(&key)
            && open
                .opened
                .is_none_or(|opened| opened.0.abs_diff(totals.opened.0) <= SAME_BEGIN)
        {
            let row = &mut self.rows[open.row];
            row.packets += sums.0.saturating_sub(open.added.0);
            row.bytes += sums.1.saturating_sub(open.added.1);
            open.added = (open.added.0.max(sums.0), open.added.1.max(sums.1));
            open.opened = Some(totals.opened);
            open.has_ended |= has_ended;
            return;
        }
        // Its beginning is no longer kept.
        let held = &mut self.rows[row];
        held.connections += 1;
        held.packets += sums.0;
        held.bytes += sums.1;
        let open = Open {
            row,
            opened: Some(totals.opened),
            added: sums,
            has_ended,
        };
        self.hold(key, open);
    }

    fn hold(&mut self, key: Key, open: Open) {
        if self.open.len() >= OPEN_MAX {
            self.open.retain(|_, open| !open.has_ended);
        }
        if self.open.len() < OPEN_MAX || self.open.contains_key(&key) {
            self.open.insert(key, open);
        }
    }

    /// What an event is counted under.
    fn values(&self, event: &Event) -> Option<Vec<String>> {
        let seen = Sighting::all(event).last()?;
        let record = &event.record;
        let (mut source, mut destination) = (seen.source, seen.destination);
        if is_reply(event) {
            std::mem::swap(&mut source, &mut destination);
        }
        let end = |of: &crate::observe::Party<'_>| match of.address {
            _ if !of.pod_name.is_empty() => format!("{}/{}", of.namespace, of.pod_name),
            _ if of.identity == portcullis_policy::Identity::HOST => "host".into(),
            Some(address) => address.to_string(),
            None => "-".into(),
        };
        let workload = |of: &crate::observe::Party<'_>| match of.workload() {
            Some((_, name)) => format!("{}/{name}", of.namespace),
            None => end(of),
        };
        let space = |name: &str| {
            if name.is_empty() {
                "-".into()
            } else {
                name.to_owned()
            }
        };
        let protocol = || record.protocol.map_or_else(|| "-".into(), protocol_name);
        let reason = match record.kind {
            RecordKind::Drop(reason) | RecordKind::Revoked(reason) => Some(reason.key()),
            _ => None,
        };
        let value = |by: &Grouping| match by {
            Grouping::Source => end(&source),
            Grouping::Destination => end(&destination),
            Grouping::Port => match key(event) {
                Some((.., (_, port), _)) => format!("{port}/{}", protocol()),
                None => "-".into(),
            },
            Grouping::Protocol => protocol(),
            Grouping::Verdict => match (reason, is_audited(event)) {
                (Some(_), _) => "DROPPED".into(),
                (None, true) => "AUDIT".into(),
                (None, false) => "FORWARDED".into(),
            },
            Grouping::Namespace => {
                let (from, to) = (space(source.namespace), space(destination.namespace));
                format!("{from} -> {to}")
            }
            Grouping::SourceNamespace => space(source.namespace),
            Grouping::DestinationNamespace => space(destination.namespace),
            Grouping::SourceWorkload => workload(&source),
            Grouping::DestinationWorkload => workload(&destination),
            Grouping::Reason => reason.unwrap_or("-").to_owned(),
        };
        Some(self.by.iter().map(value).collect())
    }
}

impl Ranked {
    const fn has_any(&self) -> bool {
        self.connections + self.drops + self.packets > 0
    }
}

fn is_audited(event: &Event) -> bool {
    Judgement::all(event).any(|judgement| judgement.is_audited)
}

fn is_reply(event: &Event) -> bool {
    event.record.is_reply == Some(true)
}

/// The connection, in the direction in which it began.
fn key(event: &Event) -> Option<Key> {
    let record = &event.record;
    let (source, destination) = record.addresses?;
    let (from, to) = record.ports;
    let protocol = record.protocol?;
    let is_icmp = matches!(protocol, Protocol::Icmp | Protocol::Icmpv6);
    Some(match (is_reply(event), is_icmp) {
        (false, _) => (source, destination, (from, to), protocol),
        (true, true) => (destination, source, (from, to), protocol),
        (true, false) => (destination, source, (to, from), protocol),
    })
}

fn sums(totals: &Totals) -> (u64, u64) {
    let packets = totals.packets.iter().map(|count| u64::from(*count)).sum();
    (packets, totals.bytes.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use portcullis_engine::{Drop, Ending, Record};
    use std::sync::Arc;

    fn event(kind: RecordKind, port: u16, bytes: u64) -> Event {
        let address = |text: &str| text.parse().expect("an address");
        let record = Record {
            kind,
            addresses: Some((address("10.0.0.1"), address("10.0.0.2"))),
            protocol: Some(Protocol::Tcp),
            ports: (40_000, port),
            totals: Totals {
                packets: [u32::from(bytes > 0), 0],
                bytes: [bytes, 0],
                ..Totals::default()
            },
            ..Record::BLANK
        };
        Event::new(Timestamp::UNIX_EPOCH, record, Arc::default())
    }

    #[test]
    fn totals_count_from_the_beginning_and_are_added_once() {
        let mut ranking = Ranking::new(&[Grouping::Source, Grouping::Port]);
        for event in [
            event(RecordKind::Flow, 80, 0),
            event(RecordKind::Update, 80, 100),
            event(RecordKind::Update, 80, 250),
            event(RecordKind::End(Ending::Finished), 80, 300),
            // The other end tells of it, too.
            event(RecordKind::End(Ending::Finished), 80, 300),
            event(RecordKind::Flow, 80, 0),
            event(RecordKind::Drop(Drop::PolicyDenied), 81, 0),
            event(RecordKind::Update, 82, 7),
        ] {
            ranking.note(&event);
        }
        let row = |port: &str, connections, drops, packets, bytes| Ranked {
            by: vec!["10.0.0.1".into(), port.into()],
            connections,
            drops,
            packets,
            bytes,
        };
        let expected = vec![
            row("80/TCP", 2, 0, 1, 300),
            row("82/TCP", 1, 0, 1, 7),
            row("81/TCP", 0, 1, 0, 0),
        ];
        assert_eq!(ranking.rows(|row| row.bytes, 10), (expected, 3));
    }

    #[test]
    fn beyond_the_bound_there_are_others() {
        let mut ranking = Ranking::new(&[Grouping::Port]);
        for port in 0..=u16::MAX {
            ranking.note(&event(RecordKind::Drop(Drop::PolicyDenied), port, 0));
        }
        let (rows, all) = ranking.rows(|row| row.drops, 2);
        assert_eq!(all, ROWS_MAX + 1);
        assert_eq!(
            (rows[0].by.len(), rows[0].drops),
            (0, 65_536 - ROWS_MAX as u64)
        );
    }
}
