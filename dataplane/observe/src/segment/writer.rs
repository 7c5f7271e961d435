//! Writes history to disk as it is read: a reader like any other, which holds nobody up.

use super::block::BlockBuilder;
use super::folder::Segments;
use crate::reader::Batch;
use jiff::{SignedDuration, Timestamp};
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

/// After this time a block is written even if it is not full: a crash loses no more.
const BLOCK_AGE_MAX: SignedDuration = SignedDuration::from_secs(30);
/// A file takes this part of the room, so that room is made in small steps.
const FILES: u64 = 16;
/// Bytes of a file at most.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The one who writes.
#[derive(Debug)]
pub struct SegmentWriter {
    segments: Arc<Segments>,
    block: BlockBuilder,
    /// When the first event came into the block.
    block_begun: Option<Timestamp>,
    file: Option<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    sequence: u64,
    file: File,
    begun: Timestamp,
}

impl SegmentWriter {
    /// Writes behind what is there.
    #[must_use]
    pub fn new(segments: Arc<Segments>) -> Self {
        Self {
            segments,
            block: BlockBuilder::default(),
            block_begun: None,
            file: None,
        }
    }

    /// Takes what a reader of the history got. Blocks that are full or old are written.
    ///
    /// # Errors
    /// When the disk fails; what was to be written is counted as lost, and the next call goes on.
    pub fn write(&mut self, batch: &Batch, now: Timestamp) -> io::Result<()> {
        if let Some(gap) = batch.lost {
            self.segments.count_lost(gap.count);
        }
        let mut result = Ok(());
        for event in &batch.events {
            if !self.block.has_room_for(event.number) {
                result = result.and(self.flush(now));
            }
            self.block.push(event);
            self.block_begun.get_or_insert(now);
        }
        let is_old = |begun: Timestamp| now.duration_since(begun).abs() >= BLOCK_AGE_MAX;
        if self.block_begun.is_some_and(is_old) {
            result = result.and(self.flush(now));
        }
        result
    }

    /// Writes what is not written yet.
    ///
    /// # Errors
    /// As for `write`.
    pub fn flush(&mut self, now: Timestamp) -> io::Result<()> {
        let count = self.block.count() as u64;
        if count == 0 {
            return Ok(());
        }
        self.block_begun = None;
        let result = self.append(now);
        if result.is_err() {
            self.segments.count_lost(count);
            // Its end may be torn: nothing behind it would be found again.
            self.file = None;
        }
        result
    }

    fn append(&mut self, now: Timestamp) -> io::Result<()> {
        let (header, bytes) = self.block.finish()?;
        let settings = self.segments.settings();
        let age_max = SignedDuration::try_from(settings.age_max / FILES as u32)
            .unwrap_or(SignedDuration::MAX);
        let bytes_max = (settings.bytes_max / FILES).min(FILE_BYTES_MAX);
        let is_old = |open: &OpenFile| now.duration_since(open.begun) >= age_max;
        if self.file.as_ref().is_some_and(is_old) {
            self.file = None;
        }
        let open = match self.file.take() {
            Some(open) => open,
            None => {
                let (sequence, file) = self.segments.begin()?;
                OpenFile {
                    sequence,
                    file,
                    begun: now,
                }
            }
        };
        self.segments.tidy(now, bytes.len() as u64);
        let open = self.file.insert(open);
        open.file.write_all(&bytes)?;
        let written = self.segments.add(open.sequence, header);
        if written >= bytes_max {
            let full = self.file.take();
            full.map_or(Ok(()), |full| full.file.sync_data())?;
        }
        Ok(())
    }
}

impl Drop for SegmentWriter {
    fn drop(&mut self) {
        if let Some(open) = &self.file {
            // Nobody is left to be told.
            let _ = open.file.sync_data();
        }
    }
}
