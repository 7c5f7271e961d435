//! What the workers have seen, for people: records are joined with names, kept, filtered, explained.
//!
//! No threads, no sockets, no async runtime: those are `portcullis` and `portcullis-hubble`.

mod drop_reason;
mod filter;
mod flow;
mod flow_policy;
mod history;

pub use drop_reason::DropReason;
pub use filter::{Filter, is_pod};
pub use flow::{Flow, FlowEnd, FlowIp, protocol_name};
pub use flow_policy::{FlowPolicy, words};
pub use history::{Event, History, Names, Reader};
