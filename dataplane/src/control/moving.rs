//! Takes an endpoint from one worker to another, socket and all.
//!
//! Its rings stay as they are, so what comes from it waits there meanwhile. What goes to it is
//! dropped, counted as `endpoint_gone`, from when the one worker gives the socket back until all
//! use the snapshot that names the other: a few milliseconds. Its flows stay behind. The new worker
//! takes connections in mid-stream for a while, as after a start, so they go on where policy allows
//! them; what was translated at the endpoint (connections to services) is ended by a reset.

use super::endpoints::SlotKey;
use super::reconcile::Control;
use crate::rings::Socket;
use crate::worker::Command;
use portcullis_engine::EndpointIndex;
use std::sync::mpsc::Sender;

/// An endpoint on its way.
#[derive(Debug)]
pub(super) struct Moving {
    pub index: EndpointIndex,
    /// Its socket, once its worker has given it back.
    pub socket: Option<Box<Socket>>,
}

/// Somebody asks to move a pod.
#[derive(Debug)]
pub struct MoveRequest {
    /// `namespace/name`.
    pub pod: String,
    /// Where to.
    pub worker: u16,
    /// Whom to tell what became of it.
    pub answer: Sender<Result<String, String>>,
}

impl Control {
    /// Moves the pod that somebody asked for, and tells what it has cost.
    pub(super) fn take_move(&mut self, request: &MoveRequest) {
        let done = self.move_pod(&request.pod, request.worker);
        // Who asked may have gone away.
        let _ = request.answer.send(done);
    }

    fn move_pod(&mut self, pod: &str, to: u16) -> Result<String, String> {
        let is_it = |key: &SlotKey| matches!(key, SlotKey::Pod { .. }) && key.name() == pod;
        let found = self.slots.iter().find(|(_, slot)| is_it(&slot.wanted.key));
        let (index, _) = found.ok_or_else(|| {
            format!("expected a pod of this node, NAMESPACE/NAME, found \"{pod}\"")
        })?;
        self.move_endpoint(index, to)
    }

    /// Once a second: a pod that keeps its worker from others moves, where that is wanted.
    pub(super) fn rehome(&mut self) {
        self.give_back();
        if !self.config.workers.rehome {
            return;
        }
        if let Some((index, to)) = self.heat.advice() {
            match self.move_endpoint(index, to) {
                Ok(said) => eprintln!("moved: {said}"),
                Err(fault) => self.view.fault(fault),
            }
            // Also when it failed: it would not fare better a second later.
            self.heat.note_move();
        }
    }

    /// Gives a socket that came too late for its move back to where it came from.
    fn give_back(&mut self) {
        let is_late = |moving: &mut Moving| moving.socket.is_some();
        let Some(Moving { index, socket }) = self.moving.take_if(is_late) else {
            return;
        };
        // Without an endpoint it is closed.
        if let (Some(slot), Some(socket)) = (self.slots.get_mut(index), socket) {
            self.workers[usize::from(slot.worker)].send(Command::Add {
                index,
                socket,
                is_moved: false,
            });
        }
    }

    fn move_endpoint(&mut self, index: EndpointIndex, to: u16) -> Result<String, String> {
        let count = self.workers.len();
        if usize::from(to) >= count {
            return Err(format!(
                "expected a worker from 0 to {}, found {to}",
                count - 1
            ));
        }
        let slot = self
            .slots
            .get_mut(index)
            .ok_or("there is no such endpoint")?;
        let (name, from, is_attached) = (slot.wanted.key.name(), slot.worker, slot.is_attached);
        if !is_attached {
            return Err(format!("{name} is not attached yet"));
        }
        if from == to {
            return Err(format!("{name} is at worker {to} already"));
        }
        if self.moving.is_some() {
            return Err("another endpoint is still on its way".into());
        }
        self.moving = Some(Moving {
            index,
            socket: None,
        });
        self.workers[usize::from(from)].send(Command::Remove { index });
        let has_socket = |control: &Self| {
            let moving = control.moving.as_ref();
            moving.is_none_or(|moving| moving.socket.is_some())
        };
        if !self.wait_until(has_socket) {
            // Should it answer later, the socket goes back to it.
            return Err(format!("worker {from} did not give {name} back in time"));
        }
        let Some(socket) = self.moving.take().and_then(|moving| moving.socket) else {
            return Err(format!("worker {from} had no socket of {name}"));
        };
        if let Some(slot) = self.slots.get_mut(index) {
            slot.worker = to;
        }
        self.workers[usize::from(to)].send(Command::Add {
            index,
            socket,
            is_moved: true,
        });
        self.publish();
        self.view.show_endpoints(&self.slots, &self.snapshot);
        Ok(format!("{name} from worker {from} to worker {to}"))
    }

    /// Takes the socket of an endpoint that moves. Gives back what is another's.
    pub(super) fn take_moving(
        &mut self,
        index: EndpointIndex,
        socket: Option<Box<Socket>>,
    ) -> Option<Option<Box<Socket>>> {
        match &mut self.moving {
            Some(moving) if moving.index == index && moving.socket.is_none() => {
                if socket.is_some() {
                    moving.socket = socket;
                } else {
                    self.moving = None;
                }
                None
            }
            _ => Some(socket),
        }
    }
}
