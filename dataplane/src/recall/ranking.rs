//! Who talks most: connections, drops, packets and bytes by what people group by.

use crate::observe::{Connections, Event, Sighting, is_audited, protocol_name};
use clap::ValueEnum;
use portcullis_engine::RecordKind;
use portcullis_policy::Protocol;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::HashMap;

/// Rows that are told apart; what belongs to none of the first so many is one row of others.
const ROWS_MAX: usize = 10_000;
/// Connections that are open at one time in what is counted.
const CONNECTIONS_MAX: usize = 200_000;

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

/// Rows that grow.
#[derive(Debug)]
pub struct Ranking {
    by: Vec<Grouping>,
    rows: Vec<Ranked>,
    places: HashMap<Vec<String>, usize>,
    /// By the row that they are counted in.
    connections: Connections<usize>,
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
            connections: Connections::new(CONNECTIONS_MAX),
        }
    }

    /// Adds an event.
    pub fn note(&mut self, event: &Event) {
        let Some(values) = self.values(event) else {
            return;
        };
        let row = self.row(values);
        let record = &event.record;
        if matches!(record.kind, RecordKind::Drop(_) | RecordKind::Revoked(_)) {
            self.rows[row].drops += 1;
        }
        let passed = (self.connections).take(record, event.time.as_second(), row);
        let row = &mut self.rows[passed.under];
        row.connections += u64::from(passed.is_new);
        row.packets += passed.packets.iter().sum::<u64>();
        row.bytes += passed.bytes.iter().sum::<u64>();
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
            Grouping::Port => match port(event) {
                Some(port) => format!("{port}/{}", protocol()),
                None => "-".into(),
            },
            Grouping::Protocol => protocol(),
            Grouping::Verdict => match (reason, is_audited(record)) {
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

fn is_reply(event: &Event) -> bool {
    event.record.is_reply == Some(true)
}

/// The port that was asked for; of ICMP the type of the message that began it.
fn port(event: &Event) -> Option<u16> {
    let record = &event.record;
    let is_icmp = matches!(record.protocol?, Protocol::Icmp | Protocol::Icmpv6);
    let (from, to) = record.ports;
    Some(if is_reply(event) && !is_icmp {
        from
    } else {
        to
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use portcullis_engine::{Drop, Ending, Record, Totals};
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
