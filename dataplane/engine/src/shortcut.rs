//! The short way of a packet whose flow is known at both ends: what the two halves of the walk would
//! do, in one step. Most packets take it.
//!
//! It decides nothing. An entry has a twin only when a whole walk has passed between the two ends
//! under the snapshot that still holds, with nothing translated; whatever is not as it was then
//! takes the walk. `tests/shortcut.rs` compares both ways, byte by byte.

use crate::engine::Engine;
use crate::flow::{Flow, Side};
use crate::flow_key::FlowKey;
use crate::flow_table::FlowTicket;
use crate::glance::Glance;
use crate::walk::Walk;
use crate::{
    Endpoint, EndpointIndex, EndpointKind, FrameBytes, Handover, Now, Outcome, Record, checksum,
    rewrite,
};
use std::net::IpAddr;

/// What has been found out about a frame before its turn comes: memory that will be read is fetched
/// for a whole batch at once, instead of waited for packet by packet.
#[derive(Debug)]
pub struct Foreseen {
    glance: Glance,
    key: FlowKey,
    hash: u32,
    place: Option<u32>,
}

impl Engine {
    /// Looks at a frame that will come in at `from`. None when it will have to walk.
    #[must_use]
    pub fn foresee(&self, from: EndpointIndex, frame: &FrameBytes<'_>) -> Option<Foreseen> {
        let endpoint = self.snapshot.as_deref()?.endpoint(from)?;
        let glance = Glance::of(frame)?;
        let macs = Glance::macs(frame)?;
        let is_ours = endpoint.kind == EndpointKind::Pod
            && macs.0 == endpoint.own_mac
            && endpoint.peer_mac == Some(macs.1);
        if !is_ours {
            return None;
        }
        let key = glance.key(endpoint.id, frame)?;
        Some(Foreseen {
            hash: self.flows.hash(&key),
            glance,
            key,
            place: None,
        })
    }

    /// Where the number of its flow's entry is: to be fetched first.
    #[must_use]
    pub fn place_of_number(&self, foreseen: &Foreseen) -> *const u8 {
        self.flows.place_of_number(foreseen.hash)
    }

    /// Where the entry is, in two lines: to be fetched next.
    #[must_use]
    pub fn place_of_entry(&self, foreseen: &mut Foreseen) -> Option<[*const u8; 2]> {
        foreseen.place = self.flows.first_with(foreseen.hash);
        Some(lines_of(self.flows.entry(foreseen.place?)?))
    }

    /// Where the entry at the other end is: to be fetched last.
    #[must_use]
    pub fn place_of_twin(&self, foreseen: &Foreseen) -> Option<[*const u8; 2]> {
        let twin = self.flows.entry(foreseen.place?)?.twin()?;
        Some(lines_of(self.flows.entry(twin.place)?))
    }

    /// `egress` for a frame that was foreseen in the same batch.
    pub fn egress_foreseen(
        &mut self,
        from: EndpointIndex,
        foreseen: Option<&Foreseen>,
        frame: &mut FrameBytes<'_>,
        now: Now,
        records: &mut Vec<Record>,
    ) -> Outcome {
        let outcome = foreseen.and_then(|foreseen| self.take_shortcut(from, foreseen, frame, now));
        match outcome {
            Some(outcome) => outcome,
            None => self.walk_egress(from, frame, now, records),
        }
    }

    /// Takes a packet all the way. None, and nothing done, when it has to walk.
    fn take_shortcut(
        &mut self,
        from: EndpointIndex,
        foreseen: &Foreseen,
        frame: &mut FrameBytes<'_>,
        now: Now,
    ) -> Option<Outcome> {
        let snapshot = self.snapshot.as_deref()?;
        let endpoint = snapshot.endpoint(from)?;
        let Foreseen { glance, key, .. } = foreseen;
        let is_plain = |flow: &Flow| {
            let is_open = match glance.is_udp {
                true => flow.is_datagrams(),
                false => flow.state().is_established(),
            };
            is_open && flow.is_of(snapshot.generation) && !flow.is_translated()
        };
        let own = self.flows.peek(key, foreseen.hash, now)?;
        let flow = self.flows.flow(own).filter(|flow| is_plain(flow))?;
        let (way, twin) = (flow.way()?, flow.twin()?);
        self.flows.live(twin, now).filter(|flow| is_plain(flow))?;
        let out = snapshot.endpoint(way.to)?;
        let destination = out.peer_mac.filter(|_| {
            out.id == way.to_id
                && out.kind == EndpointKind::Pod
                && out.worker == endpoint.worker
                && glance.ip_length <= out.mtu
        })?;
        let segment = glance.segment(frame);
        for (ticket, sender) in [(own, Side::Local), (twin, Side::Remote)] {
            let flow = self.flows.flow_mut(ticket)?;
            flow.count(sender, glance.ip_length, now);
            if let Some(segment) = &segment {
                flow.note_numbers(sender, segment);
            }
        }
        rewrite::forward_plain(frame, glance.is_ipv4, destination, out.own_mac);
        let is_offloaded = self.settings.offload_checksums;
        let checksum = checksum::finish_plain(frame, glance, is_offloaded);
        self.shortcuts += 1;
        Some(Outcome::Transmit(way.to, checksum))
    }
}

/// The two lines of memory that an entry lies in.
fn lines_of(flow: &Flow) -> [*const u8; 2] {
    let start = std::ptr::from_ref(flow).cast::<u8>();
    [start, start.wrapping_add(size_of::<Flow>() / 2)]
}

impl Walk<'_> {
    /// Lets the next packets between two ends take the short way: both entries are known here and
    /// were judged by this snapshot, and no service has to do with their addresses.
    pub fn pair(&mut self, handover: &Handover, endpoint: &Endpoint, target: Option<FlowTicket>) {
        let (Some(source), Some(target)) = (handover.flow, target) else {
            return;
        };
        let snapshot = self.snapshot;
        let is_here = handover.generation == snapshot.generation
            && endpoint.kind == EndpointKind::Pod
            && snapshot.endpoint(handover.from).is_some_and(|from| {
                from.id == handover.from_id
                    && from.kind == EndpointKind::Pod
                    && from.worker == endpoint.worker
            });
        if !is_here || self.settings.walks_always {
            return;
        }
        let is_plain = |flow: &Flow| {
            let (local, remote) = flow.key.addresses();
            let has_service = |address: IpAddr| snapshot.services.has_address(address);
            flow.is_of(snapshot.generation)
                && !flow.is_translated()
                && !has_service(local)
                && !has_service(remote)
        };
        let both = [source, target].map(|ticket| self.flows.flow(ticket).is_some_and(is_plain));
        if both != [true, true] {
            return;
        }
        for (ticket, twin) in [(source, target), (target, source)] {
            if let Some(flow) = self.flows.flow_mut(ticket) {
                flow.set_twin(twin);
            }
        }
    }
}
