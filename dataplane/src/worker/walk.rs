//! A packet's walk as the worker sees it: receive, the engine's two halves, transmit.

use super::handle::Passed;
use super::turn::{Served, Worker, now};
use super::{BATCH, PIECES};
use crate::rings::{CHUNK_ROOM, Frame, Socket};
use portcullis_engine::{
    Checksum, Drop, EndpointIndex, Handover, HoldSlot, Now, Outcome, segment, solicit,
};
use std::net::IpAddr;

impl Worker {
    /// Asks behind an interface who has an address.
    pub(super) fn solicit(&mut self, index: EndpointIndex, target: IpAddr) {
        let Some(endpoint) = self.engine.endpoint(index) else {
            return;
        };
        let Some(mut frame) = self.free.take() else {
            return;
        };
        let length = solicit(endpoint, target, frame.view(&self.umem).bytes().head);
        if length == 0 {
            return self.free.release(frame);
        }
        self.free.set_length(&mut frame, length);
        self.transmit(index, frame, Checksum::Untouched);
    }

    /// Frames from other workers.
    pub(super) fn take_passed(&mut self, moment: Now) -> usize {
        let mut taken = 0;
        for from in 0..self.inbox.len() {
            for _ in 0..BATCH {
                let Some(passed) = self.inbox[from].pop() else {
                    break;
                };
                taken += 1;
                match passed {
                    Passed::Frame(handover, frame) => {
                        self.taken_bytes += frame.length() as u64;
                        self.ingress(Some(from), handover, frame, moment)
                    }
                    Passed::Denied(handover) => self.engine.withdraw(&handover),
                }
            }
        }
        taken
    }

    /// Frames from the kernel, one batch from each interface that has any.
    pub(super) fn take_ready(&mut self, moment: Now) -> usize {
        let mut taken = 0;
        self.ready.clear();
        self.ready.extend(self.waiter.ready());
        self.served.clear();
        // Another one is first in each turn: who comes first finds the rings emptiest.
        let (count, first) = (self.ready.len(), self.first_served);
        self.first_served = first.wrapping_add(1);
        let mut since = moment.0;
        for turn in 0..count {
            let index = EndpointIndex(self.ready[first.wrapping_add(turn) % count] as u16);
            let Some(socket) = self.sockets[usize::from(index.0)].as_mut() else {
                continue;
            };
            let mut batch = std::mem::take(&mut self.batch);
            socket.receive_pieces(&mut self.free, &mut batch, BATCH, PIECES);
            let too_long = socket.take_chains_too_long();
            for _ in 0..too_long {
                self.counters.dropped(Drop::ChainTooLong);
            }
            let frames = batch.len();
            // Interfaces that are attended are looked into whether they have something or not.
            if frames == 0 && too_long == 0 {
                self.batch = batch;
                continue;
            }
            self.touch(index);
            taken += frames;
            self.foresee(index, &mut batch);
            let mut bytes = 0;
            for (number, frame) in batch.drain(..).enumerate() {
                bytes += frame.length() as u64;
                self.egress(index, number, frame, moment);
                self.resume_held(moment);
            }
            self.batch = batch;
            self.counters.received.add(frames as u64);
            self.counters.received_bytes.add(bytes);
            self.taken_bytes += bytes;
            let until = now().0;
            self.served.push(Served {
                index,
                frames: frames as u32,
                busy_ns: until.saturating_sub(since),
            });
            since = until;
        }
        taken
    }

    /// Looks at all frames of a batch before the first is judged.
    fn foresee(&mut self, from: EndpointIndex, batch: &mut [Frame]) {
        self.foresight.begin();
        for frame in &mut *batch {
            let (foresight, engine) = (&mut self.foresight, &self.engine);
            frame.with_bytes(&self.umem, |bytes| foresight.look(engine, from, bytes));
        }
        self.foresight.fetch(&self.engine);
    }

