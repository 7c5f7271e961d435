//! Every verdict, told: records from the workers are joined with names and kept for readers.

mod filter;
mod flow;
mod history;

pub use filter::Filter;
pub use flow::{Flow, FlowEnd, FlowIp, FlowPolicy};
pub use history::{Event, History, Names, Reader};
