//! A full node whose pods all talk at once: does each get its part, and what does it cost?

use crate::cost::Memory;
use crate::figure::median;
use crate::ledger::arrived_at;
use crate::policies::FLOOD_PORT;
use netns_tests::{Lab, Pod};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::{Value, json};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

/// Bytes of a datagram: a frame of 64 bytes.
const PAYLOAD: usize = 22;
/// Datagrams of one call; then the pod lets others have the core. 250 pods ask for 800 000 packets a
/// second: more than the node gets through, but not so much that nobody's packets are read any more.
const BURST: usize = 16;
const PAUSE: Duration = Duration::from_millis(5);

/// What each pod got through.
#[derive(Debug, Clone, PartialEq)]
pub struct Talk {
    /// Pods that talk, each to the next.
    pub pods: usize,
    /// Datagrams a second that arrived at all of them.
    pub packets_per_second: f64,
    /// Of the pod whose datagrams arrived least, and the mean of all.
    pub slowest: f64,
    /// The mean.
    pub mean: f64,
    /// The middle one.
    pub median: f64,
    /// Of the daemon, meanwhile.
    pub memory: Memory,
}

impl Talk {
    /// What the slowest pod got of the mean.
    #[must_use]
    pub fn slowest_of_mean(&self) -> f64 {
        self.slowest / self.mean
    }

    /// For JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "pods": self.pods,
            "packets_per_second": self.packets_per_second,
            "pod_packets_per_second_slowest": self.slowest,
            "pod_packets_per_second_mean": self.mean,
            "pod_packets_per_second_median": self.median,
            "rss_kb": self.memory.rss_kb,
        })
    }
}

/// Lets every pod send to the next for a while, more than the node gets through.
///
/// # Panics
/// When a pod cannot send, or nothing arrives at all.
#[must_use]
pub fn talk(lab: &Lab, pods: &[Pod], span: Duration) -> Talk {
    let is_over = Arc::new(AtomicBool::new(false));
    let address = |pod: &Pod| SocketAddr::new(pod.addresses[0], FLOOD_PORT);
    let ears: Vec<UdpSocket> = pods
        .iter()
        .map(|pod| {
            let at = address(pod);
            let ears = pod.place.call(move || UdpSocket::bind(at));
            let ears = ears.expect("the port is free");
            setsockopt(&ears, sockopt::RcvBuf, &1).expect("a socket has a buffer");
            ears
        })
        .collect();
    let next = pods.iter().cycle().skip(1);
    let senders: Vec<JoinHandle<()>> = pods
        .iter()
        .zip(next)
        .map(|(pod, next)| {
            let (to, until) = (address(next), is_over.clone());
            pod.place.thread(move || send(to, &until))
        })
        .collect();
    // Everybody has begun, and fill rings are as deep as they get.
    sleep(Duration::from_secs(1));
    let read = || {
        pods.iter()
            .map(|pod| arrived_at(&pod.place))
            .collect::<Vec<_>>()
    };
    let (before, since) = (read(), Instant::now());
    sleep(span);
    let (after, seconds) = (read(), since.elapsed().as_secs_f64());
    let memory = Memory::of(lab);
    is_over.store(true, Relaxed);
    for sender in senders {
        sender.join().expect("it does not panic");
    }
    drop(ears);
    let rates: Vec<f64> = after
        .iter()
        .zip(&before)
        .map(|(after, before)| (after - before) as f64 / seconds)
        .collect();
    let sum: f64 = rates.iter().sum();
    assert!(sum > 0.0, "nothing arrived");
    Talk {
        pods: pods.len(),
        packets_per_second: sum,
        slowest: rates.iter().copied().fold(f64::INFINITY, f64::min),
        mean: sum / rates.len() as f64,
        median: median(&rates).unwrap_or(0.0),
        memory,
    }
}

fn send(to: SocketAddr, is_over: &AtomicBool) {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.connect(to).expect("an address");
    setsockopt(&socket, sockopt::UdpGsoSegment, &(PAYLOAD as i32)).expect("the kernel segments");
    let bytes = [0x55; PAYLOAD * BURST];
    while !is_over.load(Relaxed) {
        // A full queue is what is asked for.
        let _ = socket.send(&bytes);
        sleep(PAUSE);
    }
}
