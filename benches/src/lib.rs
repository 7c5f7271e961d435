//! Speed, measured against the kernel on the same machine in the same run.
//!
//! Absolute figures of a shared machine drift; ratios of figures that were taken in turns hold. So
//! every round measures every path once, and what counts is the ratio of the medians.

pub mod clients;
pub mod cost;
pub mod figure;
pub mod ledger;
pub mod machine;
pub mod measure;
pub mod path;
pub mod policies;
pub mod report;
pub mod run;
pub mod table;
