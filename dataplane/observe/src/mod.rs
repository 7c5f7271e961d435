//! Every verdict, told: records from the workers are joined with names and kept for readers.

mod filter;
mod flow;
mod flow_policy;
mod history;

pub use filter::{Filter, is_pod};
pub use flow::{Flow, FlowEnd, FlowIp, protocol_name};
pub use flow_policy::{FlowPolicy, words};
pub use history::{Event, History, Names, Reader};
