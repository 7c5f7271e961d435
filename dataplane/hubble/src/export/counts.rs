//! What an export has done, for metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts of one export; all zero where none runs.
#[derive(Debug, Default)]
pub struct ExportCounts {
    lines: AtomicU64,
    bytes: AtomicU64,
    lost: AtomicU64,
    failed: AtomicU64,
    rotations: AtomicU64,
}

impl ExportCounts {
    pub(super) fn written(&self, bytes: usize) {
        self.lines.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn lost(&self, events: u64) {
        self.lost.fetch_add(events, Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    pub(super) fn rotated(&self) {
        self.rotations.fetch_add(1, Relaxed);
    }

    /// Each count: name and help of its metric, value.
    pub(crate) fn all(&self) -> [(&'static str, &'static str, u64); 5] {
        [
            (
                "portcullis_export_lines",
                "Lines that the export wrote.",
                self.lines.load(Relaxed),
            ),
            (
                "portcullis_export_bytes",
                "Bytes that the export wrote, before compression.",
                self.bytes.load(Relaxed),
            ),
            (
                "portcullis_export_lost_events",
                "Events that the export did not see, because it was too slow or the queue from the workers was full; the file tells them, too.",
                self.lost.load(Relaxed),
            ),
            (
                "portcullis_export_failed",
                "Lines that could not be written: the disk is full, or the file cannot be made.",
                self.failed.load(Relaxed),
            ),
            (
                "portcullis_export_rotations",
                "Times the export began another file.",
                self.rotations.load(Relaxed),
            ),
        ]
    }
}
