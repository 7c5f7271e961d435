//! The loop of a worker: commands, frames, upkeep, sleep.

use super::ATTEND_FROM;
use super::company::Company;
use super::desk::Filled;
use super::foresight::Foresight;
use super::handle::{Bell, Command, Observed, Passed, Reply};
use super::manners::Manners;
use super::patience::Patience;
use crate::counters::WorkerCounters;
use crate::rings::{Frame, FreeFrames, Socket, Umem, Waiter};
use crossbeam::queue::ArrayQueue;
use portcullis_engine::{EndpointIndex, EndpointKind, Engine, HOLDS_MAX, Limit, Now, Record};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Frames that the kernel could not take are offered again this soon.
const RETRY: Duration = Duration::from_millis(1);
/// A sleeping worker looks at timeouts this often.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// One worker.
pub struct Worker {
    pub(super) index: usize,
    pub(super) engine: Engine,
    pub(super) umem: Arc<Umem>,
    pub(super) free: FreeFrames,
    pub(super) sockets: Vec<Option<Box<Socket>>>,
    /// Interfaces with something to do after the batch: kick, reap, refill.
    pub(super) touched: Vec<EndpointIndex>,
    pub(super) is_touched: Vec<bool>,
    /// Interfaces that had something to do since they were last tended.
    pub(super) is_active: Vec<bool>,
    pub(super) waiter: Waiter,
    pub(super) ready: Vec<u32>,
    /// Where the service of ready interfaces begins, next time.
    pub(super) first_served: usize,
    /// What each of them took in this turn.
    pub(super) served: Vec<Served>,
    pub(super) batch: Vec<Frame>,
    /// Bytes of the frames of this turn.
    pub(super) taken_bytes: u64,
    pub(super) foresight: Foresight,
    /// Fragments ahead of the first of their datagram, at the slots that the engine names.
    pub(super) held: [Option<Frame>; HOLDS_MAX],
    pub(super) records: Vec<Record>,
    pub(super) inbox: Vec<Arc<ArrayQueue<Passed>>>,
    pub(super) outbox: Vec<Arc<ArrayQueue<Passed>>>,
    pub(super) bells: Vec<Bell>,
    pub(super) is_asleep: Arc<AtomicBool>,
    pub(super) commands: Arc<ArrayQueue<Command>>,
    pub(super) replies: Arc<ArrayQueue<Reply>>,
    pub(super) filled: Arc<ArrayQueue<Filled>>,
    pub(super) record_queue: Arc<ArrayQueue<Observed>>,
    pub(super) counters: Arc<WorkerCounters>,
    pub(super) tended: Now,
    /// Records that the engine had lost when it was last asked.
    pub(super) engine_lost: u64,
}

/// What one interface's frames took of a turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Served {
    pub index: EndpointIndex,
    pub frames: u32,
    pub busy_ns: u64,
}

