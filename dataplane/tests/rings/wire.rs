//! A worker that judges nothing: joins the interfaces of two pods as a wire would.

use crate::lab::Lab;
use portcullis::rings::{
    Census, Frame, FreeFrames, InterfaceLost, Socket, SocketCounters, Umem, UmemSettings, Waiter,
    Waker,
};
use portcullis::xdp::{InterfaceKind, Redirect, XdpMode};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where the tests keep attachments: a BPF file system that only the lab's host sees.
pub const PINS: &str = "/sys/fs/bpf/portcullis";

/// Memory that suffices for two busy sockets.
pub fn settings() -> UmemSettings {
    UmemSettings {
        frames: 8192,
        transmit_reserve: 1024,
        ..UmemSettings::default()
    }
}

/// What the wire is told to do between batches.
pub type Order = Box<dyn FnOnce(&mut Wire) + Send>;

/// The state of the worker: a socket for each of two pods.
pub struct Wire {
    pub umem: Arc<Umem>,
    pub free: FreeFrames,
    pub redirect: Redirect,
    pub sockets: [Option<Socket>; 2],
    pub pieces_max: usize,
    pub forwarded: u64,
    pub refused: u64,
    pub lost: [Option<InterfaceLost>; 2],
    pub waiter: Waiter,
    /// Whether the kernel tells of all sockets while it waits, as with a worker before it sleeps.
    pub rests: bool,
    batch: Vec<Frame>,
    running: bool,
}

/// A [`Wire`] at work on a thread of the lab's host.
pub struct Running {
    thread: Option<JoinHandle<()>>,
    orders: mpsc::Sender<Order>,
    waker: Waker,
}

impl Wire {
    fn new(mode: XdpMode, indices: [u32; 2]) -> Self {
        let umem = Umem::new(&settings()).expect("memory");
        let mut wire = Self {
            free: FreeFrames::new(&umem),
            redirect: Redirect::load(Path::new(PINS)).expect("the kernel program"),
            sockets: [None, None],
            pieces_max: 0,
            forwarded: 0,
            refused: 0,
            lost: [None, None],
            waiter: Waiter::new().expect("a waiter"),
            rests: true,
            batch: Vec::with_capacity(128),
            running: true,
            umem,
        };
        for (side, index) in indices.into_iter().enumerate() {
            wire.open(side, index, mode);
        }
        wire
    }

    /// Attaches the program to a pod's interface and opens its socket.
    pub fn open(&mut self, side: usize, index: u32, mode: XdpMode) {
        let (name, slot) = (format!("v{}", side + 1), side as u32);
        self.redirect
            .attach(&name, index, slot, InterfaceKind::Whole, mode)
            .expect("the program attaches");
        let mut socket = Socket::open(&self.umem, &name, slot).expect("a socket");
        socket.refill(&mut self.free);
        self.waiter
            .add(&socket, slot)
            .expect("one more to wait for");
        self.redirect
            .set_socket(slot, &socket)
            .expect("a place in the map");
        self.sockets[side] = Some(socket);
        self.lost[side] = None;
    }

    /// Closes a pod's socket, in the order that an endpoint is removed.
    pub fn close(&mut self, side: usize) {
        let socket = self.sockets[side].take().expect("an open socket");
        self.redirect.unset_socket(side as u32).expect("a slot");
        self.waiter
            .remove(&socket, side as u32)
            .expect("it was waited for");
    }

    /// Looks into a pod's socket itself from now on.
    pub fn attend(&mut self, side: usize) {
        let socket = self.sockets[side].as_ref().expect("an open socket");
        self.waiter.attend(socket, side as u32);
    }

    fn turn(&mut self) {
        if self.rests {
            let sockets = &self.sockets;
            let socket_of = |token| sockets[token as usize].as_ref();
            self.waiter.rest(socket_of).expect("it was told before");
        }
        self.waiter
            .wait(Some(Duration::from_millis(20)))
            .expect("only mistakes of ours fail");
        let ready: Vec<u32> = self.waiter.ready().collect();
        for side in ready.into_iter().map(|token| token as usize) {
            let Some(socket) = &mut self.sockets[side] else {
                continue;
            };
            socket.receive(&mut self.free, &mut self.batch, 64);
            for frame in self.batch.drain(..) {
                self.pieces_max = self.pieces_max.max(frame.pieces());
                let sent = match &mut self.sockets[1 - side] {
                    Some(out) => out.transmit(frame),
                    None => Err(frame),
                };
                match sent {
                    Ok(()) => self.forwarded += 1,
                    Err(frame) => {
                        self.refused += 1;
                        self.free.release(frame);
                    }
                }
            }
        }
        for (socket, lost) in self.sockets.iter_mut().zip(&mut self.lost) {
            let Some(socket) = socket else { continue };
            if let Err(why) = socket.kick(&mut self.free) {
                *lost = Some(why);
            }
            socket.reap(&mut self.free);
            socket.refill(&mut self.free);
        }
        let busy = |socket: &mut Socket| socket.take_passed() >= 32;
        let busy = self
            .sockets
            .each_mut()
            .map(|s| s.as_mut().is_some_and(busy));
        for side in (0..2).filter(|&side| busy[side]) {
            self.attend(side);
        }
    }

    /// Chunks by place, from the table; and from the lists and rings themselves.
    pub fn count(&self) -> (Census, Census) {
        let rings = self.sockets.iter().flatten().map(Socket::counters);
        let rings: u32 = rings
            .map(|rings| rings.receive_chunks + rings.transmit_chunks)
            .sum();
        let free = self.free.count() + self.umem.pooled() + self.umem.remaining();
        let total = settings().frames;
        let lists = Census {
            total,
            free,
            held: total - free - rings,
            rings,
            lost: 0,
        };
        (self.umem.census(), lists)
    }
}

impl Running {
    /// Joins the first two pods of a lab.
    pub fn start(lab: &Lab, mode: XdpMode) -> Self {
        let (orders, work) = mpsc::channel::<Order>();
        let (tell, told) = mpsc::channel();
        let indices = [lab.index(1), lab.index(2)];
        let thread = lab.host.spawn(move || {
            let mut wire = Wire::new(mode, indices);
            tell.send(wire.waiter.waker()).expect("the starter waits");
            while wire.running {
                wire.turn();
                while let Ok(order) = work.try_recv() {
                    order(&mut wire);
                }
            }
        });
        let waker = told.recv().expect("the wire starts");
        Self {
            thread: Some(thread),
            orders,
            waker,
        }
    }

    /// Has the wire do something between two batches, and gives the result.
    pub fn ask<T: Send + 'static>(&self, job: impl FnOnce(&mut Wire) -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let order: Order = Box::new(move |wire| tell.send(job(wire)).expect("the caller waits"));
        self.orders.send(order).expect("the wire runs");
        self.waker.wake();
        told.recv().expect("the wire answers")
    }

    /// The counters of a pod's socket.
    pub fn counters(&self, side: usize) -> SocketCounters {
        self.ask(move |wire| {
            wire.sockets[side]
                .as_ref()
                .expect("an open socket")
                .counters()
        })
    }

    /// Asserts that every chunk is where both ways of counting say, and none is held.
    pub fn assert_all_accounted_for(&self) {
        let (table, lists) = self.ask(|wire| wire.count());
        assert_eq!(table, lists);
        assert_eq!((table.held, table.lost), (0, 0), "{table:?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails when the wire's thread has panicked, which the join tells.
        let _ = self.orders.send(Box::new(|wire| wire.running = false));
        self.waker.wake();
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}