    /// The egress half, at the source of a frame with this number in its batch.
    fn egress(&mut self, from: EndpointIndex, number: usize, mut frame: Frame, moment: Now) {
        let foreseen = self.foresight.of(number);
        let (engine, records) = (&mut self.engine, &mut self.records);
        let (outcome, head_length) = frame.with_bytes(&self.umem, |bytes| {
            let outcome = engine.egress_foreseen(from, foreseen, bytes, moment, records);
            (outcome, bytes.head_length)
        });
        self.trim(&mut frame, head_length);
        self.go_on(outcome, frame, moment);
    }

    /// Frames whose wait for the first fragment of their datagram is over, each right behind it or
    /// when it did not come.
    pub(super) fn resume_held(&mut self, moment: Now) {
        while let Some(released) = self.engine.take_released() {
            let Some(mut frame) = self.held[usize::from(released.slot.0)].take() else {
                debug_assert!(false, "no frame waits at {released:?}");
                continue;
            };
            let (engine, records) = (&mut self.engine, &mut self.records);
            let (outcome, head_length) = frame.with_bytes(&self.umem, |bytes| {
                let outcome = engine.resume(released, bytes, moment, records);
                (outcome, bytes.head_length)
            });
            self.trim(&mut frame, head_length);
            self.go_on(outcome, frame, moment);
        }
    }

    /// Does what the egress half said.
    fn go_on(&mut self, outcome: Outcome, frame: Frame, moment: Now) {
        match outcome {
            Outcome::HandOver(handover) => self.hand_over(handover, frame, moment),
            Outcome::Hold(slot) => self.hold(slot, frame),
            outcome => self.carry_out(outcome, frame),
        }
    }

    /// Takes a frame to the ingress half, here or at the worker that owns its destination.
    fn hand_over(&mut self, handover: Handover, frame: Frame, moment: Now) {
        match self.engine.worker_of(handover.to).map(usize::from) {
            Some(owner) if owner == self.index => self.ingress(None, handover, frame, moment),
            Some(owner) => self.pass(owner, handover, frame),
            None => self.discard(frame, Drop::EndpointGone),
        }
    }

    /// Tells both ends of connections that policy has just ended.
    pub(super) fn send_resets(&mut self, moment: Now) {
        while let Some(reset) = self.engine.take_reset() {
            let Some(mut frame) = self.free.take() else {
                self.counters.dropped(Drop::NoFreeFrame);
                continue;
            };
            let length = reset.write(frame.view(&self.umem).bytes().head);
            self.free.set_length(&mut frame, length);
            self.counters.resets.add(1);
            self.hand_over(*reset.handover(), frame, moment);
        }
    }

    /// Keeps a frame until `resume_held`.
    fn hold(&mut self, HoldSlot(slot): HoldSlot, frame: Frame) {
        if let Some(before) = self.held[usize::from(slot)].replace(frame) {
            debug_assert!(false, "two frames wait at {slot}");
            self.discard(before, Drop::FragmentHoldFull);
        }
    }

    /// Makes the frame as short as the engine found the packet: Ethernet padding is cut off.
    fn trim(&mut self, frame: &mut Frame, head_length: usize) {
        if frame.pieces() == 1 && frame.length() != head_length {
            self.free.set_length(frame, head_length);
        }
    }

    /// Hands a frame to the worker that owns its destination.
    fn pass(&mut self, owner: usize, handover: Handover, frame: Frame) {
        match self.outbox[owner].push(Passed::Frame(handover, frame)) {
            Ok(()) => {
                self.counters.handed_over.add(1);
                self.bells[owner].ring();
            }
            Err(Passed::Frame(handover, frame)) => {
                if handover.is_opening {
                    self.engine.withdraw(&handover);
                }
                self.discard(frame, Drop::HandoverFull);
            }
            Err(Passed::Denied(_)) => unreachable!("a frame was pushed"),
        }
    }

