//! Records that are compressed together, with all the names that they need: a block can be read
//! without any other.

use super::checksum::checksum;
use super::row::{self, ROW};
use crate::event::Event;
use crate::names::Names;
use crate::names_extract::NamesExtract;
use crate::stored::{Stored, nanoseconds};
use portcullis_engine::Drop;
use portcullis_policy::Generation;
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;

/// Records of a full block.
pub(super) const RECORDS_MAX: usize = 4096;
/// Bytes of a block before they are compressed, names and all.
const RAW_MAX: usize = 32 << 20;
/// Bytes of a header.
pub(super) const HEADER: usize = 48;
const MAGIC: [u8; 4] = *b"PCB1";
/// Numbers stay far below where they would wrap, whatever a file says.
const NUMBER_MAX: u64 = 1 << 62;

/// What stands before a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes that follow it.
    pub(super) payload: u32,
    raw: u32,
    /// Records in it.
    pub(super) count: u32,
    /// Number of the first.
    pub(super) first: u64,
    /// The earliest and the latest time.
    pub(super) times: (i64, i64),
    payload_checksum: u32,
}

impl Header {
    /// The number after its last record.
    pub(super) const fn end(&self) -> u64 {
        self.first + self.count as u64
    }

    /// The same, of another payload.
    pub(super) fn over(self, payload: &[u8], raw: usize) -> Self {
        let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        Self {
            payload: number(payload.len()),
            raw: number(raw),
            payload_checksum: checksum(payload),
            ..self
        }
    }

    pub(super) fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.payload.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.raw.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.count.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.times.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.times.1.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.payload_checksum.to_le_bytes());
        let sum = checksum(&bytes[..44]);
        bytes[44..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads a header. None when it is not one, or damaged.
    pub(super) fn read(bytes: &[u8; HEADER]) -> Option<Self> {
        let half = |at: usize| {
            let half = bytes.get(at..)?.first_chunk()?;
            Some(u32::from_le_bytes(*half))
        };
        let whole = |at: usize| {
            let whole = bytes.get(at..)?.first_chunk()?;
            Some(u64::from_le_bytes(*whole))
        };
        let header = Self {
            payload: half(4)?,
            raw: half(8)?,
            count: half(12)?,
            first: whole(16)?,
            times: (whole(24)?.cast_signed(), whole(32)?.cast_signed()),
            payload_checksum: half(40)?,
        };
        let is_sound = bytes.starts_with(&MAGIC)
            && half(44)? == checksum(&bytes[..44])
            && header.raw as usize <= RAW_MAX
            && header.payload as usize <= RAW_MAX
            && (1..=RECORDS_MAX).contains(&(header.count as usize))
            && header.first < NUMBER_MAX;
        is_sound.then_some(header)
    }
}

/// What the records of a block refer to, as text.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Dictionary {
    /// Keys of drop reasons.
    drops: Vec<String>,
    /// Generations and their names.
    sets: Vec<(u64, NamesExtract)>,
}

/// A block in the making.
#[derive(Debug, Default)]
pub(super) struct BlockBuilder {
    rows: Vec<u8>,
    first: u64,
    times: Option<(i64, i64)>,
    sets: Vec<(Generation, Arc<Names>, NamesExtract)>,
    drops: Vec<Drop>,
}

impl BlockBuilder {
    /// How many records it has.
    pub(super) fn count(&self) -> usize {
        self.rows.len() / ROW
    }

    /// Whether an event can be added: records of a block are numbered without a gap.
    pub(super) fn has_room_for(&self, number: u64) -> bool {
        let count = self.count();
        count == 0 || (count < RECORDS_MAX && number == self.first + count as u64)
    }

