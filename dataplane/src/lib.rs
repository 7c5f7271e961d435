//! The daemon and its command line.

pub mod cli;
pub mod config;
pub mod control;
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
mod observer;
mod privileges;
pub mod review;
pub mod rings;
mod rule_ledger;
mod server;
pub mod status;
pub mod status_view;
pub mod worker;
pub mod xdp;

pub use portcullis_observe as observe;
