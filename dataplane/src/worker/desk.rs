//! How tables of a worker are read: page by page, between its batches, in memory of the asker.

use super::handle::{Bell, Command};
use crossbeam::queue::ArrayQueue;
use portcullis_engine::{DestinationUse, Engine, FlowView, SessionView};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Entries of one page: the worker copies no more in one turn.
const PAGE_ENTRIES: usize = 256;
/// An answer is looked for this often.
const GLANCE: Duration = Duration::from_micros(50);

/// A piece of one table. The worker fills the room that it has, and makes none.
pub enum Page {
    /// Of the flow table.
    Flows(Vec<FlowView>),
    /// Of the translations.
    Sessions(Vec<SessionView>),
    /// Of the destinations that take ports.
    Destinations(Vec<DestinationUse>),
}

impl Page {
    /// Room for flows.
    #[must_use]
    pub fn of_flows() -> Self {
        Self::Flows(Vec::with_capacity(PAGE_ENTRIES))
    }

    /// Room for translations.
    #[must_use]
    pub fn of_sessions() -> Self {
        Self::Sessions(Vec::with_capacity(PAGE_ENTRIES))
    }

    /// Room for destinations.
    #[must_use]
    pub fn of_destinations() -> Self {
        Self::Destinations(Vec::with_capacity(PAGE_ENTRIES))
    }

    /// Empty, and as large as before.
    fn clear(&mut self) {
        match self {
            Self::Flows(page) => page.clear(),
            Self::Sessions(page) => page.clear(),
            Self::Destinations(page) => page.clear(),
        }
    }

    /// Fills it from a cursor on. Returns where to go on; None at the end.
    pub(super) fn fill(&mut self, engine: &Engine, cursor: u32) -> Option<u32> {
        match self {
            Self::Flows(page) => engine.list_flows(cursor, page),
            Self::Sessions(page) => engine.list_sessions(cursor, page),
            Self::Destinations(page) => engine.list_destinations(cursor, page),
        }
    }
}

/// A page that was asked for.
pub(super) struct Filled {
    pub page: Page,
    pub next: Option<u32>,
}

/// Where one worker is asked: one question at a time, whoever asks.
///
/// The memory of an answer that came too late stays in the slot until the next question takes it
/// out, so that the worker never frees it.
pub struct Desk {
    /// The worker's number.
    pub worker: u16,
    pub(super) commands: Arc<ArrayQueue<Command>>,
    pub(super) filled: Arc<ArrayQueue<Filled>>,
    pub(super) bell: Bell,
    /// Whether a question waits that nobody waits for any more.
    pub(super) is_unanswered: Mutex<bool>,
}

/// The worker did not answer in time.
#[derive(Debug, PartialEq, Eq)]
pub struct Silent;

impl Desk {
    /// Has a page filled from a cursor on, zero at first. Returns it and where to go on.
    ///
    /// # Errors
    /// When the worker does not answer in `patience`, or has not answered the question before.
    pub fn ask(
        &self,
        mut page: Page,
        cursor: u32,
        patience: Duration,
    ) -> Result<(Page, Option<u32>), Silent> {
        let mut is_unanswered = self
            .is_unanswered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let asked = Instant::now();
        // Others waited for it long enough: who comes now does not wait as long again.
        if *is_unanswered {
            self.filled.pop().ok_or(Silent)?;
            *is_unanswered = false;
        }
        page.clear();
        let command = Command::List { cursor, page };
        self.commands.push(command).map_err(|_| Silent)?;
        self.bell.ring();
        loop {
            if let Some(Filled { page, next }) = self.filled.pop() {
                return Ok((page, next));
            }
            if asked.elapsed() >= patience {
                *is_unanswered = true;
                return Err(Silent);
            }
            std::thread::sleep(GLANCE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rings::Waiter;

    fn desk() -> Desk {
        let waiter = Waiter::new().expect("an epoll");
        Desk {
            worker: 0,
            commands: Arc::new(ArrayQueue::new(4)),
            filled: Arc::new(ArrayQueue::new(1)),
            bell: Bell {
                waker: waiter.waker(),
                is_asleep: Arc::default(),
            },
            is_unanswered: Mutex::default(),
        }
    }

    #[test]
    fn a_worker_that_hangs_is_asked_once_and_reported_to_all() {
        let desk = desk();
        let patience = Duration::from_millis(20);
        for _ in 0..3 {
            let answer = desk.ask(Page::of_flows(), 0, patience);
            assert_eq!(answer.err(), Some(Silent));
        }
        assert_eq!(desk.commands.len(), 1);
        // It comes to: what it answers late is taken out, and not for the next question's answer.
        let Some(Command::List { page, .. }) = desk.commands.pop() else {
            panic!("a question")
        };
        let late = Filled {
            page,
            next: Some(7),
        };
        assert!(desk.filled.push(late).is_ok());
        let answer = desk.ask(Page::of_sessions(), 0, patience);
        assert_eq!(answer.err(), Some(Silent));
        assert_eq!(desk.commands.len(), 1);
        assert!(desk.filled.is_empty());
    }
}
