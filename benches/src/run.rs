//! A run: rounds in which every path has its turn, then what the daemon costs at rest.

use crate::cost::{Memory, idle_percent};
use crate::crowd::{self, Talk};
use crate::figure::Samples;
use crate::growth::{self, Growth};
use crate::ledger::{Balance, Counters, checksum_errors};
use crate::machine::{Machine, has_tool, raise_file_limit};
use crate::measure::Measure;
use crate::path::{Pair, Path};
use netns_tests::{Lab, Pod};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Pods of a full node.
pub const PODS_MANY: usize = 250;
/// For how long they are watched as they talk.
const TALK: Duration = Duration::from_secs(4);

/// How much is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Turns of each path.
    pub rounds: usize,
    /// Length of one measurement.
    pub span: Duration,
    /// For how long the daemon is watched at rest.
    pub idle: Duration,
    /// Whether a node with [`PODS_MANY`] pods is measured.
    pub has_many_pods: bool,
    /// No round begins later than this after the first.
    pub rounds_end: Duration,
    /// `generic` or `native`.
    pub xdp_mode: String,
    /// Workers of the daemon.
    pub workers: u16,
    /// The paths, in the order of the tables.
    pub paths: Vec<Path>,
    /// What is measured on them.
    pub measures: Vec<Measure>,
    /// Whether the growth of the engine's cost is measured, and how much of it.
    pub growth: Option<growth::Effort>,
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
    /// What could not be measured, and why.
    pub skipped: BTreeMap<String, String>,
    /// Where a connection failed, and how: it was not tried again.
    pub failures: BTreeMap<(Path, Measure), String>,
    /// Every sample.
    pub samples: Samples,
    /// What became of the datagrams that went through the daemons.
    pub balances: BTreeMap<Path, Balance>,
    /// Packets with wrong checksums that the pods of each path received, by counter.
    pub checksum_errors: BTreeMap<Path, BTreeMap<String, u64>>,
    /// The daemon at rest, with few and with many pods.
    pub rest: Vec<Rest>,
    /// A full node whose pods all talk.
    pub talk: Option<Talk>,
    /// Whether floods end at a sink in the kernel, not at a socket.
    pub has_sink: bool,
    /// Memory of the daemons, after all the traffic.
    pub memory_after: BTreeMap<Path, Memory>,
    /// The engine's cost.
    pub growth: Option<Growth>,
    /// Seconds that all of it took.
    pub seconds: f64,
}

impl Findings {
    /// What is wrong: packets that were lost without a reason, or arrived damaged.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for ((path, measure), why) in &self.failures {
            let (path, measure) = (path.key(), measure.key());
            faults.push(format!("{path}: {measure} failed: {why}"));
        }
        for (path, balance) in &self.balances {
            let count = balance.unexplained();
            if count > 0 {
                let (key, sent) = (path.key(), balance.sent);
                faults.push(format!(
                    "{key}: {count} of {sent} datagrams were lost without a counted reason"
                ));
            }
        }
        for (path, counters) in &self.checksum_errors {
            for (counter, count) in counters.iter().filter(|(_, count)| **count > 0) {
                faults.push(format!("{}: {counter} is {count}, expected 0", path.key()));
            }
        }
        faults
    }
}