/// Nanoseconds of the monotonic clock.
#[must_use]
pub fn now() -> Now {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Now(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

impl Worker {
    /// Works until the process ends.
    pub fn run(mut self) -> ! {
        let mut patience = Patience::new();
        let mut company = Company::of_this_thread(now());
        let mut manners = Manners::of_this_thread(now());
        // Looking long is for who is known to be alone.
        let mut is_alone = false;
        loop {
            let moment = now();
            let commands = self.take_commands(moment);
            self.taken_bytes = 0;
            let passed = self.take_passed(moment);
            let received = self.take_ready(moment);
            self.tend(moment);
            self.send_resets(moment);
            self.finish(moment);
            self.counters.turns.add(1);
            let has_worked = commands + passed + received > 0;
            let ended = now();
            if has_worked {
                self.counters.took(passed + received);
                is_alone = company.is_alone(ended);
                manners.note((passed + received) as u64, self.taken_bytes, ended);
                self.share_out(received, ended.0.saturating_sub(moment.0));
            }
            let is_over = patience.is_over(has_worked, is_alone, ended);
            self.wait(is_over);
        }
    }

    /// Notes whose frames the turn was spent on. What the turn took after they were judged, kicks
    /// above all, is shared out by their number.
    fn share_out(&mut self, received: usize, turn_ns: u64) {
        self.counters.busy_ns.add(turn_ns);
        let judged: u64 = self.served.iter().map(|served| served.busy_ns).sum();
        let rest = turn_ns.saturating_sub(judged);
        for served in self.served.drain(..) {
            let load = self.counters.load(served.index);
            let part = rest * u64::from(served.frames) / (received as u64).max(1);
            load.frames.add(u64::from(served.frames));
            load.busy_ns.add(served.busy_ns + part);
        }
    }

    /// Finds out which interfaces have frames; sleeps when there has been nothing for long enough.
    fn wait(&mut self, may_sleep: bool) {
        let mut patience = Duration::ZERO;
        if may_sleep && self.rest() {
            self.is_asleep.store(true, Ordering::SeqCst);
            // Whoever queued something before it could see the flag rang no bell.
            let has_mail = !self.commands.is_empty() || self.inbox.iter().any(|q| !q.is_empty());
            if !has_mail {
                patience = if self.touched.is_empty() {
                    SLEEP_MAX
                } else {
                    RETRY
                };
                self.counters.sleeps.add(1);
            }
        }
        // An interrupted wait is a short one.
        let _ = self.waiter.wait(Some(patience));
        self.is_asleep.store(false, Ordering::SeqCst);
    }

    /// Has the kernel tell of all sockets, and says whether it will.
    fn rest(&mut self) -> bool {
        let sockets = &self.sockets;
        let socket_of = |token| sockets.get(token as usize)?.as_deref();
        self.waiter.rest(socket_of).is_ok()
    }

    fn take_commands(&mut self, moment: Now) -> usize {
        let mut taken = 0;
        while let Some(command) = self.commands.pop() {
            taken += 1;
            match command {
                Command::Adopt(snapshot, hits) => {
                    let generation = snapshot.generation;
                    let snapshot = self.engine.adopt(snapshot);
                    let hits = self.engine.count_in(hits);
                    // What waited for a next hop goes before what has come since.
                    self.resume_held(moment);
                    self.reply(Reply::Replaced(snapshot, hits));
                    self.counters.generation.set(generation.0);
                }
                Command::Add {
                    index,
                    socket,
                    is_moved,
                } => {
                    if is_moved {
                        self.engine.learn_midstream(moment);
                    }
                    self.add(index, socket);
                }
                Command::Remove { index } => {
                    self.engine.release_held(index);
                    self.resume_held(moment);
                    let socket = self.sockets[usize::from(index.0)].take();
                    if let Some(socket) = &socket {
                        let _ = self.waiter.remove(socket, u32::from(index.0));
                    }
                    self.reply(Reply::Removed { index, socket });
                }
                Command::List { cursor, mut page } => {
                    let next = page.fill(&self.engine, cursor);
                    // The slot is free: a desk has one question under way.
                    let _ = self.filled.push(Filled { page, next });
                    // One page a turn: frames are waiting.
                    break;
                }
            }
        }
        taken
    }

    fn add(&mut self, index: EndpointIndex, socket: Box<Socket>) {
        if self.waiter.add(&socket, u32::from(index.0)).is_err() {
            self.reply(Reply::Removed {
                index,
                socket: Some(socket),
            });
            return;
        }
        self.sockets[usize::from(index.0)] = Some(socket);
        self.touch(index);
        // Asked for before the first packet needs it.
        if let Some(endpoint) = self.engine.endpoint(index)
            && endpoint.peer_mac.is_none()
            && let Some(address) = endpoint.addresses.first().copied()
        {
            self.solicit(index, address);
        }
    }

    /// Asks behind an interface who has an address.
    pub(super) fn touch(&mut self, index: EndpointIndex) {
        self.is_active[usize::from(index.0)] = true;
        let is_touched = &mut self.is_touched[usize::from(index.0)];
        if !std::mem::replace(is_touched, true) {
            self.touched.push(index);
        }
    }

    fn untouch(&mut self, position: usize) {
        let index = self.touched.swap_remove(position);
        self.is_touched[usize::from(index.0)] = false;
    }

    /// Timeouts of flows; once a second fill depths of quiet interfaces.
    fn tend(&mut self, moment: Now) {
        self.engine.expire(moment);
        self.resume_held(moment);
        if moment.0.saturating_sub(self.tended.0) < 1_000_000_000 {
            return;
        }
        self.tended = moment;
        for (slot, socket) in self.sockets.iter_mut().enumerate() {
            let Some(socket) = socket else { continue };
            socket.relax();
            socket.reap(&mut self.free);
            // Asking costs a system call, so quiet interfaces are left alone.
            if std::mem::take(&mut self.is_active[slot]) {
                let new = socket.take_losses();
                let load = self.counters.load(EndpointIndex(slot as u16));
                load.lost.add(new.receive_dropped + new.receive_ring_full);
                self.counters.fill_ring_empty.add(new.fill_ring_empty);
                self.counters.receive_ring_full.add(new.receive_ring_full);
                self.counters.receive_dropped.add(new.receive_dropped);
                self.counters.transmit_invalid.add(new.transmit_invalid);
            }
        }
        let gauges = self.engine.flow_table_gauges();
        self.counters.flows.set(self.engine.flows_count() as u64);
        self.counters
            .flows_half_open
            .set(u64::from(gauges.half_open));
        self.counters
            .half_open_evicted
            .set(gauges.half_open_evicted);
        self.counters.resets_lost.set(self.engine.resets_lost());
        for limit in Limit::ALL {
            self.counters.set_limit(*limit, self.engine.gauge(*limit));
        }
        // Once a second: a crowd notices itself with each packet, and replies have no such room.
        while let Some(crowded) = self.engine.take_crowded() {
            self.hint(Reply::Crowded(crowded));
        }
        self.counters.frames_free.set(u64::from(self.free.count()));
    }

    /// After the batch: one wake-up per interface, memory back, records out.
    fn finish(&mut self, moment: Now) {
        let mut position = 0;
        while let Some(&index) = self.touched.get(position) {
            let Some(socket) = self.sockets[usize::from(index.0)].as_mut() else {
                self.untouch(position);
                continue;
            };
            // When the interface is gone, control sees it and takes the socket back; when it is
            // down, the frames wait in the ring, and nobody for them.
            let is_lost = socket.kick(&mut self.free).is_err();
            self.counters.kicks.add(socket.take_kicks());
            socket.refill(&mut self.free);
            if socket.take_passed() >= ATTEND_FROM {
                self.waiter.attend(socket, u32::from(index.0));
            }
            if !is_lost && socket.has_pending() {
                // The kernel could not take all of it now: the next turn tries again.
                position += 1;
            } else {
                self.untouch(position);
            }
        }
        self.engine.tell_flows(moment, &mut self.records);
        for record in self.records.drain(..) {
            if self
                .record_queue
                .push(Observed {
                    time: moment,
                    record,
                })
                .is_err()
            {
                self.counters.records_lost.add(1);
            }
        }
        let lost = self.engine.records_lost();
        self.counters
            .records_lost
            .add(lost - std::mem::replace(&mut self.engine_lost, lost));
        while let Some((index, mac)) = self.engine.take_learned() {
            self.hint(Reply::Learned { index, mac });
        }
        while let Some((index, address)) = self.engine.take_wanted_neighbour() {
            if self
                .engine
                .endpoint(index)
                .is_some_and(|e| e.kind == EndpointKind::Uplink)
            {
                self.hint(Reply::NeighbourWanted { index, address });
            } else {
                self.solicit(index, address);
            }
        }
    }

    /// Tells control what a packet has shown, and the next one will show again: it must not take
    /// the room of what is told once.
    fn hint(&self, reply: Reply) {
        if self.replies.len() < self.replies.capacity() / 2 {
            self.reply(reply);
        }
    }

    fn reply(&self, reply: Reply) {
        // Control empties the queue ten times a second, and what is asked for again is not lost.
        let _ = self.replies.push(reply);
    }
}