    /// The ingress half, at the frame's destination. `from` is the worker that passed it on.
    fn ingress(&mut self, from: Option<usize>, handover: Handover, mut frame: Frame, moment: Now) {
        let (engine, records) = (&mut self.engine, &mut self.records);
        let (outcome, head_length) = frame.with_bytes(&self.umem, |bytes| {
            let outcome = engine.ingress(&handover, bytes, moment, records);
            (outcome, bytes.head_length)
        });
        self.trim(&mut frame, head_length);
        if handover.must_be_withdrawn(&outcome) {
            match from {
                None => self.engine.withdraw(&handover),
                Some(from) => {
                    // Should it find no room, the entry is half open and ends by itself.
                    let _ = self.outbox[from].push(Passed::Denied(handover));
                    self.bells[from].ring();
                }
            }
        }
        if let Outcome::Return {
            handover,
            length,
            reason,
        } = outcome
        {
            self.counters.dropped(reason);
            self.counters.answered.add(1);
            self.free.set_length(&mut frame, usize::from(length));
            return self.hand_over(handover, frame, moment);
        }
        self.carry_out(outcome, frame);
    }

    /// Does what the engine said.
    fn carry_out(&mut self, outcome: Outcome, mut frame: Frame) {
        match outcome {
            Outcome::Transmit(to, checksum) => self.transmit(to, frame, checksum),
            Outcome::TransmitSegmented { to, payload_max } => {
                self.transmit_segmented(to, frame, payload_max);
            }
            Outcome::Answer { to, length, reason } => {
                if let Some(reason) = reason {
                    self.counters.dropped(reason);
                }
                self.counters.answered.add(1);
                self.free.set_length(&mut frame, usize::from(length));
                self.transmit(to, frame, Checksum::Untouched);
            }
            Outcome::Drop(reason) => self.discard(frame, reason),
            Outcome::HandOver(_) | Outcome::Return { .. } | Outcome::Hold(_) => {
                unreachable!("what goes on to another half, or waits, has been taken there")
            }
        }
    }

    fn discard(&mut self, frame: Frame, reason: Drop) {
        self.counters.dropped(reason);
        self.free.release(frame);
    }

    fn transmit(&mut self, to: EndpointIndex, frame: Frame, checksum: Checksum) {
        let length = frame.length() as u64;
        let Some(socket) = self
            .sockets
            .get_mut(usize::from(to.0))
            .and_then(Option::as_mut)
        else {
            return self.discard(frame, Drop::EndpointGone);
        };
        let submit = |socket: &mut Socket, frame| match checksum {
            Checksum::Partial { start, offset } => socket.transmit_partial(frame, start, offset),
            Checksum::Untouched | Checksum::Finished => socket.transmit(frame),
        };
        let submitted = submit(socket, frame).or_else(|frame| {
            // The ring may be full of frames that only wait for a kick.
            if socket.make_room(&mut self.free) {
                submit(socket, frame)
            } else {
                Err(frame)
            }
        });
        if let Err(frame) = submitted {
            return self.discard(frame, Drop::TransmitFull);
        }
        self.counters.transmitted.add(1);
        self.counters.transmitted_bytes.add(length);
        let way = match checksum {
            Checksum::Partial { .. } => &self.counters.checksums_offloaded,
            Checksum::Finished => &self.counters.checksums_software,
            Checksum::Untouched => &self.counters.checksums_untouched,
        };
        way.add(1);
        self.touch(to);
    }

    fn transmit_segmented(&mut self, to: EndpointIndex, mut frame: Frame, payload_max: u16) {
        for number in 0.. {
            let Some(mut part) = self.free.take() else {
                self.counters.dropped(Drop::NoFreeFrame);
                break;
            };
            let length = {
                let mut whole = frame.view(&self.umem);
                let mut room = part.view(&self.umem);
                let head = room.bytes().head;
                debug_assert!(head.len() <= CHUNK_ROOM);
                segment(&whole.bytes(), payload_max, number, head)
            };
            let Some(length) = length else {
                self.free.release(part);
                break;
            };
            self.counters.segments.add(1);
            self.free.set_length(&mut part, length);
            self.transmit(to, part, Checksum::Finished);
        }
        self.free.release(frame);
    }
}