    /// Adds an event.
    pub(super) fn push(&mut self, event: &Event) {
        if self.rows.is_empty() {
            self.first = event.number;
        }
        let generation = event.record.generation;
        let is_same = |(known, names, _): &(Generation, Arc<Names>, NamesExtract)| {
            *known == generation && Arc::ptr_eq(names, &event.names)
        };
        let place = self.sets.iter().rposition(is_same).unwrap_or_else(|| {
            let names = Arc::clone(&event.names);
            self.sets.push((generation, names, NamesExtract::default()));
            self.sets.len() - 1
        });
        self.sets[place].2.note(&event.record, &event.names);
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        let stored = Stored::new(event.time, &event.record, place);
        row::pack(&stored, &mut self.drops, &mut self.rows);
        let time = nanoseconds(event.time);
        let (earliest, latest) = self.times.unwrap_or((time, time));
        self.times = Some((earliest.min(time), latest.max(time)));
    }

    /// The finished block, header and all; the builder is empty then.
    ///
    /// # Errors
    /// When it cannot be compressed.
    pub(super) fn finish(&mut self) -> io::Result<(Header, Vec<u8>)> {
        let block = std::mem::take(self);
        let count = block.count();
        let mut dictionary = Dictionary {
            drops: block
                .drops
                .iter()
                .map(|drop| drop.key().to_owned())
                .collect(),
            sets: Vec::with_capacity(block.sets.len()),
        };
        for (generation, _, extract) in block.sets {
            dictionary.sets.push((generation.0, extract));
        }
        let mut text = serde_json::to_vec(&dictionary)?;
        if text.len() + block.rows.len() + 4 > RAW_MAX {
            // Records without names are worth more than none.
            for (_, extract) in &mut dictionary.sets {
                *extract = NamesExtract::default();
            }
            text = serde_json::to_vec(&dictionary)?;
        }
        let length = u32::try_from(text.len()).map_err(io::Error::other)?;
        let mut raw = length.to_le_bytes().to_vec();
        raw.append(&mut text);
        transpose(&block.rows, count, ROW, &mut raw);
        let payload = zstd::bulk::compress(&raw, zstd::DEFAULT_COMPRESSION_LEVEL)?;
        let header = Header {
            payload: 0,
            raw: 0,
            count: u32::try_from(count).map_err(io::Error::other)?,
            first: block.first,
            times: block.times.unwrap_or_default(),
            payload_checksum: 0,
        };
        let header = header.over(&payload, raw.len());
        Ok((header, [&header.bytes(), payload.as_slice()].concat()))
    }
}

/// Reads the events of a block. Records whose drop reason this program does not know are left out.
/// None when it is damaged.
pub(super) fn read(header: &Header, payload: &[u8]) -> Option<Vec<Event>> {
    if checksum(payload) != header.payload_checksum {
        return None;
    }
    let raw = zstd::bulk::decompress(payload, header.raw as usize).ok()?;
    let (length, rest) = raw.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    let (text, columns) = rest.split_at_checked(length)?;
    let dictionary: Dictionary = serde_json::from_slice(text).ok()?;
    let count = header.count as usize;
    if columns.len() != count * ROW {
        return None;
    }
    let mut rows = Vec::with_capacity(columns.len());
    transpose(columns, ROW, count, &mut rows);
    let drops: Vec<Option<Drop>> = dictionary.drops.iter().map(|key| drop_of(key)).collect();
    let sets: Vec<_> = dictionary
        .sets
        .into_iter()
        .map(|(generation, extract)| (Generation(generation), Arc::new(extract.into_names())))
        .collect();
    let rows = (header.first..).zip(rows.chunks_exact(ROW));
    let events = rows.filter_map(|(number, bytes)| {
        let stored = row::unpack(bytes, &drops)?;
        let (generation, names) = sets.get(stored.names as usize)?;
        Some(Event {
            number,
            time: stored.time(),
            record: stored.record(*generation),
            names: Arc::clone(names),
        })
    });
    Some(events.collect())
}

fn drop_of(key: &str) -> Option<Drop> {
    Drop::ALL.iter().find(|drop| drop.key() == key).copied()
}

/// Turns rows into columns, or back: bytes that are alike stand together and compress far better.
fn transpose(from: &[u8], rows: usize, columns: usize, out: &mut Vec<u8>) {
    for column in 0..columns {
        out.extend((0..rows).map(|row| from[row * columns + column]));
    }
}
