//! What the workers have seen, for people: records are joined with names, kept, filtered, explained.
//!
//! No threads, no sockets, no async runtime: those are `portcullis` and `portcullis-hubble`.

mod filter;
mod flow;
mod flow_policy;
mod history;
mod judgement;
mod why;

pub use filter::{Filter, is_pod};
pub use flow::{Flow, FlowEnd, FlowIp, protocol_name};
pub use flow_policy::{FlowPolicy, words};
pub use history::{Event, History, Names, Reader};
pub use judgement::Judgement;
pub use why::{NearMiss, Why, WhySide};
