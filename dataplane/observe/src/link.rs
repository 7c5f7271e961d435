//! The interfaces of the node: which one a packet was seen at, and what its frame was addressed to.

use super::event::Event;
use super::sighting::{Aspect, Sighting};
use portcullis_engine::{EndpointId, MacAddress, RecordKind};
use serde::{Deserialize, Serialize};
use std::fmt;

/// An interface of the node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Link {
    /// The kernel's number; zero while there is none of that name.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// MAC address that we send from there and answer with.
    pub own_mac: Option<Mac>,
    /// MAC address of the only one behind it. None for an uplink, where there are many, and until it
    /// is known.
    pub peer_mac: Option<Mac>,
}

/// A MAC address, written `02:00:00:00:00:01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

impl From<MacAddress> for Mac {
    fn from(address: MacAddress) -> Self {
        Self(address.0)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl<'a> Sighting<'a> {
    /// The interface that it was seen at: where it left by, or where it had come in when it ended.
    /// None of what policies said, as Hubble has it, and where the interface is not known.
    #[must_use]
    pub fn link(&self) -> Option<&'a Link> {
        let record = &self.event.record;
        match self.aspect {
            Aspect::Verdict(_) => None,
            Aspect::Drop(_) => of(self.event, record.from),
            Aspect::Trace(_) => of(self.event, record.to),
        }
    }

    /// Source and destination of the frame, where it is certain what they were: of what left by an
    /// interface behind which is only one, and of what came in there and policy was asked about,
    /// because then both had been checked.
    #[must_use]
    pub fn ethernet(&self) -> Option<(Mac, Mac)> {
        let record = &self.event.record;
        let (is_leaving, is_certain) = match (self.aspect, record.kind) {
            (Aspect::Trace(_), kind) => (true, kind == RecordKind::Flow),
            (Aspect::Verdict(_), _) => (false, true),
            (Aspect::Drop(_), RecordKind::Revoked(_)) => (false, true),
            (Aspect::Drop(reason), _) => (false, reason.is_denial()),
        };
        if !is_certain {
            return None;
        }
        let link = of(self.event, if is_leaving { record.to } else { record.from })?;
        let (own, peer) = (link.own_mac?, link.peer_mac?);
        Some(if is_leaving { (own, peer) } else { (peer, own) })
    }
}

fn of(event: &Event, endpoint: Option<EndpointId>) -> Option<&Link> {
    event.names.links.get(&endpoint?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Names, NamesExtract};
    use jiff::Timestamp;
    use portcullis_engine::{Drop, Record};
    use portcullis_policy::{Decision, Verdict};
    use std::sync::Arc;

    const POD: EndpointId = EndpointId(1);
    const OTHER: EndpointId = EndpointId(2);
    const UPLINK: EndpointId = EndpointId(3);

    fn link(index: u8, has_peer: bool) -> Link {
        Link {
            index: index.into(),
            name: format!("link{index}"),
            own_mac: Some(Mac([0xee; 6])),
            peer_mac: has_peer.then_some(Mac([index; 6])),
        }
    }

    fn names() -> Names {
        let links = [
            (POD, link(1, true)),
            (OTHER, link(2, true)),
            (UPLINK, link(3, false)),
        ];
        Names {
            links: links.into(),
            node_labels: ["zone=a".to_owned()].into(),
            ..Names::default()
        }
    }

    /// What the last sighting of a record knows of interface and frame, with these names.
    fn known(record: Record, names: &Arc<Names>) -> (Option<u32>, Option<String>) {
        let event = Event::new(Timestamp::UNIX_EPOCH, record, Arc::clone(names));
        let last = Sighting::all(&event).last().expect("all is told of");
        let ethernet = last.ethernet();
        let written = ethernet.map(|(source, destination)| format!("{source} {destination}"));
        (last.link().map(|link| link.index), written)
    }

    #[test]
    fn interface_and_frame_are_told_where_they_are_certain_and_outlive_the_tables() {
        let of = |kind, from, to| Record {
            kind,
            from: Some(from),
            to: Some(to),
            ..Record::BLANK
        };
        let gateway = "ee:ee:ee:ee:ee:ee";
        let to = |peer: &str| Some(format!("{gateway} {peer}"));
        let rows = [
            (
                of(RecordKind::Flow, POD, OTHER),
                (Some(2), to("02:02:02:02:02:02")),
            ),
            // Behind an uplink are many.
            (of(RecordKind::Flow, POD, UPLINK), (Some(3), None)),
            // Sums are of no frame.
            (of(RecordKind::Update, POD, OTHER), (Some(2), None)),
            (
                of(RecordKind::Drop(Drop::PolicyDenied), POD, OTHER),
                (Some(1), Some(format!("01:01:01:01:01:01 {gateway}"))),
            ),
            // Whose it claims to be nobody knows.
            (
                of(RecordKind::Drop(Drop::SourceMacSpoofed), POD, OTHER),
                (Some(1), None),
            ),
        ];
        let whole = Arc::new(names());
        let mut extract = NamesExtract::default();
        for (record, _) in &rows {
            extract.note(record, &whole);
        }
        let text = serde_json::to_string(&extract).expect("it is written to disk");
        let extract: NamesExtract = serde_json::from_str(&text).expect("and read");
        for names in [whole, Arc::new(extract.into_names())] {
            for (record, expected) in &rows {
                assert_eq!(known(*record, &names), *expected, "{record:?}");
            }
            assert_eq!(names.node_labels[..], ["zone=a"]);
        }
    }

    #[test]
    fn a_verdict_is_seen_at_no_interface() {
        let allowed = Verdict {
            decision: Decision::AllowUnpoliced,
            rule: None,
        };
        let record = Record {
            kind: RecordKind::Flow,
            from: Some(POD),
            to: Some(OTHER),
            egress: Some(allowed),
            ..Record::BLANK
        };
        let event = Event::new(Timestamp::UNIX_EPOCH, record, Arc::new(names()));
        let mut all = Sighting::all(&event);
        let verdict = all.next().expect("a verdict");
        assert!(matches!(verdict.aspect, Aspect::Verdict(_)));
        assert_eq!(verdict.link(), None);
        assert_eq!(verdict.ethernet(), Some((Mac([1; 6]), Mac([0xee; 6]))));
    }
}
