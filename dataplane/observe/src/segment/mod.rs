//! History on disk: files of compressed blocks, the oldest of which make room for new ones.
//!
//! A file begins with `FILE_MAGIC`; then block follows block, each a `Header` and its payload. What
//! stands behind the first header that is torn or damaged is left alone.

mod block;
#[cfg(test)]
mod block_tests;
mod checksum;
mod folder;
mod row;
mod writer;

pub use folder::{SegmentSettings, Segments, SegmentsCounts};
pub use writer::SegmentWriter;

pub(crate) use folder::BlockPlace;
