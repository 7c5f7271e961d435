//! `portcullis run`: makes everything in the order that keeps pods closed, and runs it.

use crate::cli::RunArgs;
use crate::config::{Checksums, Config};
use crate::control::directory::Directory;
use crate::control::publish::KernelView;
use crate::control::source::Source;
use crate::control::{Control, MoveRequest, Notice, host_pair};
use crate::listing::Listing;
use crate::netlink::{Changes, Netlink};
use crate::observe::History;
use crate::rings::{FreeFrames, Umem, UmemSettings, want_large_pages};
use crate::server::{self, Views};
use crate::status_view::{Placing, StatusView};
use crate::worker::{self, WorkerHandle, WorkerParts};
use crate::xdp::Redirect;
use crate::{cores, hubble, observer, privileges, segments, telemetry, trial};
use jiff::Timestamp;
use portcullis_engine::{Engine, EngineSettings};
use portcullis_hubble::AgentLog;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// MTU of the way to the outside where there is no uplink to ask.
const PATH_MTU: u32 = 1500;
/// A move of a pod takes milliseconds, once control has time for it.
const MOVE_PATIENCE: Duration = Duration::from_secs(20);

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps it from starting. Once it runs, faults show in `status` and old state stays.
pub fn run(args: &RunArgs) -> Result<(), String> {
    privileges::check()?;
    // Before the first thread: each has its own.
    privileges::come_first();
    privileges::bring_session_first();
    privileges::drop_unneeded()?;
    let mut source = open_directory(&args.state)?;
    let first = source.next().map_err(|e| e.to_string())?;
    let config = match &first.config {
        Some(file) => Config::parse(&file.name, &file.text).map_err(|errors| {
            errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        })?,
        None => Config::default(),
    };

    let mut netlink = Netlink::open().map_err(|e| e.to_string())?;
    let kernel = KernelView::read(&mut netlink).map_err(|e| e.to_string())?;
    make_host_pair(&config, &kernel)?;
    trial::remove();
    let mut redirect = Redirect::load(&args.bpffs).map_err(|e| e.to_string())?;
    // Before any uplink is attached: what is ours must never be left to the host.
    for block in &config.pod_cidrs {
        redirect
            .add_prefix(block.address, block.prefix_length)
            .map_err(|e| e.to_string())?;
    }
    let umem = Umem::new(&UmemSettings {
        frames: config.umem_frames,
        fill_idle: config.idle_frames,
        transmit_reserve: config.umem_frames / 8,
        offload_checksums: config.checksums == Checksums::Offload,
        ..UmemSettings::default()
    })
    .map_err(|e| e.to_string())?;
    let decision = trial::decide(config.xdp_mode, &mut redirect, &umem);
    let xdp_mode = decision.mode;
    let placed = place_workers(&config);
    let (notify, notices) = channel();
    let history = Arc::new(make_history(&config)?);
    let log = Arc::new(AgentLog::new(Timestamp::now()));
    let (made, handles) = make_workers(&config, &placed.cores, &umem)?;
    let view = Arc::new(StatusView::new(
        &handles,
        Arc::clone(&history),
        Arc::clone(&umem),
        Placing {
            decision,
            cores_reason: placed.reason.clone(),
        },
        Arc::clone(&log),
    ));
    let (shown, read) = (Arc::clone(&view), Arc::clone(&view));
    let (counted, named) = (Arc::clone(&view), Arc::clone(&view));
    // Before all other threads: only these keep the right to come first.
    start_workers(made, &handles)?;
    let (servers, sources) = hubble::start(&config, &args.socket, &view, &history, &log)?;
    let views = Views {
        history: Arc::clone(&history),
        home: sources.node.home(),
        status: Box::new(move || shown.status()),
        reading: Box::new(move || read.reading()),
        rules: Box::new(move || counted.rules()),
        listing: Listing {
            desks: handles.iter().map(WorkerHandle::desk).collect(),
            names: Box::new(move |generation| match generation {
                Some(generation) => named.names(generation),
                None => named.names_now(),
            }),
        },
        move_pod: mover(notify.clone()),
    };
    server::listen(&args.socket, Arc::new(views))?;

    start_observer(&handles, &view, &history)?;
    let keeper = start_keeper(&view, &history)?;
    let exports = telemetry::start(&config, &sources, &servers, &view)?;
    watch_signals(notify.clone())?;
    watch_kernel(notify.clone())?;
    notify
        .send(Notice::Documents(Ok(first)))
        .map_err(|e| e.to_string())?;
    watch_source(source, notify)?;
    eprintln!(
        "portcullis {} polices the pods of {}; ask `portcullis status`",
        env!("CARGO_PKG_VERSION"),
        args.state.display()
    );
    Control::new((config, xdp_mode), redirect, umem, handles, netlink, view).run(&notices);
    drop(servers);
    // Attachments stay pinned and sockets go: pods are cut off until the next daemon, not opened.
    let _ = std::fs::remove_file(&args.socket);
    history.close();
    exports.join();
    // One that has panicked has told so.
    let _ = keeper.map(std::thread::JoinHandle::join);
    Ok(())
}

/// Chooses cores for the workers where the settings name none, and says why these.
fn place_workers(config: &Config) -> cores::Choice {
    let workers = &config.workers;
    if workers.cores.is_empty() {
        return cores::choose(usize::from(workers.count), config.uplink.as_deref());
    }
    cores::Choice {
        cores: workers.cores.clone(),
        reason: "set".into(),
    }
}

