//! Speed, measured against the kernel on the same machine in the same run.
//!
//! Absolute figures of a shared machine drift; ratios of figures that were taken in turns hold. So
//! every round measures every path once, and what counts is the ratio of the medians.

pub mod bare;
pub mod budgets;
pub mod bulk;
pub mod clang;
pub mod clients;
pub mod cost;
pub mod crowd;
pub mod figure;
pub mod filters;
pub mod growth;
pub mod ledger;
pub mod machine;
pub mod markdown;
pub mod measure;
pub mod node;
pub mod path;
pub mod plot;
pub mod policies;
pub mod report;
pub mod run;
pub mod sink;
pub mod tc_bpf;
