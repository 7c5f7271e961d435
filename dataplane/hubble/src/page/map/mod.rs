//! The service map: workloads and what passed between them, counted as it happens.

mod answer;
mod link;
mod place;
mod recent;
mod round_trips;
mod service_map;
#[cfg(test)]
mod tests;
mod watch;

pub(super) use answer::{answer, stream};
pub(super) use watch::{SharedMap, start};
