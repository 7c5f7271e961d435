//! `portcullis run`: makes everything in the order that keeps pods closed, and runs it.

use crate::cli::RunArgs;
use crate::config::{Checksums, Config};
use crate::control::directory::Directory;
use crate::control::publish::KernelView;
use crate::control::source::Source;
use crate::control::{Control, Notice, host_pair};
use crate::listing::Listing;
use crate::netlink::{Changes, Netlink};
use crate::observe::History;
use crate::rings::{FreeFrames, Umem, UmemSettings};
use crate::server::{self, Views};
use crate::status_view::StatusView;
use crate::worker::{self, WorkerHandle, WorkerParts};
use crate::xdp::Redirect;
use crate::{hubble, observer, privileges};
use jiff::Timestamp;
use portcullis_engine::{Engine, EngineSettings};
use portcullis_hubble::AgentLog;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// MTU of the way to the outside where there is no uplink to ask.
const PATH_MTU: u32 = 1500;

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps it from starting. Once it runs, faults show in `status` and old state stays.
pub fn run(args: &RunArgs) -> Result<(), String> {
    privileges::check()?;
    // Before the first thread: each has its own.
    privileges::drop_unneeded()?;
    let mut source = Directory::open(&args.state).map_err(|e| e.to_string())?;
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
    let (notify, notices) = channel();
    let history = Arc::new(History::new(config.observe_history as usize));
    let log = Arc::new(AgentLog::new(Timestamp::now()));
    let (made, handles) = make_workers(&config, &umem)?;
    let view = Arc::new(StatusView::new(
        &handles,
        Arc::clone(&history),
        Arc::clone(&umem),
        Arc::clone(&log),
    ));
    let (shown, read) = (Arc::clone(&view), Arc::clone(&view));
    let (counted, named) = (Arc::clone(&view), Arc::clone(&view));
    let views = Views {
        history: Arc::clone(&history),
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
    };
    server::listen(&args.socket, Arc::new(views))?;
    let servers = hubble::start(&config, &args.socket, &view, &history, &log)?;

    start_workers(made, &handles)?;
    start_observer(&handles, &view, &history)?;
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
    Control::new(config, redirect, umem, handles, netlink, view).run(&notices);
    drop(servers);
    // Attachments stay pinned and sockets go: pods are cut off until the next daemon, not opened.
    let _ = std::fs::remove_file(&args.socket);
    Ok(())
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
        WorkerParts {
            engine: Engine::new(settings, (seed.hash_one(1), seed.hash_one(2))),
            free: FreeFrames::new(umem),
            core: config.workers.cores.get(usize::from(number)).copied(),
        }
    });
    Ok(worker::connect(parts.collect())?.into_iter().unzip())
}

fn start_workers(workers: Vec<worker::Worker>, handles: &[WorkerHandle]) -> Result<(), String> {
    for (worker, handle) in workers.into_iter().zip(handles) {
        let core = handle.core;
        spawn(format!("worker-{}", handle.index), move || {
            if let Some(id) = core
                && !core_affinity::set_for_current(core_affinity::CoreId { id })
            {
                eprintln!("fault: a worker could not be pinned to core {id}");
            }
            worker.run();
        })?;
    }
    Ok(())
}

fn start_observer(
    handles: &[WorkerHandle],
    view: &Arc<StatusView>,
    history: &Arc<History>,
) -> Result<(), String> {
    let queues: Vec<_> = handles
        .iter()
        .map(|handle| Arc::clone(&handle.records))
        .collect();
    let (view, history) = (Arc::clone(view), Arc::clone(history));
    spawn("observer".into(), move || {
        observer::run(&queues, &view, &history)
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

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    thread::Builder::new()
        .name(name.clone())
        .spawn(work)
        .map(drop)
        .map_err(|e| format!("cannot start thread {name}: {e}"))
}
