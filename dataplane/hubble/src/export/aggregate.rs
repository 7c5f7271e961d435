//! Flows that agree in some fields, put together into one with counts by direction.

use crate::mask::Mask;
use crate::wire::flow::{Aggregate, Flow, TrafficDirection};
use prost::Message;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Groups of one interval. Beyond that the interval ends early: memory stays bounded.
const GROUPS_MAX: usize = 10_000;

/// The flows of one interval.
#[derive(Debug)]
pub(super) struct Groups {
    mask: Mask,
    interval: Duration,
    groups: HashMap<Vec<u8>, Group>,
    began: Instant,
}

#[derive(Debug)]
struct Group {
    counts: Aggregate,
    /// When the last of them was.
    time: Option<prost_types::Timestamp>,
}

impl Groups {
    /// Groups by the fields of this mask.
    pub fn new(mask: Mask, interval: Duration, now: Instant) -> Self {
        Self {
            mask,
            interval,
            groups: HashMap::new(),
            began: now,
        }
    }

    /// Takes a flow.
    pub fn add(&mut self, flow: Flow) {
        let (time, direction) = (flow.time, flow.traffic_direction());
        let key = self.mask.apply(flow).encode_to_vec();
        let group = self.groups.entry(key).or_insert_with(|| Group {
            counts: Aggregate::default(),
            time,
        });
        group.time = time;
        let count = match direction {
            TrafficDirection::Ingress => &mut group.counts.ingress_flow_count,
            TrafficDirection::Egress => &mut group.counts.egress_flow_count,
            TrafficDirection::Unknown => &mut group.counts.unknown_direction_flow_count,
        };
        *count = count.saturating_add(1);
    }

    /// The groups of an interval that is over: each as a flow that has the fields they agree in,
    /// with the time of its last.
    pub fn due(
        &mut self,
        now: Instant,
        is_end: bool,
    ) -> Vec<(Flow, Option<prost_types::Timestamp>)> {
        let is_over = now.saturating_duration_since(self.began) >= self.interval;
        if !is_over && !is_end && self.groups.len() < GROUPS_MAX {
            return Vec::new();
        }
        self.began = now;
        let flow = |(key, group): (Vec<u8>, Group)| {
            // We have written it ourselves, so it can be read.
            let mut flow = Flow::decode(key.as_slice()).unwrap_or_default();
            flow.aggregate = Some(group.counts);
            (flow, group.time)
        };
        self.groups.drain().map(flow).collect()
    }
}
