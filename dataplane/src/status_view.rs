//! What control, workers and observer show of themselves, gathered when somebody asks.

use crate::config::{Checksums, Config};
use crate::control::{Heat, SlotKey, Slots};
use crate::counters::{Counter, WorkerCounters};
use crate::crowds::Crowds;
use crate::faults::Faults;
use crate::figures::Tally;
use crate::observe::{History, Names};
use crate::review::Reading;
use crate::rings::{CHUNK_BYTES, Umem};
use crate::rule_ledger::RuleLedger;
use crate::status::{
    DocumentsStatus, EndpointStatus, FramesStatus, IdentityStatus, LimitStatus, NodeStatus,
    RecordsStatus, RuleStatus, Status, WorkerStatus,
};
use crate::trial::Decision;
use crate::worker::{WorkerHandle, now};
use crate::xdp::Redirect;
use jiff::Timestamp;
use portcullis_engine::{CrowdedDestination, Drop, EndpointKind, Limit, RuleHits, Snapshot};
use portcullis_hubble::AgentLog;
use portcullis_hubble::metrics::MetricsSettings;
use portcullis_policy::{Direction, Generation, Tables};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

/// Generations whose names are kept: records of older ones have long been read.
const GENERATIONS_KEPT: usize = 32;

/// What follows the settings that are accepted.
type Follow = Box<dyn Fn(&Config) -> Result<(), String> + Send + Sync>;

/// Shared by control, which writes, and readers.
pub struct StatusView {
    inner: Mutex<Inner>,
    counters: Vec<(u16, Option<usize>, Arc<WorkerCounters>)>,
    history: Arc<History>,
    umem: Arc<Umem>,
    placing: Placing,
    started: Instant,
    log: Arc<AgentLog>,
    follow: OnceLock<Follow>,
}

/// What was decided at the start about where things run, and why.
#[derive(Debug, Clone)]
pub struct Placing {
    /// How the kernel program is attached.
    pub decision: Decision,
    /// Why workers are pinned as they are.
    pub cores_reason: String,
}

#[derive(Default)]
struct Inner {
    status: Status,
    faults: Faults,
    tally: Tally,
    crowds: Crowds,
    revision: u64,
    /// The revision that is being put into force.
    revision_accepted: u64,
    refused: Vec<String>,
    reading: Option<Arc<Reading>>,
    ledger: RuleLedger,
    names: BTreeMap<Generation, Arc<Names>>,
    samples: Vec<(u64, u64)>,
    rates: Vec<(f64, f64)>,
    busy_percent: Vec<f64>,
    sampled: Option<Instant>,
    /// When the documents that are being put into force were read.
    read: Option<Instant>,
    metrics: Option<Arc<MetricsSettings>>,
    /// The generation whose endpoints have been made what it asks for.
    shown: Generation,
}

