//! What `portcullis status` shows of records: how many there are, how far they reach back, how many
//! were lost, and where.

use crate::observe::History;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::path::PathBuf;

/// Records of flows and drops.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordsStatus {
    /// Kept in memory for `observe`.
    pub kept: u64,
    /// How many are kept at most.
    pub kept_max: u64,
    /// All that were written since the start.
    pub written: u64,
    /// Lost because the queue of a worker was full.
    pub lost: u64,
    /// The same for each worker, by its number.
    pub lost_by_worker: Vec<u64>,
    /// Written a second, over the last minute.
    pub per_second: f64,
    /// When the oldest that is kept was, in memory or on disk.
    pub oldest: Option<Timestamp>,
    /// Bytes of memory for them, without names.
    pub bytes: u64,
    /// Generations of names that they refer to.
    pub names: u64,
    /// Those on disk, where that is asked for.
    pub disk: Option<DiskStatus>,
}

/// Records on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DiskStatus {
    /// Where.
    pub directory: PathBuf,
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their bytes at most.
    pub bytes_max: u64,
    /// Records in them.
    pub records: u64,
    /// Records that could not be written there.
    pub lost: u64,
}

impl RecordsStatus {
    /// What a history holds; `lost` by worker.
    #[must_use]
    pub fn of(history: &History, lost_by_worker: Vec<u64>, now: Timestamp) -> Self {
        let counts = history.counts_all();
        let disk = history.segments().map(|segments| {
            let counts = segments.counts();
            DiskStatus {
                directory: segments.settings().directory.clone(),
                files: counts.files as u64,
                bytes: counts.bytes,
                bytes_max: segments.settings().bytes_max,
                records: counts.records,
                lost: counts.lost,
            }
        });
        Self {
            kept: counts.kept as u64,
            kept_max: counts.kept_max as u64,
            written: counts.written,
            lost: lost_by_worker.iter().sum(),
            lost_by_worker,
            per_second: history.flows_rate(now),
            oldest: history.oldest_time(),
            bytes: counts.bytes as u64,
            names: counts.names as u64,
            disk,
        }
    }

    /// Lines for people.
    pub fn write(&self, out: &mut String) {
        let _ = write!(
            out,
            "Records     {} written ({:.1}/s), {} lost",
            self.written, self.per_second, self.lost
        );
        let lossy = self.lost_by_worker.iter().enumerate();
        for (worker, lost) in lossy.filter(|(_, lost)| **lost > 0) {
            let _ = write!(out, ", {lost} of them by worker {worker}");
        }
        let _ = write!(out, "; {} of {} kept", self.kept, self.kept_max);
        if let Some(oldest) = self.oldest {
            let _ = write!(out, " since {oldest:.0}");
        }
        let _ = writeln!(out, ", {:.1} MiB", mebibytes(self.bytes));
        if let Some(disk) = &self.disk {
            let _ = writeln!(
                out,
                "            {} on disk, {} lost; {} files in {}, {:.1} of {:.0} MiB",
                disk.records,
                disk.lost,
                disk.files,
                disk.directory.display(),
                mebibytes(disk.bytes),
                mebibytes(disk.bytes_max)
            );
        }
    }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_sees_what_was_lost_and_how_far_records_reach_back() {
        let mut status = RecordsStatus {
            kept: 5,
            kept_max: 1_000_000,
            written: 7,
            lost: 3,
            lost_by_worker: vec![0, 3],
            per_second: 0.5,
            oldest: Some(Timestamp::UNIX_EPOCH),
            bytes: 512 << 10,
            ..RecordsStatus::default()
        };
        let mut text = String::new();
        status.write(&mut text);
        assert_eq!(
            text,
            "Records     7 written (0.5/s), 3 lost, 3 of them by worker 1; 5 of 1000000 kept since \
             1970-01-01T00:00:00Z, 0.5 MiB\n"
        );
        status.disk = Some(DiskStatus {
            directory: "/var/lib/portcullis".into(),
            files: 2,
            bytes: 3 << 20,
            bytes_max: 1 << 30,
            records: 40,
            lost: 1,
        });
        let mut text = String::new();
        status.write(&mut text);
        let disk =
            "            40 on disk, 1 lost; 2 files in /var/lib/portcullis, 3.0 of 1024 MiB";
        assert_eq!(text.lines().nth(1), Some(disk));
    }
}
