//! Fetches for a whole batch what its packets will read: entries of flows lie anywhere in a large
//! table, and waiting for one at a time would cost more than all else.

use crate::rings::prefetch;
use portcullis_engine::{EndpointIndex, Engine, Foreseen, FrameBytes};

/// What is known of the frames of a batch before their turn, in their order.
#[derive(Debug, Default)]
pub struct Foresight {
    frames: Vec<Option<Foreseen>>,
}

impl Foresight {
    /// Room for batches of this size.
    #[must_use]
    pub fn new(batch: usize) -> Self {
        Self {
            frames: Vec::with_capacity(batch),
        }
    }

    /// Forgets the last batch.
    pub fn begin(&mut self) {
        self.frames.clear();
    }

    /// Looks at the next frame of the batch.
    #[inline]
    pub fn look(&mut self, engine: &Engine, from: EndpointIndex, frame: &FrameBytes<'_>) {
        let foreseen = engine.foresee(from, frame);
        if let Some(foreseen) = &foreseen {
            prefetch(engine.place_of_number(foreseen));
        }
        self.frames.push(foreseen);
    }

    /// Fetches the entries of all, after all have been looked at.
    pub fn fetch(&mut self, engine: &Engine) {
        for foreseen in self.frames.iter_mut().flatten() {
            for line in engine.place_of_entry(foreseen).into_iter().flatten() {
                prefetch(line);
            }
        }
        for foreseen in self.frames.iter().flatten() {
            for line in engine.place_of_twin(foreseen).into_iter().flatten() {
                prefetch(line);
            }
        }
    }

    /// What is known of a frame by its number in the batch.
    #[must_use]
    pub fn of(&self, number: usize) -> Option<&Foreseen> {
        self.frames.get(number)?.as_ref()
    }
}