impl StatusView {
    /// A view of these workers.
    #[must_use]
    pub fn new(
        workers: &[WorkerHandle],
        history: Arc<History>,
        umem: Arc<Umem>,
        placing: Placing,
        log: Arc<AgentLog>,
    ) -> Self {
        let counters = workers
            .iter()
            .map(|worker| (worker.index, worker.core, Arc::clone(&worker.counters)))
            .collect();
        Self {
            inner: Mutex::default(),
            counters,
            history,
            umem,
            placing,
            started: Instant::now(),
            log,
            follow: OnceLock::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Documents were refused; those before them stay in force.
    pub fn refuse(&self, errors: Vec<String>) {
        for error in &errors {
            eprintln!("refused: {error}");
        }
        let mut inner = self.lock();
        inner.tally.refused += 1;
        inner.tally.document_faults += errors.len() as u64;
        inner.refused = errors;
        inner.revision += 1;
    }

    /// Something in the daemon failed that no document is to blame for.
    pub fn fault(&self, fault: String) {
        eprintln!("fault: {fault}");
        let mut inner = self.lock();
        inner.tally.faults += 1;
        inner.faults.add(fault);
    }

    /// A destination is running out of ports.
    pub fn crowd(&self, crowded: CrowdedDestination) {
        let mut inner = self.lock();
        if let Some(warning) = inner.crowds.note(crowded, Instant::now()) {
            inner.tally.port_warnings += 1;
            eprintln!("warning: {warning}");
        }
    }

    /// Says what is to follow the settings of each config.yaml that is accepted.
    pub fn on_accept(
        &self,
        follow: impl Fn(&Config) -> Result<(), String> + Send + Sync + 'static,
    ) {
        // There is one.
        let _ = self.follow.set(Box::new(follow));
    }

    /// Documents were accepted that were read at `read`.
    pub fn accept(
        &self,
        config: &Config,
        documents: DocumentsStatus,
        warnings: Vec<String>,
        read: Instant,
    ) {
        if let Some(follow) = self.follow.get()
            && let Err(fault) = follow(config)
        {
            self.fault(fault);
        }
        for warning in &warnings {
            eprintln!("warning: {warning}");
        }
        let mut inner = self.lock();
        inner.refused.clear();
        inner.tally.accepted += 1;
        inner.tally.document_warnings += warnings.len() as u64;
        inner.revision_accepted = inner.revision + 1;
        inner.read = Some(read);
        if inner.metrics.as_deref() != Some(&config.metrics) {
            inner.metrics = Some(Arc::new(config.metrics.clone()));
        }
        inner.status.documents = documents;
        inner.status.warnings = warnings;
        inner.status.node = NodeStatus {
            uplink: config.uplink.clone(),
            xdp_mode: self.placing.decision.mode.key().into(),
            xdp_mode_reason: self.placing.decision.reason.clone(),
            xdp_trial: self.placing.decision.trial,
            cores_reason: self.placing.cores_reason.clone(),
            checksums: if self.umem.finishes_checksums() {
                "offload"
            } else {
                match config.checksums {
                    Checksums::Offload => "software: the kernel cannot",
                    Checksums::Software => "software",
                }
            }
            .into(),
            policy_enforcement_mode: format!("{:?}", config.policy_enforcement_mode).to_lowercase(),
            pod_cidrs: config.pod_cidrs.iter().map(ToString::to_string).collect(),
        };
    }

    /// A snapshot goes out to the workers; its names are needed before its first record.
    pub fn publish(&self, generation: Generation, names: Names) {
        let mut inner = self.lock();
        let before = inner.names.values().next_back().cloned();
        let names = Arc::new(names);
        inner.names.insert(generation, Arc::clone(&names));
        while inner.names.len() > GENERATIONS_KEPT {
            inner.names.pop_first();
        }
        inner.status.generation = generation.0;
        drop(inner);
        // Many pods take their time to be compared: nobody is to wait for it.
        self.log
            .compare(Timestamp::now(), before.as_deref(), &names);
    }

    /// Counters for the rules of these tables, one set for each worker.
    #[must_use]
    pub fn count_rules(&self, tables: Option<&Arc<Tables>>) -> Vec<Arc<RuleHits>> {
        let workers = self.counters.len();
        self.lock()
            .ledger
            .counters(tables, workers, Timestamp::now())
    }

    /// Every rule in force, and how often it decided.
    #[must_use]
    pub fn rules(&self) -> Vec<RuleStatus> {
        self.lock().ledger.rules((Timestamp::now(), now()))
    }

    /// These documents are in force now.
    pub fn read(&self, reading: Arc<Reading>) {
        self.lock().reading = Some(reading);
    }

    /// The documents in force; None before the first were accepted.
    #[must_use]
    pub fn reading(&self) -> Option<Arc<Reading>> {
        self.lock().reading.clone()
    }

    /// The names of a generation, or of the oldest that is kept.
    #[must_use]
    pub fn names(&self, generation: Generation) -> Arc<Names> {
        let inner = self.lock();
        let exact = inner.names.get(&generation);
        exact
            .or_else(|| inner.names.values().next())
            .cloned()
            .unwrap_or_default()
    }

    /// The names of the generation that control published last.
    #[must_use]
    pub fn names_now(&self) -> Arc<Names> {
        let generation = Generation(self.lock().status.generation);
        self.names(generation)
    }

    /// Shows the endpoints as they are now.
    pub fn show_endpoints(&self, slots: &Slots, snapshot: &Snapshot) {
        let tables = snapshot.tables.as_ref();
        let is_always = self.lock().status.node.policy_enforcement_mode == "always";
        let mut endpoints = Vec::new();
        for (index, slot) in slots.iter() {
            let endpoint = snapshot
                .endpoints
                .get(usize::from(index.0))
                .and_then(Option::as_ref);
            let policy = endpoint.and_then(|endpoint| endpoint.policy);
            let enforced = |direction| match (tables, policy) {
                (Some(tables), Some(policy)) => {
                    is_always || tables.isolating(policy, direction).next().is_some()
                }
                _ => true,
            };
            let identity = endpoint
                .map(|endpoint| endpoint.identity)
                .unwrap_or_default();
            let labels = tables
                .map(|tables| tables.labels(identity))
                .unwrap_or_default();
            endpoints.push(EndpointStatus {
                id: slot.id.0,
                kind: match slot.wanted.key.kind() {
                    EndpointKind::Pod => "pod",
                    EndpointKind::Host => "host",
                    EndpointKind::Uplink => "uplink",
                }
                .into(),
                name: match &slot.wanted.key {
                    SlotKey::Pod { .. } => slot.wanted.key.name(),
                    _ => String::new(),
                },
                interface: slot.wanted.interface.clone(),
                addresses: endpoint.map(|e| e.addresses.clone()).unwrap_or_default(),
                identity: identity.0,
                labels: labels.to_vec(),
                ingress_enforced: enforced(Direction::Ingress),
                egress_enforced: enforced(Direction::Egress),
                worker: slot.worker,
                state: match (&slot.fault, slot.is_attached) {
                    (_, true) if slot.is_running => "ready".into(),
                    (_, true) => "attached; the link is coming up".into(),
                    (Some(fault), false) => fault.clone(),
                    (None, false) => "not attached".into(),
                },
            });
        }
        let identities = tables
            .map(|tables| {
                let all = tables
                    .identities()
                    .filter(|(identity, _)| !identity.is_reserved());
                all.map(|(identity, labels)| IdentityStatus {
                    identity: identity.0,
                    labels: labels.to_vec(),
                })
                .collect()
            })
            .unwrap_or_default();
        let mut inner = self.lock();
        inner.status.endpoints = endpoints;
        inner.shown = snapshot.generation;
        // Only now: who waits for a revision waits until it is in force.
        inner.revision = inner.revision.max(inner.revision_accepted);
        if let Some(read) = inner.read.take() {
            inner.tally.delays.note(read.elapsed());
        }
        inner.status.identities = identities;
        if slots.refused > 0 {
            let fault = format!(
                "{} pods found no free endpoint and are cut off",
                slots.refused
            );
            inner.faults.add(fault);
        }
    }

    /// Once a second: rates, and what the kernel counted.
    pub fn sample(&self, workers: &[WorkerHandle], redirect: &Redirect, heat: &Heat) {
        let kernel = redirect.counters().unwrap_or_default();
        let kernel = [
            ("redirected", kernel.redirected),
            ("no_socket", kernel.no_socket),
            ("passed_to_host", kernel.passed),
            ("interface_unknown", kernel.interface_unknown),
            ("unreadable", kernel.unreadable),
        ];
        let mut inner = self.lock();
        inner.status.hottest = heat.hottest();
        inner.busy_percent.clone_from(&heat.busy_percent);
        inner.status.kernel = kernel
            .into_iter()
            .map(|(key, count)| (key.to_owned(), count))
            .collect();
        let now = Instant::now();
        let seconds = inner
            .sampled
            .replace(now)
            .map(|then| (now - then).as_secs_f64());
        let samples: Vec<_> = workers
            .iter()
            .map(|worker| {
                (
                    worker.counters.received.get(),
                    worker.counters.received_bytes.get(),
                )
            })
            .collect();
        if let Some(seconds) = seconds {
            inner.rates = samples
                .iter()
                .zip(&inner.samples)
                .map(|((frames, bytes), (frames_then, bytes_then))| {
                    let frames = frames.wrapping_sub(*frames_then) as f64 / seconds;
                    (
                        frames,
                        8.0 * bytes.wrapping_sub(*bytes_then) as f64 / seconds,
                    )
                })
                .collect();
        }
        inner.samples = samples;
    }

    /// Every bound of every worker. What the engine counts as drops alone is taken from there.
    fn limits(&self) -> Vec<LimitStatus> {
        let mut limits = Vec::new();
        for limit in Limit::ALL {
            for (worker, _, counters) in &self.counters {
                let gauge = counters.limit(*limit);
                let drops: &[Drop] = match limit {
                    Limit::Sessions => &[Drop::SessionTableFull, Drop::SessionShareFull],
                    Limit::HeldFrames => &[Drop::FragmentHoldFull],
                    _ => &[],
                };
                let dropped: u64 = drops.iter().map(|drop| counters.drops(*drop)).sum();
                limits.push(LimitStatus {
                    name: limit.key().into(),
                    worker: *worker,
                    now: gauge.now,
                    max: gauge.max,
                    refused: gauge.refused + dropped,
                    evicted: gauge.evicted,
                });
            }
        }
        limits
    }

    /// What is to be counted; None before documents were accepted.
    #[must_use]
    pub fn metrics(&self) -> Option<Arc<MetricsSettings>> {
        self.lock().metrics.clone()
    }

    /// What happened since the start.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.lock().tally
    }

    /// What each worker counts, by its number.
    pub fn workers(&self) -> impl Iterator<Item = (u16, &WorkerCounters)> {
        self.counters
            .iter()
            .map(|(index, _, counters)| (*index, &**counters))
    }

    /// The status of this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        let inner = self.lock();
        let mut status = inner.status.clone();
        status.documents.revision = inner.revision;
        status.version = env!("CARGO_PKG_VERSION").into();
        status.pid = std::process::id();
        status.uptime_seconds = self.started.elapsed().as_secs();
        status.errors = inner
            .refused
            .iter()
            .chain(inner.faults.all())
            .cloned()
            .collect();
        status
            .warnings
            .extend(inner.crowds.warnings(Instant::now()));
        for (position, (index, core, counters)) in self.counters.iter().enumerate() {
            let (frames, bits) = inner.rates.get(position).copied().unwrap_or_default();
            status.workers.push(WorkerStatus {
                index: *index,
                core: *core,
                generation: counters.generation.get(),
                received: counters.received.get(),
                received_bytes: counters.received_bytes.get(),
                transmitted: counters.transmitted.get(),
                transmitted_bytes: counters.transmitted_bytes.get(),
                handed_over: counters.handed_over.get(),
                answered: counters.answered.get(),
                segments: counters.segments.get(),
                checksums_offloaded: counters.checksums_offloaded.get(),
                checksums_software: counters.checksums_software.get(),
                checksums_untouched: counters.checksums_untouched.get(),
                flows: counters.flows.get(),
                flows_half_open: counters.flows_half_open.get(),
                half_open_evicted: counters.half_open_evicted.get(),
                resets: counters.resets.get(),
                resets_lost: counters.resets_lost.get(),
                received_per_second: frames,
                received_bits_per_second: bits,
                sleeps: counters.sleeps.get(),
                turns: counters.turns.get(),
                kicks: counters.kicks.get(),
                busy_percent: inner.busy_percent.get(position).copied().unwrap_or(0.0),
            });
        }
        let is_shown = inner.shown.0 == status.generation;
        drop(inner);
        status.rules = self.rules();
        for reason in Drop::ALL {
            let count: u64 = self
                .counters
                .iter()
                .map(|(_, _, counters)| counters.drops(*reason))
                .sum();
            if count > 0 {
                status.drops.insert(reason.key().into(), count);
            }
        }
        status.limits = self.limits();
        let lost = self.counters.iter();
        let lost = lost.map(|(_, _, counters)| counters.records_lost.get());
        status.records = RecordsStatus::of(&self.history, lost.collect(), Timestamp::now());
        let mut lost = |key: &str, of: fn(&WorkerCounters) -> &Counter| {
            let count = self
                .counters
                .iter()
                .map(|(_, _, counters)| of(counters).get())
                .sum();
            status.kernel.insert(key.to_owned(), count);
        };
        lost("fill_ring_empty", |counters| &counters.fill_ring_empty);
        lost("receive_ring_full", |counters| &counters.receive_ring_full);
        lost("receive_dropped", |counters| &counters.receive_dropped);
        lost("transmit_invalid", |counters| &counters.transmit_invalid);
        let census = self.umem.census();
        status.frames = FramesStatus {
            total: u64::from(census.total),
            free: u64::from(census.free),
            in_rings: u64::from(census.rings),
            chunk_bytes: CHUNK_BYTES as u64,
        };
        let is_applied = status
            .workers
            .iter()
            .all(|w| w.generation == status.generation);
        let is_attached = status
            .endpoints
            .iter()
            .all(|endpoint| endpoint.state == "ready");
        status.is_ready = status.generation > 0 && is_applied && is_shown && is_attached;
        status
    }
}
