//! Answers from history, written to whoever asks.

use super::ask::{Ask, Chooser, Form};
use super::ranking::{Grouping, Ranked, Ranking};
use super::search::{Which, backwards};
use super::seen_flow::{Explained, SeenFlow};
use crate::ipc::{Answer, Lost, RankedRows, RankingAsk, SortBy};
use crate::observe::{Batch, Event, History, Home, Position, Reader};
use crate::review::{
    Candidate, KnownPod, Reading, RecordBook, Replay, Suggestion, Wish, replay as replay_recorded,
    suggest as suggest_policies,
};
use jiff::Timestamp;
use portcullis_hubble::{Lines, NodeName};
use portcullis_policy::Object;
use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Events that are joined with their names at one time.
const BATCH: usize = 1024;
/// Events of several workers come in the order of their times but for this.
const DISORDER: Duration = Duration::from_secs(1);

/// Tells events of the past, then, if it is asked to, those that come, until `has_left`.
///
/// # Errors
/// When the reader is gone.
pub fn observe(
    history: &Arc<History>,
    home: &Home,
    ask: &Ask,
    tell: &mut dyn FnMut(Option<Answer>) -> io::Result<()>,
    has_left: &dyn Fn() -> bool,
) -> io::Result<()> {
    let chooser = match ask.wanted.compile(home) {
        Ok(chooser) => chooser,
        Err(fault) => return tell(Some(Answer::Error(fault))),
    };
    let lines = Lines::new(&NodeName {
        name: home.node.clone(),
        cluster: home.cluster.clone(),
        started: Timestamp::UNIX_EPOCH,
    });
    let lines = match lines {
        Ok(lines) => RefCell::new(lines),
        Err(fault) => return tell(Some(Answer::Error(fault))),
    };
    let teller = Teller {
        chooser,
        ask,
        home,
        lines,
    };
    let Some(last) = ask.last else {
        // One reader for the past and for what comes: it is told of all that it misses in between.
        let reader = match ask.since {
            // Where nothing is on disk that is the oldest in memory.
            None if ask.all || ask.first.is_some() => history.reader_at(Position::Number(0)),
            since => reader(history, since),
        };
        return if ask.follow {
            teller.follow(reader, tell, has_left)
        } else {
            teller.past(history, reader, tell)
        };
    };
    // Begins before the past is told: what comes meanwhile, and perhaps goes again, it does not miss
    // untold.
    let reader = history.reader_at(Position::Newest);
    teller.last(history, last, reader.next_number(), tell)?;
    if ask.follow {
        teller.follow(reader, tell, has_left)
    } else {
        Ok(())
    }
}

struct Teller<'a> {
    chooser: Chooser,
    ask: &'a Ask,
    home: &'a Home,
    /// Remembers explanations.
    lines: RefCell<Lines>,
}

