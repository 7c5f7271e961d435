//! A run: rounds in which every path has its turn, then what the daemon costs at rest.

use crate::cost::{Memory, idle_percent};
use crate::figure::Samples;
use crate::ledger::{Balance, checksum_errors};
use crate::machine::Machine;
use crate::measure::Measure;
use crate::path::{Pair, Path};
use netns_tests::{Lab, STATE_DIRECTORY};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Pods of a full node.
pub const PODS_MANY: usize = 250;

/// How much is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Turns of each path.
    pub rounds: usize,
    /// Length of one measurement of throughput.
    pub span: Duration,
    /// Length of one measurement of connections and round trips.
    pub span_short: Duration,
    /// For how long the daemon is watched at rest.
    pub idle: Duration,
    /// Whether a node with [`PODS_MANY`] pods is measured.
    pub has_many_pods: bool,
    /// No round begins later than this after the first.
    pub rounds_end: Duration,
    /// `generic` or `native`.
    pub xdp_mode: String,
}

/// What the daemon costs at rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rest {
    /// Pods on the node.
    pub pods: usize,
    /// Memory after the start.
    pub memory: Memory,
    /// Share of a core in percent.
    pub idle_percent: f64,
}

/// All that was found out.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// Where.
    pub machine: Machine,
    /// What was planned.
    pub plan: Plan,
    /// Rounds that were done.
    pub rounds: usize,
    /// Every sample.
    pub samples: Samples,
    /// What became of the datagrams that went through the daemon, by measurement.
    pub balances: BTreeMap<Measure, Balance>,
    /// Packets with wrong checksums that the pods of each path received, by counter.
    pub checksum_errors: BTreeMap<&'static str, BTreeMap<String, u64>>,
    /// The daemon at rest, with few and with many pods.
    pub rest: Vec<Rest>,
    /// The daemon's memory with two pods, after all the traffic.
    pub memory_after: Memory,
    /// Seconds that all of it took.
    pub seconds: f64,
}

impl Findings {
    /// What is wrong: packets that were lost without a reason, or arrived damaged.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (measure, balance) in &self.balances {
            let count = balance.unexplained();
            if count > 0 {
                let sent = balance.sent;
                faults.push(format!(
                    "{measure:?}: {count} of {sent} datagrams were lost without a counted reason"
                ));
            }
        }
        for (path, counters) in &self.checksum_errors {
            for (counter, count) in counters.iter().filter(|(_, count)| **count > 0) {
                faults.push(format!("{path}: {counter} is {count}, expected 0"));
            }
        }
        faults
    }
}

/// Does all of it; None without the rights of root.
///
/// # Panics
/// When something cannot be set up, or a client gets no answer.
#[must_use]
pub fn run(plan: Plan, has_precedence: bool) -> Option<Findings> {
    let since = Instant::now();
    let mut machine = Machine::at_start(has_precedence);
    let settings = format!("xdpMode: {}\n", plan.xdp_mode);
    tell(since, "make pods");
    let mut pairs = Vec::new();
    for path in Path::ALL {
        pairs.push(Pair::new(path, &settings)?);
    }
    let portcullis = pairs
        .iter()
        .position(|pair| pair.path == Path::Portcullis)
        .expect("it is one of all");
    tell(since, "watch the daemon at rest, with 2 pods");
    let mut rest = vec![at_rest(&pairs[portcullis].lab, 2, plan.idle)];

    let (mut samples, mut balances) = (Samples::default(), BTreeMap::new());
    let mut rounds = 0;
    let rounds_since = Instant::now();
    while rounds < plan.rounds && (rounds == 0 || rounds_since.elapsed() < plan.rounds_end) {
        tell(since, &format!("round {} of {}", rounds + 1, plan.rounds));
        round(&pairs, rounds, &plan, &mut samples, &mut balances);
        rounds += 1;
    }

    let memory_after = Memory::of(&pairs[portcullis].lab);
    let checksum_errors = pairs
        .iter()
        .map(|pair| (pair.path.key(), errors_of(pair)))
        .collect();
    drop(pairs);
    if plan.has_many_pods {
        tell(since, &format!("make {PODS_MANY} pods"));
        let lab = crowded(&settings)?;
        tell(since, "watch the daemon at rest, with all of them");
        rest.push(at_rest(&lab, PODS_MANY, plan.idle));
    }
    machine.end();
    tell(since, "done");
    Some(Findings {
        machine,
        plan,
        rounds,
        samples,
        balances,
        checksum_errors,
        rest,
        memory_after,
        seconds: since.elapsed().as_secs_f64(),
    })
}

/// Each measurement on each path; another path is first in each round.
fn round(
    pairs: &[Pair],
    number: usize,
    plan: &Plan,
    samples: &mut Samples,
    balances: &mut BTreeMap<Measure, Balance>,
) {
    for measure in Measure::ALL {
        let span = match measure {
            Measure::Connections | Measure::RoundTrips => plan.span_short,
            _ => plan.span,
        };
        for turn in 0..pairs.len() {
            let pair = &pairs[(number + turn) % pairs.len()];
            let balance = measure.take(pair, span, samples);
            if let Some(balance) = balance.filter(|_| pair.path == Path::Portcullis) {
                *balances.entry(measure).or_default() += &balance;
            }
        }
    }
}

fn errors_of(pair: &Pair) -> BTreeMap<String, u64> {
    let mut sum = checksum_errors(&pair.client.place);
    for (counter, count) in checksum_errors(&pair.server.place) {
        *sum.entry(counter).or_default() += count;
    }
    sum
}

fn at_rest(lab: &Lab, pods: usize, span: Duration) -> Rest {
    let memory = Memory::of(lab);
    Rest {
        pods,
        memory,
        idle_percent: idle_percent(lab, span),
    }
}

/// A node with many pods, made before its daemon starts: that is a matter of seconds.
fn crowded(settings: &str) -> Option<Lab> {
    let lab = Lab::new(settings)?;
    let add = |number: usize| {
        let (name, address) = (format!("pod-{number}"), format!("10.0.1.{}", number + 1));
        let words = [
            "endpoint",
            "add",
            &name,
            "--namespace",
            "bench",
            "--label",
            "app=many",
            "--ip",
            &address,
            "--state",
            STATE_DIRECTORY,
        ];
        let ran = lab.portcullis(&words);
        assert!(
            ran.is_success,
            "portcullis {}: {}",
            words.join(" "),
            ran.stderr
        );
    };
    (0..PODS_MANY).for_each(add);
    lab.start_daemon();
    Some(lab)
}

/// Progress is for people who wait; findings go to standard output.
fn tell(since: Instant, what: &str) {
    eprintln!("{:>6.1} s  {what}", since.elapsed().as_secs_f64());
}
