//! Events as they are copied out of a history: unpacked by whoever reads them, in his own time.

use super::event::Event;
use super::names::Names;
use super::names_table::NamesTable;
use super::ring::Ring;
use super::stored::Stored;
use portcullis_policy::Generation;
use std::sync::Arc;

/// Records with consecutive numbers.
#[derive(Debug, Default)]
pub(crate) struct Copied {
    first: u64,
    records: Vec<Stored>,
    /// The names they refer to: few, and mostly one.
    names: Vec<(u32, Generation, Arc<Names>)>,
}

impl Copied {
    /// Copies records from a number on, and all that is needed to unpack them.
    pub(crate) fn new(ring: &Ring, table: &NamesTable, first: u64, max: usize) -> Self {
        let mut copied = Self {
            first,
            ..Self::default()
        };
        let records = (first..).map_while(|number| ring.get(number));
        copied.records.extend(records.take(max));
        for record in &copied.records {
            let place = record.names;
            let is_known = |(known, ..): &(u32, Generation, Arc<Names>)| *known == place;
            if !copied.names.iter().rev().any(is_known)
                && let Some((generation, names)) = table.get(place)
            {
                copied.names.push((place, generation, Arc::clone(names)));
            }
        }
        copied
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Unpacks them.
    pub(crate) fn events(&self) -> impl Iterator<Item = Event> {
        (self.first..)
            .zip(&self.records)
            .filter_map(|(number, record)| {
                let known = |(place, ..): &&(u32, Generation, Arc<Names>)| *place == record.names;
                let (_, generation, names) = self.names.iter().find(known)?;
                Some(Event {
                    number,
                    time: record.time(),
                    record: record.record(*generation),
                    names: Arc::clone(names),
                })
            })
    }
}
