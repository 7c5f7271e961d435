//! The short way of a packet whose flow is known at both ends: what the two halves of the walk would
//! do, in one step. Most packets take it.
//!
//! It decides nothing. An entry has a twin only when a whole walk has passed between the two ends
//! under the snapshot that still holds, with nothing translated; whatever is not as it was then
//! takes the walk. `tests/shortcut.rs` compares both ways, byte by byte.

use crate::engine::Engine;
use crate::flow::{Flow, Side};
use crate::flow_table::FlowTicket;
use crate::glance::Glance;
use crate::walk::Walk;
use crate::{
    Endpoint, EndpointIndex, EndpointKind, FrameBytes, Handover, Now, Outcome, checksum, rewrite,
};
use std::net::IpAddr;

impl Engine {
    /// Takes a packet all the way. None, and nothing done, when it has to walk.
    pub(crate) fn take_shortcut(
        &mut self,
        from: EndpointIndex,
        frame: &mut FrameBytes<'_>,
        now: Now,
    ) -> Option<Outcome> {
        let snapshot = self.snapshot.as_deref()?;
        let glance = Glance::of(frame)?;
        let endpoint = snapshot.endpoint(from)?;
        let macs = Glance::macs(frame)?;
        let is_ours = endpoint.kind == EndpointKind::Pod
            && macs.0 == endpoint.own_mac
            && endpoint.peer_mac == Some(macs.1);
        if !is_ours {
            return None;
        }
        let key = glance.key(endpoint.id, frame)?;
        let is_plain = |flow: &Flow| {
            let is_open = match glance.is_udp {
                true => flow.is_datagrams(),
                false => flow.state().is_established(),
            };
            is_open && flow.is_of(snapshot.generation) && !flow.is_translated()
        };
        let own = self.flows.peek(&key, now)?;
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
        let checksum = checksum::finish_plain(frame, &glance, is_offloaded);
        Some(Outcome::Transmit(way.to, checksum))
    }
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
