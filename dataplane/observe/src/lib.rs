//! What the workers have seen, for people: records are joined with names, kept, filtered, explained.
//!
//! No threads, no sockets, no async runtime: those are `portcullis` and `portcullis-hubble`.

mod connections;
mod copied;
mod cursor;
mod drop_reason;
mod event;
mod expression;
mod filter_fields;
mod flow;
mod flow_check;
mod flow_filter;
mod flow_policy;
mod glob;
mod history;
mod judgement;
mod label_selector;
mod link;
mod names;
mod names_extract;
mod names_table;
mod past;
mod pattern;
mod rate;
mod reader;
mod reduction;
mod ring;
mod seen;
mod segment;
mod sighting;
mod stored;
mod uuid;
mod why;
mod workload;

pub use connections::{Connections, Passed, is_audited};
pub use cursor::Gap;
pub use drop_reason::DropReason;
pub use event::Event;
pub use expression::{Expression, Language, Origin};
pub use flow::{Flow, FlowEnd, FlowIp, protocol_name};
pub use flow_filter::{
    EventTypeFilter, ExperimentalFilter, FlowChoice, FlowFilter, FlowMatcher, HeaderFilter, Home,
    InterfaceFilter, IpVersion, TcpFlagsFilter, TrafficDirection, WorkloadFilter,
};
pub use flow_policy::{FlowPolicy, words};
pub use history::{History, HistoryCounts};
pub use judgement::Judgement;
pub use label_selector::LabelSelector;
pub use link::{Link, Mac};
pub use names::Names;
pub use names_extract::NamesExtract;
pub use pattern::Pattern;
pub use reader::{Batch, Position, Reader};
pub use seen::Seen;
pub use segment::{SegmentSettings, SegmentWriter, Segments, SegmentsCounts};
pub use sighting::{Aspect, FlowVerdict, Party, Point, Sighting};
pub use stored::Stored;
pub use uuid::Uuid;
pub use why::{NearMiss, Why, WhySide};
pub use workload::{Workload, of as workload_of};
