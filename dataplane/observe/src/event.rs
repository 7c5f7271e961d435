//! A record as readers get it.

use super::names::Names;
use jiff::Timestamp;
use portcullis_engine::Record;
use std::sync::Arc;

/// A record with its wall-clock time and the names of its generation.
#[derive(Debug, Clone)]
pub struct Event {
    /// Counts up from one event of this node to the next and never repeats. History gives it: zero
    /// before.
    pub number: u64,
    /// When the worker saw it.
    pub time: Timestamp,
    /// What it saw.
    pub record: Record,
    /// Who was who then.
    pub names: Arc<Names>,
}

impl Event {
    /// An event that history has not numbered yet.
    #[must_use]
    pub const fn new(time: Timestamp, record: Record, names: Arc<Names>) -> Self {
        Self {
            number: 0,
            time,
            record,
            names,
        }
    }
}