impl Teller<'_> {
    fn is_in_time(&self, event: &Event) -> bool {
        self.ask.since.is_none_or(|since| event.time >= since)
            && self.ask.until.is_none_or(|until| event.time <= until)
    }

    /// How much is told of an event.
    fn count(&self, event: &Event) -> usize {
        if !self.is_in_time(event) {
            return 0;
        }
        match self.ask.form {
            Form::Event => usize::from(self.chooser.wants(event)),
            Form::Hubble => self.chooser.all(event).count(),
        }
    }

    /// Tells of an event: of what is wanted so much is left out, and then so much told at most. Gives
    /// how much was told.
    fn tell(
        &self,
        event: &Event,
        (skip, most): (usize, usize),
        tell: &mut dyn FnMut(Option<Answer>) -> io::Result<()>,
    ) -> io::Result<usize> {
        if !self.is_in_time(event) {
            return Ok(0);
        }
        let mut told = 0;
        match self.ask.form {
            Form::Event => {
                let chosen = self.chooser.chosen(event);
                if let Some(sighting) = chosen.filter(|_| skip == 0 && most > 0) {
                    let seen = SeenFlow::of(event, Some(sighting), &self.home.node);
                    tell(Some(Answer::Flow(Box::new(seen))))?;
                    told = 1;
                }
            }
            Form::Hubble => {
                for sighting in self.chooser.all(event).skip(skip).take(most) {
                    let line = self.lines.borrow_mut().line(&sighting);
                    tell(Some(Answer::Line(line)))?;
                    told += 1;
                }
            }
        }
        Ok(told)
    }

    /// Tells the last that are kept, up to before a number.
    fn last(
        &self,
        history: &Arc<History>,
        last: usize,
        end: u64,
        tell: &mut dyn FnMut(Option<Answer>) -> io::Result<()>,
    ) -> io::Result<()> {
        let (mut found, mut count) = (Vec::new(), 0);
        let earlier = backwards(history)
            .skip_while(|event| event.number >= end)
            .take_while(|event| self.is_late_enough(event));
        for event in earlier {
            if count >= last {
                break;
            }
            let told = self.count(&event);
            if told > 0 {
                count += told;
                found.push(event);
            }
        }
        let mut skip = count.saturating_sub(last);
        for event in found.iter().rev() {
            self.tell(event, (skip, usize::MAX), tell)?;
            skip = 0;
        }
        Ok(())
    }

    /// Tells what is kept up to the newest.
    fn past(
        &self,
        history: &Arc<History>,
        mut reader: Reader,
        tell: &mut dyn FnMut(Option<Answer>) -> io::Result<()>,
    ) -> io::Result<()> {
        // What comes after this one is not the past.
        let newest = history
            .events_before(u64::MAX, 1)
            .first()
            .map(|event| event.number);
        let mut left = self.ask.first.unwrap_or(usize::MAX);
        loop {
            let batch = reader.read(BATCH);
            tell_lost(&batch, tell)?;
            if batch.events.is_empty() {
                return Ok(());
            }
            for event in &batch.events {
                if left == 0 || newest.is_none_or(|newest| event.number > newest) {
                    return Ok(());
                }
                left -= self.tell(event, (0, left), tell)?;
            }
        }
    }

    /// Tells what there is and what comes, until `has_left`.
    fn follow(
        &self,
        mut reader: Reader,
        tell: &mut dyn FnMut(Option<Answer>) -> io::Result<()>,
        has_left: &dyn Fn() -> bool,
    ) -> io::Result<()> {
        tell(None)?;
        while reader.wait(Duration::from_secs(1)) && !has_left() {
            let batch = reader.read(BATCH);
            tell_lost(&batch, tell)?;
            for event in &batch.events {
                if self.is_too_late(event) {
                    return Ok(());
                }
                self.tell(event, (0, usize::MAX), tell)?;
            }
            tell(None)?;
        }
        Ok(())
    }

    /// Whether earlier events can still be wanted: they are only nearly in the order of their times.
    fn is_late_enough(&self, event: &Event) -> bool {
        self.ask.since.is_none_or(|since| {
            event
                .time
                .saturating_add(DISORDER)
                .is_ok_and(|time| time >= since)
        })
    }

    /// Whether no later event can be wanted any more.
    fn is_too_late(&self, event: &Event) -> bool {
        self.ask.until.is_some_and(|until| {
            until
                .saturating_add(DISORDER)
                .is_ok_and(|until| event.time > until)
        })
    }
}

fn reader(history: &Arc<History>, since: Option<Timestamp>) -> Reader {
    history.reader_at(since.map_or(Position::Oldest, Position::Since))
}

fn tell_lost(
    batch: &Batch,
    tell: &mut dyn FnMut(Option<Answer>) -> io::Result<()>,
) -> io::Result<()> {
    let lost = Lost {
        count: batch.lost.map_or(0, |gap| gap.count),
        span: batch.lost.map(|gap| (gap.first, gap.last)),
        unwritten: batch.unwritten,
    };
    if lost.count + lost.unwritten > 0 {
        tell(Some(Answer::Lost(lost)))?;
    }
    Ok(())
}

/// Every event of the past since a time, and how many went by unseen meanwhile.
fn all(history: &Arc<History>, since: Option<Timestamp>, mut each: impl FnMut(&Event)) -> u64 {
    let newest = history
        .events_before(u64::MAX, 1)
        .first()
        .map(|event| event.number);
    let Some(newest) = newest else { return 0 };
    let mut reader = reader(history, since);
    let mut lost = 0;
    loop {
        let batch = reader.read(BATCH);
        lost += batch.lost.map_or(0, |gap| gap.count);
        for event in batch
            .events
            .iter()
            .take_while(|event| event.number <= newest)
        {
            each(event);
        }
        // A history that grows faster than this reads has no end.
        if batch
            .events
            .last()
            .is_none_or(|event| event.number >= newest)
        {
            return lost;
        }
    }
}

/// Explains one event.
///
/// # Errors
/// When it is not found.
pub fn why(history: &Arc<History>, home: &Home, which: &Which) -> Result<Explained, String> {
    which
        .find(history)
        .map(|event| Explained::read(&event, &home.node))
}

