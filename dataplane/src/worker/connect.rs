//! Makes workers, and the queues between them.

use super::BATCH;
use super::foresight::Foresight;
use super::handle::{Bell, Passed, WorkerHandle};
use super::turn::Worker;
use crate::rings::{FreeFrames, Waiter};
use crossbeam::queue::ArrayQueue;
use portcullis_engine::{Engine, HOLDS_MAX, Now};
use std::sync::Arc;

/// Interfaces that one wait can find ready.
const READY_MAX: usize = 512;
/// Frames that may wait between two workers.
const HANDOVER_MAX: usize = 1024;
/// Records of one turn.
const RECORDS_MAX: usize = 4 * BATCH;
/// Records that may wait for the observer.
const RECORD_QUEUE_MAX: usize = 16 * 1024;
/// Commands and replies that may wait.
const COMMANDS_MAX: usize = 4096;

/// What a worker is made of.
pub struct WorkerParts {
    /// The engine of the worker.
    pub engine: Engine,
    /// Its store of free frames.
    pub free: FreeFrames,
    /// The core that it shall be pinned to.
    pub core: Option<usize>,
}

/// Makes all workers of the daemon, connected with each other, not yet running.
///
/// # Errors
/// When the kernel gives no epoll or eventfd.
pub fn connect(parts: Vec<WorkerParts>) -> Result<Vec<(Worker, WorkerHandle)>, String> {
    let count = parts.len();
    // queues[from][to]
    let queues: Vec<Vec<Arc<ArrayQueue<Passed>>>> = (0..count)
        .map(|_| {
            (0..count)
                .map(|_| Arc::new(ArrayQueue::new(HANDOVER_MAX)))
                .collect()
        })
        .collect();
    let mut waiters = Vec::new();
    let mut bells = Vec::new();
    for _ in 0..count {
        let waiter = Waiter::new().map_err(|e| e.to_string())?;
        bells.push(Bell {
            waker: waiter.waker(),
            is_asleep: Arc::default(),
        });
        waiters.push(waiter);
    }
    let slots = crate::control::SLOTS_MAX;
    let made = parts
        .into_iter()
        .zip(waiters)
        .enumerate()
        .map(|(index, (part, waiter))| {
            let handle = WorkerHandle {
                index: index as u16,
                core: part.core,
                counters: Arc::default(),
                replies: Arc::new(ArrayQueue::new(COMMANDS_MAX)),
                records: Arc::new(ArrayQueue::new(RECORD_QUEUE_MAX)),
                commands: Arc::new(ArrayQueue::new(COMMANDS_MAX)),
                filled: Arc::new(ArrayQueue::new(1)),
                bell: bells[index].clone(),
            };
            let worker = Worker {
                index,
                engine: part.engine,
                umem: part.free.umem().clone(),
                free: part.free,
                sockets: (0..slots).map(|_| None).collect(),
                touched: Vec::with_capacity(slots),
                is_touched: vec![false; slots],
                is_active: vec![false; slots],
                waiter,
                ready: Vec::with_capacity(READY_MAX),
                first_served: 0,
                served: Vec::with_capacity(READY_MAX),
                batch: Vec::with_capacity(BATCH),
                taken_bytes: 0,
                foresight: Foresight::new(BATCH),
                held: [const { None }; HOLDS_MAX],
                records: Vec::with_capacity(RECORDS_MAX),
                inbox: (0..count).map(|from| queues[from][index].clone()).collect(),
                outbox: queues[index].clone(),
                is_asleep: bells[index].is_asleep.clone(),
                bells: bells.clone(),
                commands: handle.commands.clone(),
                replies: handle.replies.clone(),
                filled: handle.filled.clone(),
                record_queue: handle.records.clone(),
                counters: handle.counters.clone(),
                tended: Now(0),
                engine_lost: 0,
            };
            (worker, handle)
        });
    Ok(made.collect())
}
