//! How the engine's cost of a packet grows with policies, flows and pods.
//!
//! The engine alone, on one thread: no rings, no kernel. Absolute times are this machine's; what
//! counts is how flat the lines are.

use crate::machine::has_tool;
use crate::node::Node;
use portcullis::worker::BATCH;
use serde_json::{Value, json};
use std::process::Command;
use std::time::Instant;

/// Samples of which the median counts.
const SAMPLES: usize = 9;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Few points.
    Quick,
    /// Every power of ten.
    Full,
}

/// The cost at one size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// How many there are of what grows.
    pub count: usize,
    /// Nanoseconds of a packet of a known flow, both halves.
    pub hit_ns: f64,
    /// Nanoseconds of the first packet of a flow, both halves.
    pub miss_ns: f64,
}

/// Every cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Growth {
    /// Against the number of policies, all of the pods that talk.
    pub policies: Vec<Point>,
    /// Against the number of flows, visited in no order.
    pub flows: Vec<Point>,
    /// Against the number of pods, all of which talk.
    pub pods: Vec<Point>,
    /// Instructions of a packet of a known flow, both halves; None without valgrind.
    pub instructions: Option<f64>,
}

impl Growth {
    /// For JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let line = |points: &[Point]| -> Vec<Value> {
            let point = |point: &Point| json!({"count": point.count, "hit_ns": point.hit_ns, "miss_ns": point.miss_ns});
            points.iter().map(point).collect()
        };
        json!({
            "policies": line(&self.policies),
            "flows": line(&self.flows),
            "pods": line(&self.pods),
            "instructions_per_flow_hit": self.instructions,
        })
    }

    /// How much more a packet of a known flow costs at the largest size than at the smallest.
    #[must_use]
    pub fn ratios(&self) -> Vec<(String, f64)> {
        let lines = [
            ("growth_policies", &self.policies),
            ("growth_flows", &self.flows),
            ("growth_pods", &self.pods),
        ];
        let ratio = |(key, points): (&str, &Vec<Point>)| {
            let (first, last) = (points.first()?, points.last()?);
            Some((key.to_owned(), last.hit_ns / first.hit_ns))
        };
        lines.into_iter().filter_map(ratio).collect()
    }
}

/// Measures all of it.
#[must_use]
pub fn measure(effort: Effort) -> Growth {
    let sizes: [&[usize]; 3] = match effort {
        Effort::Quick => [&[10, 1000, 10_000], &[1, 1000, 1_000_000], &[2, 250]],
        Effort::Full => [
            &[10, 100, 1000, 10_000],
            &[1, 10, 100, 1000, 10_000, 100_000, 1_000_000],
            &[2, 10, 50, 100, 250],
        ],
    };
    let line = |sizes: &[usize], make: &dyn Fn(usize) -> (Node, usize)| -> Vec<Point> {
        let point = |&count: &usize| {
            let (mut node, flows) = make(count);
            let (hit_ns, miss_ns) = cost(&mut node, flows);
            Point {
                count,
                hit_ns,
                miss_ns,
            }
        };
        sizes.iter().map(point).collect()
    };
    Growth {
        policies: line(sizes[0], &|count| (Node::new(2, count), 1000)),
        flows: line(sizes[1], &|count| (Node::new(2, 10), count)),
        // As many flows at each size, spread over all pods.
        pods: line(sizes[2], &|count| (Node::new(count, 10), 10_000)),
        instructions: instructions(),
    }
}

/// Nanoseconds of a hit and of a miss, with so many flows open.
fn cost(node: &mut Node, flows: usize) -> (f64, f64) {
    // Misses: the last of the flows to be opened, while the table is as full as it will be.
    let timed = flows.min(10_000);
    (0..flows - timed).for_each(|flow| node.send(flow));
    let since = Instant::now();
    (flows - timed..flows).for_each(|flow| node.send(flow));
    let miss = since.elapsed().as_nanos() as f64 / timed as f64;
    let hits = 200_000.max(flows / 4);
    let mut times: Vec<f64> = (0..SAMPLES)
        .map(|_| {
            let since = Instant::now();
            send_hits(node, flows, hits);
            since.elapsed().as_nanos() as f64 / hits as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[SAMPLES / 2], miss)
}

/// Sends packets of open flows, in no order that a processor could foresee.
fn send_hits(node: &mut Node, flows: usize, hits: usize) {
    let mut state = 1_u64;
    let mut batch = Vec::with_capacity(BATCH);
    for _ in 0..hits {
        // Constants of MMIX, by Knuth.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        batch.push((state >> 33) as usize % flows);
        if batch.len() == BATCH {
            node.send_batch(&batch);
            batch.clear();
        }
    }
    node.send_batch(&batch);
}

/// What valgrind is to count: some flows, and so many packets of them. The same each time.
pub fn replay(hits: usize) {
    const FLOWS: usize = 64;
    let mut node = Node::new(2, 10);
    (0..FLOWS).for_each(|flow| node.send(flow));
    send_hits(&mut node, FLOWS, hits);
}

/// Instructions of a hit: what 10 000 more of them cost more.
fn instructions() -> Option<f64> {
    const MORE: usize = 10_000;
    if !has_tool("valgrind") {
        return None;
    }
    let program = std::env::current_exe().ok()?.with_file_name("growth");
    let count = |hits: usize| {
        let ran = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(&program)
            .args(["--replay", &hits.to_string()])
            .output()
            .ok()?;
        collected(&String::from_utf8_lossy(&ran.stderr))
    };
    Some((count(MORE + 1000)? - count(1000)?) / MORE as f64)
}

/// What callgrind says that it has counted.
fn collected(said: &str) -> Option<f64> {
    let line = said.lines().find_map(|line| line.split_once("Collected :"));
    line?.1.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_callgrind_is_read() {
        let said = "==1== Events    : Ir\n==1== Collected : 123456\n==1==\n";
        assert_eq!(collected(said), Some(123_456.0));
        assert_eq!(collected("==1== nothing"), None);
    }

    #[test]
    fn growth_is_the_last_point_over_the_first() {
        let point = |count, hit_ns| Point {
            count,
            hit_ns,
            miss_ns: 1.0,
        };
        let growth = Growth {
            policies: vec![point(1, 2.0), point(2, 9.0), point(3, 3.0)],
            flows: Vec::new(),
            pods: vec![point(1, 4.0)],
            instructions: None,
        };
        let expected = [("growth_policies", 1.5), ("growth_pods", 1.0)];
        assert_eq!(
            growth.ratios(),
            expected.map(|(key, ratio)| (key.to_owned(), ratio))
        );
    }

    #[test]
    fn every_packet_of_a_node_is_delivered() {
        let mut node = Node::new(5, 20);
        for flow in (0..3000).chain(0..3000) {
            node.send(flow);
        }
    }
}
