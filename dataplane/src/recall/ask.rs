//! Which events somebody wants to see.

use crate::observe::{Event, FlowChoice, FlowFilter, FlowVerdict, Home, Sighting};
use jiff::Timestamp;
use portcullis_engine::{Drop, RecordKind};
use portcullis_hubble::read_expressions;
use serde::{Deserialize, Serialize};

/// Filters: of all events those that one of `allow` wants, without those that one of `deny` does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Wanted {
    /// None means all.
    pub allow: Vec<FlowFilter>,
    /// What is left out.
    pub deny: Vec<FlowFilter>,
    /// Keys of our own drop reasons, which are finer than Hubble's; all when there are none.
    pub reasons: Vec<String>,
    /// Keys that are left out.
    pub reasons_not: Vec<String>,
    /// Whether events of connections that go on or end are wanted, too.
    pub has_endings: bool,
}

/// How events are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Each once, with all that is known of it.
    #[default]
    Event,
    /// As Hubble's API tells it: each verdict, and then what became of the packet.
    Hubble,
}

/// Events of the past, and perhaps those to come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ask {
    /// Which ones.
    pub wanted: Wanted,
    /// In what form.
    pub form: Form,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
    /// From the oldest there is, on disk too; else the past begins with the oldest in memory.
    pub all: bool,
    /// How many of the first.
    pub first: Option<usize>,
    /// How many of the last.
    pub last: Option<usize>,
    /// Whether to stay and wait for more.
    pub follow: bool,
}

/// Filters that were understood.
#[derive(Debug)]
pub struct Chooser {
    choice: FlowChoice,
    reasons: Vec<String>,
    reasons_not: Vec<String>,
    has_endings: bool,
}

impl Wanted {
    /// Reads the filters.
    ///
    /// # Errors
    /// The place, what it may hold, and what it does.
    pub fn compile(&self, home: &Home) -> Result<Chooser, String> {
        for key in self.reasons.iter().chain(&self.reasons_not) {
            if !Drop::ALL.iter().any(|drop| drop.key() == key) {
                return Err(format!(
                    "drop-reason: expected a key that `portcullis status` shows, found \"{key}\""
                ));
            }
        }
        Ok(Chooser {
            choice: FlowChoice::compile(&self.allow, &self.deny, home, read_expressions)?,
            reasons: self.reasons.clone(),
            reasons_not: self.reasons_not.clone(),
            has_endings: self.has_endings,
        })
    }
}

impl Chooser {
    /// What is told of an event in which one line is told of each: of the things that are seen of it,
    /// agree with its verdict and are wanted, the last.
    #[must_use]
    pub fn chosen<'a>(&self, event: &'a Event) -> Option<Sighting<'a>> {
        let wanted = |sighting: &Sighting<'_>| self.choice.wants(sighting);
        let is_told = self.wants_record(event);
        is_told.then(|| sightings(event).filter(wanted).last())?
    }

    /// What is told of an event in Hubble's form: all that is seen of it and is wanted.
    pub fn all<'a>(&self, event: &'a Event) -> impl Iterator<Item = Sighting<'a>> {
        let is_told = self.wants_record(event);
        Sighting::all(event).filter(move |sighting| is_told && self.choice.wants(sighting))
    }

    /// Whether an event is wanted.
    #[must_use]
    pub fn wants(&self, event: &Event) -> bool {
        self.chosen(event).is_some()
    }

    /// Whether what filters of Hubble do not know is as it is wanted.
    fn wants_record(&self, event: &Event) -> bool {
        let kind = event.record.kind;
        if !self.has_endings && matches!(kind, RecordKind::Update | RecordKind::End(_)) {
            return false;
        }
        let reason = match kind {
            RecordKind::Drop(reason) | RecordKind::Revoked(reason) => Some(reason.key()),
            _ => None,
        };
        let is_reason = |list: &[String]| reason.is_some_and(|key| list.iter().any(|is| is == key));
        (self.reasons.is_empty() || is_reason(&self.reasons)) && !is_reason(&self.reasons_not)
    }
}

/// What is seen of an event and agrees with its verdict: not that egress allowed what ingress denied.
pub fn sightings(event: &Event) -> impl Iterator<Item = Sighting<'_>> {
    let of = |verdict| Sighting::all(event).any(|sighting| sighting.verdict() == verdict);
    let verdict = match event.record.kind {
        RecordKind::Drop(_) | RecordKind::Revoked(_) => FlowVerdict::Dropped,
        _ if of(FlowVerdict::Audit) => FlowVerdict::Audit,
        _ => FlowVerdict::Forwarded,
    };
    Sighting::all(event).filter(move |sighting| sighting.verdict() == verdict)
}
