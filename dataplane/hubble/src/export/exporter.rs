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
use portcullis_observe::{FlowChoice, Position, Reader, Sighting};
use prost::Message;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Events that are read at one time.
const BATCH: usize = 1024;
/// How often it is looked whether an interval is over, where nothing comes.
const PERIOD: Duration = Duration::from_millis(250);

/// Writes what is wanted.
#[derive(Debug)]
pub struct Exporter {
    choice: FlowChoice,
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

    /// Writes what comes from now on, on a thread of its own, until the history is closed; then what is
    /// left. `prepare` runs on it first.
    ///
    /// # Errors
    /// When there are too many threads.
    pub fn start(
        mut self,
        sources: &Sources,
        prepare: impl FnOnce() + Send + 'static,
    ) -> Result<JoinHandle<()>, String> {
        let mut reader = sources.history.reader_at(Position::Newest);
        let thread = std::thread::Builder::new().name("export".into());
        thread
            .spawn(move || {
                prepare();
                while reader.wait(PERIOD) {
                    while self.take(&mut reader) {}
                    self.finish(Instant::now(), false);
                }
                self.finish(Instant::now(), true);
            })
            .map_err(|e| format!("cannot start thread export: {e}"))
    }

    /// Writes one batch. False when there is nothing more.
    pub(super) fn take(&mut self, reader: &mut Reader) -> bool {
        let batch = reader.read(BATCH);
        self.losses.note(&batch);
        self.counts
            .lost(batch.lost.map_or(0, |gap| gap.count) + batch.unwritten);
        self.tell_losses(Instant::now(), false);
        for event in &batch.events {
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
        !batch.events.is_empty()
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
            let time = lost
                .last
                .or_else(|| Some(timestamp(jiff::Timestamp::now())));
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
