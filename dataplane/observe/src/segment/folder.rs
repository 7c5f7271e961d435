//! The directory of segment files: which blocks there are, and which must go.

use super::block::{self, HEADER, Header};
use crate::event::Event;
use crate::stored::{nanoseconds, timestamp};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const FILE_MAGIC: &[u8; 20] = b"portcullis records 1";
const PREFIX: &str = "records-";
const SUFFIX: &str = ".segment";

/// Where segments are kept, and how many of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSettings {
    /// The directory. Made when it is missing.
    pub directory: PathBuf,
    /// Bytes of all files together.
    pub bytes_max: u64,
    /// After which time a file is deleted.
    pub age_max: Duration,
}

/// History on disk, for one who writes and any number who read.
#[derive(Debug)]
pub struct Segments {
    settings: SegmentSettings,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    files: VecDeque<SegmentFile>,
    /// Of all files; numbers only go up.
    blocks: VecDeque<BlockPlace>,
    lost: u64,
}

#[derive(Debug)]
struct SegmentFile {
    sequence: u64,
    bytes: u64,
    /// The latest time in it; None without a block.
    latest: Option<i64>,
}

/// Where a block lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockPlace {
    sequence: u64,
    /// Of its header.
    offset: u64,
    header: Header,
}

impl BlockPlace {
    /// Number of its first record.
    pub(crate) const fn first(&self) -> u64 {
        self.header.first
    }

    /// The number after its last record.
    pub(crate) const fn end(&self) -> u64 {
        self.header.end()
    }

    /// Its earliest and its latest time.
    pub(crate) fn times(&self) -> (Timestamp, Timestamp) {
        let (earliest, latest) = self.header.times;
        (timestamp(earliest), timestamp(latest))
    }
}

/// How much is kept on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentsCounts {
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Records in them.
    pub records: u64,
    /// Records that could not be written: the disk was too slow, or failed.
    pub lost: u64,
    /// When the oldest of them was.
    pub oldest: Option<Timestamp>,
}

impl Segments {
    /// Finds what an earlier daemon has left. A torn or damaged end of a file is passed over.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(settings: SegmentSettings) -> io::Result<Self> {
        let mut make = DirBuilder::new();
        make.recursive(true)
            .mode(0o700)
            .create(&settings.directory)?;
        let mut sequences: Vec<u64> = fs::read_dir(&settings.directory)?
            .filter_map(|entry| sequence_of(&entry.ok()?.path()))
            .collect();
        sequences.sort_unstable();
        let mut inner = Inner::default();
        for sequence in sequences {
            // One that cannot be read counts all the same: it takes room, and goes in its turn.
            let file = path_of(&settings.directory, sequence);
            let bytes = fs::metadata(&file).map_or(0, |metadata| metadata.len());
            inner.files.push_back(SegmentFile {
                sequence,
                bytes,
                latest: None,
            });
            if let Ok(file) = File::open(file) {
                // What was found before an error is good.
                let _ = inner.scan(file, sequence, bytes);
            }
        }
        let inner = Mutex::new(inner);
        Ok(Self { settings, inner })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The settings.
    #[must_use]
    pub const fn settings(&self) -> &SegmentSettings {
        &self.settings
    }

    /// How much is kept.
    #[must_use]
    pub fn counts(&self) -> SegmentsCounts {
        let inner = self.lock();
        let records = inner
            .blocks
            .iter()
            .map(|block| u64::from(block.header.count));
        SegmentsCounts {
            files: inner.files.len(),
            bytes: inner.files.iter().map(|file| file.bytes).sum(),
            records: records.sum(),
            lost: inner.lost,
            oldest: inner.blocks.front().map(|block| block.times().0),
        }
    }

