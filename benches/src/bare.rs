//! A forwarder on the daemon's own rings that only rewrites addresses: what policy costs, shows
//! against this.
//!
//! It finishes checksums as the engine does, because AF_XDP loses the note that a pod left them to
//! its network card, and it takes as many frames at a time as a worker does.

use crate::machine::{WORKER_CORE, pin};
use netns_tests::{BPFFS_DIRECTORY, Lab, Pod};
use portcullis::rings::{Frame, FreeFrames, Socket, Umem, UmemSettings, Waiter};
use portcullis::worker::{ATTEND_FROM, BATCH, Manners, PIECES, now};
use portcullis::xdp::{InterfaceKind, Redirect, XdpMode};
use portcullis_engine::finish_checksum;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// As the daemon's workers do where they share their core.
const IDLE_TURNS_MAX: u32 = 3;
/// MAC address of the host's end of every pod's veth pair.
const HOST_MAC: [u8; 6] = [0xee; 6];

/// Forwards until it is dropped.
#[derive(Debug)]
pub struct Forwarder {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Starts forwarding between two pods.
    ///
    /// # Errors
    /// The kernel has no AF_XDP, or refuses the program.
    pub fn start(lab: &Lab, pods: [&Pod; 2], xdp_mode: &str) -> Result<Self, String> {
        for pod in pods {
            // Nobody answers ARP here.
            pod.place
                .must("ip neigh replace 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0");
            lab.node.must(&format!("ip link set {} up", pod.interface));
        }
        let interfaces = pods.map(|pod| pod.interface.clone());
        let macs = pods.map(|pod| pod.mac);
        let mode = XdpMode::of_key(xdp_mode).ok_or_else(|| format!("no XDP mode {xdp_mode}"))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let (tell, told) = channel();
        let until = is_over.clone();
        let thread = lab.node.thread(move || {
            pin(WORKER_CORE);
            // As the daemon's workers do.
            portcullis::privileges::come_first();
            match Bare::open(&interfaces, mode) {
                Ok(bare) => bare.run(macs, &until, &tell),
                Err(why) => drop(tell.send(Err(why))),
            }
        });
        told.recv()
            .unwrap_or_else(|_| Err("the bare forwarder ended".into()))?;
        Ok(Self {
            is_over,
            thread: Some(thread),
        })
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed.
            let _ = thread.join();
        }
    }
}

struct Bare {
    sockets: [Socket; 2],
    umem: Arc<Umem>,
    free: FreeFrames,
    waiter: Waiter,
    /// Attached for as long as it is held.
    _redirect: Redirect,
}

impl Bare {
    fn open(interfaces: &[String; 2], mode: XdpMode) -> Result<Self, String> {
        let mut redirect = Redirect::load(Path::new(BPFFS_DIRECTORY)).map_err(|e| e.to_string())?;
        let umem = Umem::new(&UmemSettings::default()).map_err(|e| e.to_string())?;
        let mut free = FreeFrames::new(&umem);
        let waiter = Waiter::new().map_err(|e| e.to_string())?;
        let mut open = |slot: u32, name: &String| -> Result<Socket, String> {
            let path = format!("/sys/class/net/{name}/ifindex");
            let index = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
            let index = index.trim().parse().map_err(|e| format!("{path}: {e}"))?;
            redirect
                .attach(name, index, slot, InterfaceKind::Whole, mode)
                .map_err(|e| e.to_string())?;
            let mut socket = Socket::open(&umem, name, slot).map_err(|e| e.to_string())?;
            socket.refill(&mut free);
            waiter.add(&socket, slot).map_err(|e| e.to_string())?;
            redirect
                .set_socket(slot, &socket)
                .map_err(|e| e.to_string())?;
            Ok(socket)
        };
        let sockets = [open(0, &interfaces[0])?, open(1, &interfaces[1])?];
        Ok(Self {
            sockets,
            umem,
            free,
            waiter,
            _redirect: redirect,
        })
    }

    fn run(mut self, macs: [[u8; 6]; 2], is_over: &AtomicBool, tell: &Sender<Result<(), String>>) {
        let mut batch: Vec<Frame> = Vec::with_capacity(BATCH);
        let (mut idle_turns, mut relaxed) = (0, Instant::now());
        let mut manners = Manners::of_this_thread(now());
        // The caller waits, unless it has panicked.
        let _ = tell.send(Ok(()));
        while !is_over.load(Relaxed) {
            let is_idle = idle_turns > IDLE_TURNS_MAX;
            let has_pending = self.sockets.iter().any(Socket::has_pending);
            let patience = Duration::from_millis(match (is_idle, has_pending) {
                (false, _) => 0,
                (true, true) => 1,
                (true, false) => 100,
            });
            if is_idle {
                let sockets = &self.sockets;
                // What it could not do leaves the sockets looked into.
                let _ = self.waiter.rest(|slot| sockets.get(slot as usize));
            }
            // An interrupted wait is a short one.
            let _ = self.waiter.wait(Some(patience));
            let (mut received, mut bytes_in) = (0, 0);
            for from in self.waiter.ready() {
                let (from, to) = (from as usize, 1 - from as usize);
                self.sockets[from].receive_pieces(&mut self.free, &mut batch, BATCH, PIECES);
                received += batch.len();
                for mut frame in batch.drain(..) {
                    bytes_in += frame.length() as u64;
                    frame.with_bytes(&self.umem, |bytes| {
                        bytes.head[..6].copy_from_slice(&macs[to]);
                        bytes.head[6..12].copy_from_slice(&HOST_MAC);
                        finish_checksum(bytes);
                    });
                    if let Err(frame) = self.sockets[to].transmit(frame) {
                        self.free.release(frame);
                    }
                }
            }
            idle_turns = if received > 0 { 0 } else { idle_turns + 1 };
            if received > 0 {
                manners.note(received as u64, bytes_in, now());
            }
            if received > 0 || has_pending {
                self.upkeep();
            }
            if relaxed.elapsed() > Duration::from_secs(1) {
                relaxed = Instant::now();
                self.sockets.iter_mut().for_each(Socket::relax);
            }
        }
    }

    /// One wake-up for each interface, memory back.
    fn upkeep(&mut self) {
        for socket in &mut self.sockets {
            // Of an interface that is gone the measurement tells.
            let _ = socket.kick(&mut self.free);
            socket.refill(&mut self.free);
            if socket.take_passed() >= ATTEND_FROM {
                self.waiter.attend(socket, socket.slot());
            }
        }
    }
}
