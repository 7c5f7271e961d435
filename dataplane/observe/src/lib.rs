//! What the workers have seen, for people: records are joined with names, kept, filtered, explained.
//!
//! No threads, no sockets, no async runtime: those are `portcullis` and `portcullis-hubble`.

mod cursor;
mod drop_reason;
mod event;
mod filter;
mod flow;
mod flow_policy;
mod history;
mod judgement;
mod names;
mod names_table;
mod rate;
mod reader;
mod ring;
mod stored;
mod why;

pub use cursor::Gap;
pub use drop_reason::DropReason;
pub use event::Event;
pub use filter::{Filter, is_pod};
pub use flow::{Flow, FlowEnd, FlowIp, protocol_name};
pub use flow_policy::{FlowPolicy, words};
pub use history::{History, HistoryCounts};
pub use judgement::Judgement;
pub use names::Names;
pub use reader::{Batch, Position, Reader};
pub use stored::Stored;
pub use why::{NearMiss, Why, WhySide};
