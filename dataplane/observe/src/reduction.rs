//! Old names on their way to an extract: a cluster where much changes has many generations, and
//! records of all of them may be kept.

use super::copied::Copied;
use super::names::Names;
use super::names_extract::NamesExtract;
use portcullis_policy::Generation;
use std::sync::Arc;

/// One set of names whose records are gone through, a piece at a time.
#[derive(Debug)]
pub(crate) struct Reduction {
    pub(crate) place: u32,
    pub(crate) generation: Generation,
    pub(crate) names: Arc<Names>,
    /// The record that is looked at next.
    pub(crate) next: u64,
    extract: NamesExtract,
}

impl Reduction {
    /// Begins with the first record that refers to these names.
    pub(crate) fn new(place: u32, generation: Generation, names: Arc<Names>, first: u64) -> Self {
        Self {
            place,
            generation,
            names,
            next: first,
            extract: NamesExtract::default(),
        }
    }

    /// Takes what these records need, as far as they are of this set.
    pub(crate) fn note(&mut self, copied: &Copied) {
        for event in copied.events() {
            if Arc::ptr_eq(&event.names, &self.names) {
                self.extract.note(&event.record, &event.names);
            }
        }
        self.next = copied.end();
    }

    /// What is left of the names.
    pub(crate) fn finish(self) -> Names {
        self.extract.into_names()
    }
}
