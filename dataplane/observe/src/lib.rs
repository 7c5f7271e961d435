//! What the workers have seen, for people: records are joined with names, kept, filtered, explained.
//!
//! No threads, no sockets, no async runtime: those are `portcullis` and `portcullis-hubble`.

mod copied;
mod cursor;
mod event;
mod filter;
mod flow;
mod flow_policy;
mod history;
mod names;
mod names_extract;
mod names_table;
mod past;
mod rate;
mod reader;
mod reduction;
mod ring;
mod segment;
mod stored;

pub use cursor::Gap;
pub use event::Event;
pub use filter::{Filter, is_pod};
pub use flow::{Flow, FlowEnd, FlowIp, protocol_name};
pub use flow_policy::{FlowPolicy, words};
pub use history::{History, HistoryCounts};
pub use names::Names;
pub use names_extract::NamesExtract;
pub use reader::{Batch, Position, Reader};
pub use segment::{SegmentSettings, SegmentWriter, Segments, SegmentsCounts};
pub use stored::Stored;
