//! The daemon and its command line.

pub mod cli;
pub mod config;
pub mod control;
mod cores;
pub mod counters;
mod crowds;
pub mod daemon;
pub mod endpoint;
mod faults;
mod figures;
mod hubble;
pub mod ipc;
pub mod listing;
pub mod netlink;
pub mod observer;
pub mod privileges;
pub mod recall;
mod records_status;
pub mod review;
pub mod rings;
mod rule_ledger;
mod segments;
mod server;
pub mod status;
pub mod status_view;
mod telemetry;
pub mod trial;
pub mod worker;
pub mod xdp;

pub use portcullis_observe as observe;
