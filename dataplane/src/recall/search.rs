//! Finding one event by its number, its name, the beginning of its name, or as the last denial.

use super::ask::sightings;
use crate::observe::{Event, History, Position, Sighting, Uuid};
use portcullis_engine::RecordKind;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Events that are looked at at one time.
const BATCH: usize = 1024;
/// The fewest digits of a name that say which one is meant.
const PREFIX_MIN: usize = 4;

/// Which event is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// The last one that policy denied.
    LastDenied,
    /// By number, name or the beginning of a name.
    Named(String),
}

impl Which {
    /// Finds it.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn find(&self, history: &Arc<History>) -> Result<Event, String> {
        match self {
            Self::LastDenied => backwards(history)
                .find(is_denied)
                .ok_or_else(|| "nothing that is kept was denied".into()),
            Self::Named(text) => find_named(history, text.trim()),
        }
    }
}

/// Events, the newest first.
pub fn backwards(history: &Arc<History>) -> impl Iterator<Item = Event> + use<> {
    let history = Arc::clone(history);
    let mut before = u64::MAX;
    std::iter::from_fn(move || {
        let batch = history.events_before(before, BATCH);
        before = batch.last()?.number;
        Some(batch)
    })
    .flatten()
}

fn is_denied(event: &Event) -> bool {
    match event.record.kind {
        RecordKind::Drop(reason) | RecordKind::Revoked(reason) => reason.is_denial(),
        _ => false,
    }
}

fn find_named(history: &Arc<History>, text: &str) -> Result<Event, String> {
    if let Ok(number) = text.parse::<u64>() {
        let mut reader = history.reader_at(Position::Number(number));
        let found = reader.read(1).events.into_iter().next();
        if let Some(event) = found.filter(|event| event.number == number) {
            return Ok(event);
        }
    }
    let gone = || format!("no flow that is kept has the number or name \"{text}\"");
    if let Ok(uuid) = text.parse::<Uuid>() {
        let time = uuid.time().ok_or_else(gone)?;
        let mut reader = history.reader_at(Position::Since(time));
        let events = reader.read(BATCH).events;
        return events
            .into_iter()
            .find(|event| has_name(event, uuid))
            .ok_or_else(gone);
    }
    let is_digits = |text: &str| {
        text.chars()
            .all(|letter| letter.is_ascii_hexdigit() || letter == '-')
    };
    if text.len() < PREFIX_MIN || !is_digits(text) {
        return Err(format!(
            "expected a number or uuid as `observe -o json` prints it, or the first {PREFIX_MIN} or \
             more digits of a uuid, found \"{text}\""
        ));
    }
    let prefix = text.to_ascii_lowercase();
    let mut found = backwards(history).filter(|event| {
        Sighting::all(event).any(|sighting| sighting.uuid().to_string().starts_with(&prefix))
    });
    let event = found.next().ok_or_else(gone)?;
    if let Some(other) = found.next() {
        let names: Vec<_> = [&other, &event]
            .into_iter()
            .filter_map(|event| sightings(event).last())
            .map(|sighting| sighting.uuid().to_string())
            .collect();
        return Err(format!(
            "several flows have a name that begins with \"{text}\", such as {}",
            names.join(" and ")
        ));
    }
    Ok(event)
}

fn has_name(event: &Event, uuid: Uuid) -> bool {
    Sighting::all(event).any(|sighting| sighting.uuid() == uuid)
}