/// Does all of it; None without the rights of root.
///
/// # Panics
/// When something cannot be set up that every path needs, or a client gets no answer.
#[must_use]
pub fn run(plan: Plan, has_precedence: bool) -> Option<Findings> {
    let since = Instant::now();
    raise_file_limit();
    let mut machine = Machine::at_start(has_precedence);
    let (pairs, mut skipped) = make_pairs(since, &plan)?;
    let mut rest = Vec::new();
    if let Some(pair) = pairs.iter().find(|pair| pair.path == Path::Policies10) {
        tell(since, "watch a daemon at rest, with 2 pods");
        rest.push(at_rest(&pair.lab, 2, plan.idle));
    }

    let (mut samples, mut failures) = (Samples::default(), BTreeMap::new());
    let before: Vec<Counters> = pairs.iter().map(Counters::read).collect();
    let mut sent = vec![0; pairs.len()];
    let mut rounds = 0;
    let rounds_since = Instant::now();
    while rounds < plan.rounds && (rounds == 0 || rounds_since.elapsed() < plan.rounds_end) {
        tell(since, &format!("round {} of {}", rounds + 1, plan.rounds));
        for &measure in &plan.measures {
            for turn in 0..pairs.len() {
                // Another path is first in each round.
                let index = (rounds + turn) % pairs.len();
                let (pair, key) = (&pairs[index], (pairs[index].path, measure));
                if !measure.fits(pair.path) || failures.contains_key(&key) {
                    continue;
                }
                match measure.take(pair, plan.span, &mut samples) {
                    Ok(count) => sent[index] += count,
                    Err(error) => {
                        tell(
                            since,
                            &format!("FAILED {} on {}: {error}", measure.key(), pair.path.key()),
                        );
                        failures.insert(key, error.to_string());
                    }
                }
            }
        }
        rounds += 1;
    }

    tell(since, "settle the books");
    let (mut balances, mut memory_after) = (BTreeMap::new(), BTreeMap::new());
    for ((pair, before), sent) in pairs.iter().zip(&before).zip(sent) {
        if pair.path.has_daemon() {
            let balance = Counters::settle(before, pair, Some(sent));
            balances.insert(pair.path, balance);
            memory_after.insert(pair.path, Memory::of(&pair.lab));
        }
    }
    let has_sink = !pairs.is_empty() && pairs.iter().all(|pair| pair.sink.is_some());
    let checksum_errors = pairs
        .iter()
        .map(|pair| (pair.path, errors_of(pair)))
        .collect();
    drop(pairs);
    let mut talk = None;
    if plan.has_many_pods {
        tell(since, &format!("make {PODS_MANY} pods"));
        let workers = plan.workers;
        let settings = format!(
            "xdpMode: {}\nworkers: {{count: {workers}}}\n",
            plan.xdp_mode
        );
        let (lab, pods) = crowded(&settings)?;
        tell(since, "watch the daemon at rest, with all of them");
        rest.push(at_rest(&lab, PODS_MANY, plan.idle));
        tell(since, "let all of them talk");
        talk = Some(crowd::talk(&lab, &pods, TALK));
    }
    let growth = plan.growth.map(|effort| {
        tell(since, "measure how the engine's cost grows");
        growth::measure(effort)
    });
    if growth
        .as_ref()
        .is_some_and(|growth| growth.instructions.is_none())
    {
        skipped.insert(
            "instructions".into(),
            "valgrind is missing, or failed".into(),
        );
    }
    machine.end();
    tell(since, "done");
    Some(Findings {
        machine,
        plan,
        rounds,
        skipped,
        failures,
        samples,
        balances,
        checksum_errors,
        rest,
        memory_after,
        talk,
        has_sink,
        growth,
        seconds: since.elapsed().as_secs_f64(),
    })
}

/// The pairs that can be made here, and why the others cannot.
fn make_pairs(since: Instant, plan: &Plan) -> Option<(Vec<Pair>, BTreeMap<String, String>)> {
    let (mut pairs, mut skipped) = (Vec::new(), BTreeMap::new());
    for &path in &plan.paths {
        tell(since, &format!("make {}", path.key()));
        let missing = path.tools().iter().find(|tool| !has_tool(tool));
        let made = match missing {
            Some(tool) => Err(format!("{tool} is missing: ./x setup installs it")),
            None => Pair::new(path, &plan.xdp_mode, plan.workers),
        };
        match made {
            Ok(pair) => pairs.push(pair?),
            Err(why) => {
                tell(since, &format!("SKIPPED {}: {why}", path.key()));
                skipped.insert(path.key().to_owned(), why);
            }
        }
    }
    Some((pairs, skipped))
}

fn errors_of(pair: &Pair) -> BTreeMap<String, u64> {
    let mut sum = checksum_errors(&pair.client.place);
    for (counter, count) in checksum_errors(pair.server()) {
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
fn crowded(settings: &str) -> Option<(Lab, Vec<Pod>)> {
    let lab = Lab::new(settings)?;
    let add = |number: usize| {
        let address = format!("10.0.1.{}", number + 1);
        lab.pod(&format!("bench/pod-{number}"), &["app=many"], &[&address])
    };
    let pods = (0..PODS_MANY).map(add).collect();
    lab.start_daemon();
    Some((lab, pods))
}

/// Progress is for people who wait; findings go to standard output.
fn tell(since: Instant, what: &str) {
    eprintln!("{:>6.1} s  {what}", since.elapsed().as_secs_f64());
}
