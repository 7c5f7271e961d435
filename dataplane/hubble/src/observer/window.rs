//! Which part of history a reader asks for: from where, up to where, and how much.

use crate::wire::observer::GetFlowsRequest;
use jiff::Timestamp;
use portcullis_observe::{Event, FlowChoice, History, Position, Reader, Sighting};
use std::sync::Arc;

/// The part that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// From where.
    pub from: From,
    /// Nothing after this.
    pub until: Option<Timestamp>,
    /// At most so many; None for all there are.
    pub number: Option<u64>,
    /// Whether it goes on with what comes.
    pub follow: bool,
}

/// Where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// With the oldest that is kept in memory.
    Oldest,
    /// With the oldest there is.
    First,
    /// With the next that comes.
    Now,
    /// With the first one at or after this time.
    Since(Timestamp),
    /// So far from the end that this many of those that are wanted are left.
    Last(u64),
}

/// Where reading begins.
#[derive(Debug)]
pub(crate) struct Start {
    /// Reads from there.
    pub reader: Reader,
    /// Those of the first event that are wanted and yet come before the last so many.
    pub skip: u64,
}

impl Window {
    /// Reads what is asked for.
    ///
    /// # Errors
    /// What contradicts itself.
    pub(crate) fn of(request: &GetFlowsRequest) -> Result<Self, String> {
        let since = time("since", request.since.as_ref())?;
        let until = time("until", request.until.as_ref())?;
        Self::new(request.number, request.first, request.follow, since, until)
    }

    /// The same of any stream.
    ///
    /// # Errors
    /// What contradicts itself.
    pub(crate) fn new(
        number: u64,
        first: bool,
        follow: bool,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Self, String> {
        if first && follow {
            return Err("first cannot be specified with follow".into());
        }
        let from = match since {
            Some(since) => From::Since(since),
            None if first => From::First,
            None if number > 0 => From::Last(number),
            None if follow => From::Now,
            None => From::Oldest,
        };
        Ok(Self {
            from,
            until,
            // Who follows has said how much of the past; of what comes he wants all.
            number: (number > 0 && !follow).then_some(number),
            follow,
        })
    }

    /// Whether a time is too late.
    pub(crate) fn is_past(&self, time: Timestamp) -> bool {
        self.until.is_some_and(|until| time > until)
    }
}

impl Start {
    /// Finds where reading begins.
    ///
    /// None when whoever asked has gone meanwhile: what is on disk takes its time to be looked at.
    pub(crate) async fn find(
        history: &Arc<History>,
        window: &Window,
        choice: &FlowChoice,
        now: Reader,
        is_gone: impl Fn() -> bool,
    ) -> Option<Self> {
        let at = |position| {
            Some(Self {
                reader: history.reader_at(position),
                skip: 0,
            })
        };
        match window.from {
            From::Oldest => at(Position::Oldest),
            // With what is on disk.
            From::First | From::Last(u64::MAX) => at(Position::Number(0)),
            From::Now => Some(Self {
                reader: now,
                skip: 0,
            }),
            From::Since(time) => at(Position::Since(time)),
            From::Last(number) => Self::last(history, window, choice, number, is_gone).await,
        }
    }

    /// Walks back until enough of what is wanted lies behind.
    async fn last(
        history: &Arc<History>,
        window: &Window,
        choice: &FlowChoice,
        number: u64,
        is_gone: impl Fn() -> bool,
    ) -> Option<Self> {
        const BLOCK: usize = 256;
        let (mut left, mut before) = (number, u64::MAX);
        while !is_gone() {
            let events = history.events_before(before, BLOCK);
            let Some(oldest) = events.last() else {
                let reader = match before {
                    u64::MAX => history.reader_at(Position::Oldest),
                    before => history.reader_at(Position::Number(before)),
                };
                return Some(Self { reader, skip: 0 });
            };
            before = oldest.number;
            for event in events.iter().filter(|event| !window.is_past(event.time)) {
                if choice.has_expressions() {
                    tokio::task::yield_now().await;
                }
                let wanted = wanted(event, choice);
                if wanted >= left {
                    return Some(Self {
                        reader: history.reader_at(Position::Number(event.number)),
                        skip: wanted - left,
                    });
                }
                left -= wanted;
            }
            // A long walk is not to keep other readers waiting.
            tokio::task::yield_now().await;
        }
        None
    }
}

fn wanted(event: &Event, choice: &FlowChoice) -> u64 {
    Sighting::all(event)
        .filter(|sighting| choice.wants(sighting))
        .count() as u64
}

/// Reads a time.
///
/// # Errors
/// When there is no such time.
pub(crate) fn time(
    field: &str,
    from: Option<&prost_types::Timestamp>,
) -> Result<Option<Timestamp>, String> {
    from.map(|from| {
        Timestamp::new(from.seconds, from.nanos).map_err(|_| {
            format!(
                "{field}: {} seconds and {} nanoseconds are no time",
                from.seconds, from.nanos
            )
        })
    })
    .transpose()
}
