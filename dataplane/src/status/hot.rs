//! Which endpoints ask most of their workers.

use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// What one endpoint asked of its worker in the last second.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HotStatus {
    /// Number of the endpoint.
    pub id: u32,
    /// `namespace/name`, `host` or `uplink`.
    pub name: String,
    /// Its worker.
    pub worker: u16,
    /// Frames received from it a second.
    pub frames_per_second: f64,
    /// Its share of the time that its worker worked, in percent.
    pub worker_percent: f64,
    /// That time as a share of a core, in percent.
    pub core_percent: f64,
    /// Packets from it a second that its worker was too slow for.
    pub lost_per_second: f64,
    /// For how many seconds it has kept its worker from other pods.
    pub hot_seconds: u32,
}

/// For people, a line for each.
pub(super) fn write(out: &mut String, hottest: &[HotStatus]) {
    for hot in hottest {
        let _ = writeln!(
            out,
            "Hot         {:<28} {:.0} % of worker {}, {:.1} % of a core: {:.0}/s, {:.0}/s lost",
            hot.name,
            hot.worker_percent,
            hot.worker,
            hot.core_percent,
            hot.frames_per_second,
            hot.lost_per_second
        );
    }
}