/// Has control move pods.
fn mover(notify: Sender<Notice>) -> server::MovePod {
    Box::new(move |pod, worker| {
        let (answer, answered) = channel();
        let request = MoveRequest {
            pod,
            worker,
            answer,
        };
        notify
            .send(Notice::Move(request))
            .map_err(|_| "the daemon is ending")?;
        let answer = answered.recv_timeout(MOVE_PATIENCE);
        answer.map_err(|_| "control did not answer in time")?
    })
}

fn make_host_pair(config: &Config, kernel: &KernelView) -> Result<(), String> {
    let uplink = match &config.uplink {
        Some(name) => Some(kernel.link(name).ok_or_else(|| {
            format!("config.yaml, uplink: expected an interface, found \"{name}\"")
        })?),
        None => None,
    };
    let sources: Vec<_> = kernel
        .addresses
        .iter()
        .filter(|address| uplink.is_some_and(|uplink| uplink.index == address.link))
        .filter(|address| kernel.node_addresses().contains(&address.address))
        .map(|address| address.address)
        .collect();
    let path_mtu = uplink.map_or(PATH_MTU, |uplink| uplink.mtu);
    host_pair::make(&config.pod_cidrs, &sources, path_mtu)
}

fn make_workers(
    config: &Config,
    cores: &[usize],
    umem: &Arc<Umem>,
) -> Result<(Vec<worker::Worker>, Vec<WorkerHandle>), String> {
    let parts = (0..config.workers.count).map(|number| {
        let settings = EngineSettings {
            flows_max: config.flows_max,
            half_open_max: config
                .flows_max
                .min(EngineSettings::default().half_open_max),
            timeouts: config.timeouts.of_flows(),
            sessions_max: config.nat_sessions_max,
            session_timeouts: config.timeouts.of_sessions(),
            started: worker::now(),
            offload_checksums: umem.finishes_checksums(),
            ..EngineSettings::default()
        };
        // The standard library seeds this from the system's randomness.
        let seed = RandomState::new();
        let engine = Engine::new(settings, (seed.hash_one(1), seed.hash_one(2)));
        for (start, length) in engine.flow_memory() {
            want_large_pages(start, length);
        }
        WorkerParts {
            engine,
            free: FreeFrames::new(umem),
            core: cores.get(usize::from(number)).copied(),
        }
    });
    Ok(worker::connect(parts.collect())?.into_iter().unzip())
}

fn start_workers(workers: Vec<worker::Worker>, handles: &[WorkerHandle]) -> Result<(), String> {
    for (worker, handle) in workers.into_iter().zip(handles) {
        let core = handle.core;
        start(format!("worker-{}", handle.index), move || {
            if let Some(id) = core
                && !core_affinity::set_for_current(core_affinity::CoreId { id })
            {
                eprintln!("fault: a worker could not be pinned to core {id}");
            }
            worker.run();
        })?;
    }
    privileges::stand_back();
    Ok(())
}

fn start_observer(
    handles: &[WorkerHandle],
    view: &Arc<StatusView>,
    history: &Arc<History>,
) -> Result<(), String> {
    let sources: Vec<_> = handles.iter().map(observer::Source::of).collect();
    let (view, history) = (Arc::clone(view), Arc::clone(history));
    spawn("observer".into(), move || {
        observer::run(&sources, |generation| view.names(generation), &history)
    })
}

/// The thread that keeps history on disk, where that is asked for.
fn start_keeper(
    view: &Arc<StatusView>,
    history: &Arc<History>,
) -> Result<Option<JoinHandle<()>>, String> {
    let Some(segments) = history.segments().map(Arc::clone) else {
        return Ok(None);
    };
    let (view, history) = (Arc::clone(view), Arc::clone(history));
    let keep = move || segments::run(&history, segments, |fault| view.fault(fault));
    let name = "segments".to_owned();
    let started = thread::Builder::new().name(name).spawn(keep);
    started
        .map(Some)
        .map_err(|e| format!("cannot start thread segments: {e}"))
}

fn make_history(config: &Config) -> Result<History, String> {
    let capacity = config.observe_history as usize;
    Ok(match &config.observe_segments {
        Some(config) => History::with_segments(capacity, segments::open(config)?),
        None => History::new(capacity),
    })
}

fn watch_signals(notify: Sender<Notice>) -> Result<(), String> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])
        .map_err(|e| format!("cannot watch signals: {e}"))?;
    spawn("signals".into(), move || {
        if signals.forever().next().is_some() {
            // Without a listener the process is ending anyway.
            let _ = notify.send(Notice::Shutdown);
        }
    })
}

fn watch_kernel(notify: Sender<Notice>) -> Result<(), String> {
    let mut changes = Changes::subscribe().map_err(|e| e.to_string())?;
    spawn("kernel".into(), move || {
        while changes.wait().is_ok() {
            if notify.send(Notice::KernelChanged).is_err() {
                return;
            }
        }
    })
}

fn watch_source(mut source: Directory, notify: Sender<Notice>) -> Result<(), String> {
    spawn("source".into(), move || {
        loop {
            if notify.send(Notice::Documents(source.next())).is_err() {
                return;
            }
        }
    })
}

/// Opens the directory on a thread that is no worker: it starts one of its own, to which this one's
/// rights would go.
fn open_directory(path: &Path) -> Result<Directory, String> {
    let open = || {
        privileges::stand_back();
        Directory::open(path).map_err(|e| e.to_string())
    };
    let opened = thread::scope(|scope| scope.spawn(open).join());
    opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Starts a thread that is no worker.
fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    start(name, move || {
        privileges::stand_back();
        work();
    })
}

fn start(name: String, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    thread::Builder::new()
        .name(name.clone())
        .spawn(work)
        .map(drop)
        .map_err(|e| format!("cannot start thread {name}: {e}"))
}