    /// The number after all that are kept: history goes on with it.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.lock().blocks.back().map_or(0, BlockPlace::end)
    }

    /// The first block with an event that is not before a time.
    pub(crate) fn block_since(&self, time: Timestamp) -> Option<BlockPlace> {
        let time = nanoseconds(time);
        let inner = self.lock();
        let mut blocks = inner.blocks.iter();
        blocks.find(|block| block.header.times.1 >= time).copied()
    }

    /// The first block with this event or later ones.
    pub(crate) fn block_from(&self, number: u64) -> Option<BlockPlace> {
        let inner = self.lock();
        let place = inner.blocks.partition_point(|block| block.end() <= number);
        inner.blocks.get(place).copied()
    }

    /// The last block with an event before this one.
    pub(crate) fn block_before(&self, number: u64) -> Option<BlockPlace> {
        let inner = self.lock();
        let place = inner.blocks.partition_point(|block| block.first() < number);
        inner.blocks.get(place.checked_sub(1)?).copied()
    }

    /// Reads a block. None when it is damaged, or was deleted meanwhile.
    pub(crate) fn read(&self, place: &BlockPlace) -> Option<Vec<Event>> {
        let file = File::open(path_of(&self.settings.directory, place.sequence)).ok()?;
        let mut payload = vec![0; place.header.payload as usize];
        file.read_exact_at(&mut payload, place.offset + HEADER as u64)
            .ok()?;
        block::read(&place.header, &payload)
    }

    /// Begins a file behind all others.
    pub(super) fn begin(&self) -> io::Result<(u64, File)> {
        let last = self.lock().files.back().map(|file| file.sequence);
        let sequence = last.map_or(1, |last| last.saturating_add(1));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path_of(&self.settings.directory, sequence))?;
        self.lock().files.push_back(SegmentFile {
            sequence,
            bytes: FILE_MAGIC.len() as u64,
            latest: None,
        });
        file.write_all(FILE_MAGIC)?;
        Ok((sequence, file))
    }

    /// A block was written to the end of the last file. Gives that file's bytes.
    pub(super) fn add(&self, sequence: u64, header: Header) -> u64 {
        let mut inner = self.lock();
        let Some(file) = inner.files.back_mut() else {
            return 0;
        };
        let offset = file.bytes;
        file.bytes += HEADER as u64 + u64::from(header.payload);
        file.latest = file.latest.max(Some(header.times.1));
        let bytes = file.bytes;
        inner.blocks.push_back(BlockPlace {
            sequence,
            offset,
            header,
        });
        bytes
    }

    /// Records that are not on disk and never will be.
    pub(super) fn count_lost(&self, count: u64) {
        self.lock().lost += count;
    }

    /// Deletes the oldest files until `room` bytes more fit and nothing is too old.
    pub(super) fn tidy(&self, now: Timestamp, room: u64) {
        let age = i64::try_from(self.settings.age_max.as_nanos()).unwrap_or(i64::MAX);
        let earliest = nanoseconds(now).saturating_sub(age);
        let mut inner = self.lock();
        loop {
            let bytes: u64 = inner.files.iter().map(|file| file.bytes).sum();
            let is_full = bytes + room > self.settings.bytes_max;
            // The last file is being written.
            let has_others = inner.files.len() > 1;
            let Some(oldest) = inner.files.front().filter(|_| has_others) else {
                return;
            };
            let is_old = oldest.latest.is_some_and(|latest| latest < earliest);
            if !is_full && !is_old {
                return;
            }
            let sequence = oldest.sequence;
            let path = path_of(&self.settings.directory, sequence);
            // One that somebody else deleted is gone, too.
            if fs::remove_file(&path).is_err() && path.exists() {
                return;
            }
            inner.files.pop_front();
            let is_gone = |block: &BlockPlace| block.sequence == sequence;
            while inner.blocks.front().is_some_and(is_gone) {
                inner.blocks.pop_front();
            }
        }
    }
}

impl Inner {
    /// Finds the blocks of a file.
    fn scan(&mut self, mut file: File, sequence: u64, bytes: u64) -> io::Result<()> {
        let mut magic = [0; FILE_MAGIC.len()];
        file.read_exact(&mut magic)?;
        let mut offset = magic.len() as u64;
        while &magic == FILE_MAGIC {
            let mut header = [0; HEADER];
            file.read_exact(&mut header)?;
            let Some(header) = Header::read(&header) else {
                break;
            };
            let end = offset + HEADER as u64 + u64::from(header.payload);
            let is_behind = self
                .blocks
                .back()
                .is_none_or(|last| last.end() <= header.first);
            if end > bytes || !is_behind {
                break;
            }
            self.blocks.push_back(BlockPlace {
                sequence,
                offset,
                header,
            });
            if let Some(file) = self.files.back_mut() {
                file.latest = file.latest.max(Some(header.times.1));
            }
            offset = file.seek(SeekFrom::Start(end))?;
        }
        Ok(())
    }
}

fn path_of(directory: &Path, sequence: u64) -> PathBuf {
    directory.join(format!("{PREFIX}{sequence:012}{SUFFIX}"))
}

fn sequence_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let sequence = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    // Only names that we give: two for one number must not be.
    let is_ours = sequence.len() >= 12 && sequence.bytes().all(|byte| byte.is_ascii_digit());
    let sequence = sequence.parse().ok().filter(|_| is_ours)?;
    (path_of(Path::new(""), sequence).to_str() == Some(name)).then_some(sequence)
}