/// Counts by what is asked for.
///
/// # Errors
/// When a filter is not understood.
pub fn rank(history: &Arc<History>, home: &Home, ask: &RankingAsk) -> Result<RankedRows, String> {
    let mut wanted = ask.wanted.clone();
    // Packets and bytes are told by these.
    wanted.has_endings = true;
    let chooser = wanted.compile(home)?;
    let by: &[Grouping] = if ask.by.is_empty() {
        &[Grouping::Source, Grouping::Destination, Grouping::Port]
    } else {
        &ask.by
    };
    let mut ranking = Ranking::new(by);
    let mut events = 0;
    let since = match ask.last {
        Some(last) => {
            let mut first = None;
            let wanted = backwards(history)
                .filter(|event| chooser.wants(event))
                .take(last);
            wanted.for_each(|event| first = Some(event.number));
            first
        }
        None => None,
    };
    let lost = all(history, ask.since, |event| {
        if since.is_none_or(|first| event.number >= first) && chooser.wants(event) {
            events += 1;
            ranking.note(event);
        }
    });
    let sort: fn(&Ranked) -> u64 = match ask.sort {
        SortBy::Connections => |row| row.connections,
        SortBy::Drops => |row| row.drops,
        SortBy::Packets => |row| row.packets,
        SortBy::Bytes => |row| row.bytes,
    };
    let (rows, rows_all) = ranking.rows(sort, ask.limit);
    Ok(RankedRows {
        by: by.to_vec(),
        rows,
        rows_all,
        events,
        lost,
        oldest: history.oldest_time(),
    })
}

fn recorded(history: &Arc<History>, since: Option<Timestamp>) -> (RecordBook, Vec<String>) {
    let mut book = RecordBook::default();
    let lost = all(history, since, |event| book.note(event));
    let mut notes = Vec::new();
    for (count, what) in [
        (lost, "events went by unread: history was faster than this"),
        (
            book.left_out,
            "events of further different connections were left out: too many",
        ),
    ] {
        if count > 0 {
            notes.push(format!("{count} {what}"));
        }
    }
    (book, notes)
}

/// Suggests policies from what was recorded.
#[must_use]
pub fn suggest(
    history: &Arc<History>,
    reading: &Reading,
    wish: &Wish,
    since: Option<Timestamp>,
) -> Suggestion {
    let (book, notes) = recorded(history, since);
    let pods: Vec<KnownPod> = reading
        .documents
        .iter()
        .filter_map(|document| match &document.object {
            Object::Pod(pod) if pod.is_endpoint() => {
                let identity = reading.tables.identity_of_pod(&pod.namespace, &pod.name)?;
                Some(KnownPod {
                    namespace: pod.namespace.clone(),
                    name: pod.name.clone(),
                    labels: reading.tables.labels(identity).to_vec(),
                })
            }
            _ => None,
        })
        .collect();
    let mut suggestion = suggest_policies(&book.connections(), &pods, wish);
    suggestion.left_out.extend(notes);
    suggestion
}

/// Judges what was recorded by other documents.
///
/// # Errors
/// Every fault of the candidate.
pub fn replay(
    history: &Arc<History>,
    reading: &Reading,
    candidate: &Candidate,
    since: Option<Timestamp>,
) -> Result<Replay, String> {
    let (book, notes) = recorded(history, since);
    let mut replay = replay_recorded(reading, candidate, &book.connections())?;
    replay.notes.extend(notes);
    Ok(replay)
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_engine::{Record, RecordKind};
    use std::cell::Cell;

    fn flows(count: usize) -> impl Iterator<Item = Event> {
        let record = Record {
            kind: RecordKind::Flow,
            ..Record::BLANK
        };
        let event = Event::new(Timestamp::UNIX_EPOCH, record, Arc::default());
        std::iter::repeat_n(event, count)
    }

    #[test]
    fn what_comes_and_goes_while_the_past_is_told_is_told_as_missed() {
        let home = Home {
            node: "node".into(),
            cluster: "default".into(),
        };
        for last in [None, Some(10)] {
            let history = Arc::new(History::new(10));
            history.extend(flows(10));
            let ask = Ask {
                last,
                follow: true,
                ..Ask::default()
            };
            let (read, lost) = (Cell::new(0), Cell::new(0));
            let mut tell = |answer: Option<Answer>| {
                match answer {
                    Some(Answer::Flow(_)) => {
                        // While the reader is slow to take the first one.
                        if read.get() == 0 {
                            history.extend(flows(100));
                        }
                        read.set(read.get() + 1);
                    }
                    Some(Answer::Lost(more)) => lost.set(lost.get() + more.count),
                    _ => {}
                }
                Ok(())
            };
            let has_left = || read.get() + lost.get() >= 110;
            let closing = Arc::clone(&history);
            // An end for a reader that waits for what it is never told.
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_secs(3));
                closing.close();
            });
            observe(&history, &home, &ask, &mut tell, &has_left).unwrap();
            assert_eq!((read.get(), lost.get()), (20, 90), "{last:?}");
        }
    }
}
