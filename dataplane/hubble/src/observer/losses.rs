//! What a reader has missed: exact, and told at most once a second.

use crate::flow::timestamp;
use crate::wire::flow::{LostEvent, LostEventSource};
use portcullis_observe::{Batch, Gap};
use std::time::{Duration, Instant};

/// The least time between two.
const PERIOD: Duration = Duration::from_secs(1);

/// What one reader has missed and was not told yet.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    missed: Option<Gap>,
    unwritten: u64,
    told: Option<Instant>,
}

impl Losses {
    /// Takes note of what was lost before a batch.
    pub(crate) fn note(&mut self, batch: &Batch) {
        if let Some(gap) = batch.lost {
            self.missed = Some(match self.missed {
                None => gap,
                Some(before) => Gap {
                    count: before.count + gap.count,
                    first: before.first,
                    last: gap.last,
                },
            });
        }
        self.unwritten += batch.unwritten;
    }

    /// What is to be told now: nothing too soon after the last time, unless it is the end.
    pub(crate) fn due(&mut self, now: Instant, is_end: bool) -> Vec<LostEvent> {
        let is_soon = self.told.is_some_and(|told| now - told < PERIOD);
        if (is_soon && !is_end) || (self.missed.is_none() && self.unwritten == 0) {
            return Vec::new();
        }
        self.told = Some(now);
        let mut due = Vec::new();
        if let Some(gap) = self.missed.take() {
            due.push(LostEvent {
                source: LostEventSource::HubbleRingBuffer as i32,
                num_events_lost: gap.count,
                cpu: None,
                first: Some(timestamp(gap.first)),
                last: Some(timestamp(gap.last)),
            });
        }
        // Workers lose records when nobody takes them out of their queues in time.
        let unwritten = std::mem::take(&mut self.unwritten);
        if unwritten > 0 {
            due.push(LostEvent {
                source: LostEventSource::ObserverEventsQueue as i32,
                num_events_lost: unwritten,
                ..LostEvent::default()
            });
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn batch(count: u64, first: i64, last: i64, unwritten: u64) -> Batch {
        let at = |second| Timestamp::from_second(second).unwrap();
        Batch {
            lost: (count > 0).then(|| Gap {
                count,
                first: at(first),
                last: at(last),
            }),
            unwritten,
            events: Vec::new(),
        }
    }

    #[test]
    fn losses_add_up_and_are_told_once_a_second_and_at_the_end() {
        let (start, mut losses) = (Instant::now(), Losses::default());
        assert_eq!(losses.due(start, true), []);
        losses.note(&batch(3, 1, 2, 0));
        let told: Vec<u64> = losses
            .due(start, false)
            .iter()
            .map(|l| l.num_events_lost)
            .collect();
        assert_eq!(told, [3]);
        losses.note(&batch(4, 5, 6, 0));
        losses.note(&batch(1, 8, 9, 2));
        assert_eq!(losses.due(start + PERIOD / 2, false), []);
        let told = losses.due(start + PERIOD, false);
        let of = |source: LostEventSource, count| (source as i32, count);
        assert_eq!(
            told.iter()
                .map(|l| (l.source, l.num_events_lost))
                .collect::<Vec<_>>(),
            [
                of(LostEventSource::HubbleRingBuffer, 5),
                of(LostEventSource::ObserverEventsQueue, 2)
            ]
        );
        let span = |event: &LostEvent| (event.first.unwrap().seconds, event.last.unwrap().seconds);
        assert_eq!(span(&told[0]), (5, 9));
        losses.note(&batch(1, 10, 10, 0));
        assert_eq!(losses.due(start + PERIOD, true).len(), 1);
    }
}
