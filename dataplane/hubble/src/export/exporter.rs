//! The thread that writes: at its own pace, told what it missed, and telling it.

use super::aggregate::Groups;
use super::counts::ExportCounts;
use super::file::{Bounds, RotatedFile};
use super::settings::{ExportSettings, mask};
use crate::flow::{Teller, timestamp};
use crate::json::Schema;
use crate::mask::Mask;
use crate::observer::Losses;
use crate::sources::Sources;
use crate::wire::flow::Flow;
use crate::wire::observer::ExportEvent;
use crate::wire::observer::export_event::ResponseTypes;
use jiff::{SignedDuration, Timestamp};
use portcullis_observe::{FlowChoice, Reader, Sighting};
use prost::Message;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Events that are read at one time.
const BATCH: usize = 1024;
/// How often it is looked whether an interval is over, where nothing comes.
const PERIOD: Duration = Duration::from_millis(250);

/// Writes what is wanted.
#[derive(Debug)]
pub struct Exporter {
    choice: FlowChoice,
    /// Nothing after this.
    ends: Option<Timestamp>,
    mask: Mask,
    groups: Option<Groups>,
    teller: Teller,
    losses: Losses,
    schema: Schema,
    target: Target,
    node: String,
    counts: Arc<ExportCounts>,
    is_failing: bool,
}

#[derive(Debug)]
enum Target {
    File(RotatedFile),
    Stdout(io::Stdout),
}

impl Exporter {
    /// For these settings; None where they ask for nothing.
    ///
    /// # Errors
    /// Filters and fields that cannot be understood: the field, and why.
    pub fn new(
        settings: &ExportSettings,
        sources: &Sources,
        counts: &Arc<ExportCounts>,
    ) -> Result<Option<Self>, String> {
        let target = match (&settings.path, settings.stdout) {
            (Some(path), _) => Target::File(RotatedFile::new(
                path.clone(),
                Bounds {
                    bytes_max: settings.max_megabytes << 20,
                    backups_max: settings.max_backups,
                    compress: settings.compress,
                },
            )),
            (None, true) => Target::Stdout(io::stdout()),
            (None, false) => return Ok(None),
        };
        let choice = settings.choice(&sources.node.home())?;
        let groups = if settings.aggregate.is_empty() {
            None
        } else {
            let mask = mask("aggregate", &settings.aggregate)?;
            let interval = Duration::from_secs(settings.aggregation_interval);
            Some(Groups::new(mask, interval, Instant::now()))
        };
        Ok(Some(Self {
            choice,
            ends: settings.end,
            mask: mask("fieldMask", &settings.field_mask)?,
            groups,
            teller: Teller::new(&sources.node),
            losses: Losses::default(),
            schema: Schema::read()?,
            target,
            node: sources.node.absolute(),
            counts: Arc::clone(counts),
            is_failing: false,
        }))
    }

    /// Writes what comes, until the history is closed, the settings end it, or up to before the event
    /// with the number `end`, which may change meanwhile.
    pub(super) fn run(mut self, mut reader: Reader, end: &AtomicU64) {
        let longest = SignedDuration::try_from(PERIOD).unwrap_or_default();
        loop {
            let is_open = reader.wait(PERIOD);
            while self.take(&mut reader, end) {}
            let is_late = self.ends.is_some_and(|ends| {
                let last = ends.checked_add(longest);
                last.is_ok_and(|last| Timestamp::now() > last)
            });
            let is_past = reader.next_number() >= end.load(Ordering::Acquire);
            let is_over = !is_open || is_late || is_past;
            self.finish(Instant::now(), is_over);
            if is_over {
                return;
            }
        }
    }

    /// Writes one batch, up to before the event with the number `end`. False when there is nothing more.
    pub(super) fn take(&mut self, reader: &mut Reader, end: &AtomicU64) -> bool {
        let batch = reader.read(BATCH);
        // After reading: what came after the end was set is another's, and is seen with the end.
        let end = end.load(Ordering::Acquire);
        self.losses.note(&batch);
        self.counts
            .lost(batch.lost.map_or(0, |gap| gap.count) + batch.unwritten);
        self.tell_losses(Instant::now(), false);
        let ours = batch.events.iter().take_while(|event| event.number < end);
        let ends = self.ends;
        for event in ours.filter(|event| ends.is_none_or(|ends| event.time <= ends)) {
            for sighting in Sighting::all(event) {
                if !self.choice.wants(&sighting) {
                    continue;
                }
                let flow = self.teller.flow(&sighting);
                match &mut self.groups {
                    Some(groups) => groups.add(flow),
                    None => {
                        let time = flow.time;
                        self.write_flow(flow, time);
                    }
                }
            }
        }
        !batch.events.is_empty() && reader.next_number() < end
    }

    /// Writes what is due, and lets readers see it.
    pub(super) fn finish(&mut self, now: Instant, is_end: bool) {
        self.tell_losses(now, is_end);
        let due = self.groups.as_mut().map(|groups| groups.due(now, is_end));
        for (flow, time) in due.into_iter().flatten() {
            self.write_flow(flow, time);
        }
        let flushed = match &mut self.target {
            Target::File(file) => file.flush(),
            Target::Stdout(stdout) => stdout.flush(),
        };
        if let Err(error) = flushed {
            self.fail(&error);
        }
    }

    fn tell_losses(&mut self, now: Instant, is_end: bool) {
        for lost in self.losses.due(now, is_end) {
            let time = lost.last.or_else(|| Some(timestamp(Timestamp::now())));
            self.write(ResponseTypes::LostEvents(lost), time);
        }
    }

    fn write_flow(&mut self, flow: Flow, time: Option<prost_types::Timestamp>) {
        let aggregate = flow.aggregate;
        let mut flow = self.mask.apply(flow);
        // Whoever asks for groups wants their counts.
        flow.aggregate = aggregate;
        self.write(ResponseTypes::Flow(flow), time);
    }

    fn write(&mut self, what: ResponseTypes, time: Option<prost_types::Timestamp>) {
        let event = ExportEvent {
            node_name: self.node.clone(),
            time,
            response_types: Some(what),
        };
        let mut line = String::with_capacity(1024);
        let message = event.encode_to_vec();
        if self
            .schema
            .write(".observer.ExportEvent", &message, &mut line)
            .is_none()
        {
            self.counts.failed();
            return;
        }
        line.push('\n');
        let written = match &mut self.target {
            Target::File(file) => file.write(line.as_bytes()),
            Target::Stdout(stdout) => stdout.write_all(line.as_bytes()).map(|()| false),
        };
        match written {
            Ok(is_rotated) => {
                self.is_failing = false;
                self.counts.written(line.len());
                if is_rotated {
                    self.counts.rotated();
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Once for each time that it begins to fail: a full disk must not fill the log, too.
    fn fail(&mut self, error: &io::Error) {
        self.counts.failed();
        if !std::mem::replace(&mut self.is_failing, true) {
            eprintln!("fault: flows cannot be exported: {error}");
        }
    }
}
