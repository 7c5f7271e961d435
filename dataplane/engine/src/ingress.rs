//! The ingress half: from the handover to the wire of the endpoint that the frame goes out at.

use crate::change::Change;
use crate::flow::Side;
use crate::packet::{self, Packet, Parsed};
use crate::walk::{Admission, Walk};
use crate::{
    Checksum, Drop, Endpoint, EndpointId, EndpointKind, FrameBytes, Handover, MacAddress, Outcome,
    RecordKind, checksum, rewrite, segment,
};
use portcullis_policy::Identity;

impl Walk<'_> {
    /// Runs the ingress half.
    pub fn ingress(
        &mut self,
        handover: &Handover,
        frame: &mut FrameBytes<'_>,
    ) -> Result<Outcome, Drop> {
        self.record.from = Some(handover.from_id);
        self.record.to = Some(handover.to_id);
        self.record.source_identity = handover.source;
        self.record.egress = handover.egress;
        let Parsed::Ip(mut packet) = packet::parse(frame)? else {
            return Err(Drop::EthertypeUnknown);
        };
        self.describe(&packet);
        self.describe_datagram(handover.datagram);
        let snapshot = self.snapshot;
        let endpoint = snapshot
            .endpoint(handover.to)
            .filter(|endpoint| endpoint.id == handover.to_id)
            .ok_or(Drop::EndpointGone)?;
        let is_uplink = endpoint.kind == EndpointKind::Uplink;
        // The address may have moved while the packet was on its way.
        if !is_uplink && !endpoint.has_address(packet.destination) {
            return Err(Drop::EndpointGone);
        }
        if !rewrite::trim(frame, &packet) {
            return Err(Drop::Malformed);
        }
        if handover.is_own {
            return self.deliver_own(handover, endpoint, &packet, frame);
        }
        let source = self.source_after(handover, &packet)?;
        self.record.source_identity = source;
        let admission = match endpoint.kind {
            EndpointKind::Pod => {
                let seen = Change::Nothing.seen(&packet, handover.datagram);
                Some(self.admit_piece(endpoint, Side::Remote, frame, &seen, || source)?)
            }
            EndpointKind::Host | EndpointKind::Uplink => None,
        };
        let change = match self.change_at_target(handover, endpoint, &packet, frame, &admission) {
            Err(reason) if is_uplink => {
                return self.tell_back(handover, endpoint, &packet, frame, reason);
            }
            change => change?,
        };
        let next_hop = self.next_hop(handover, endpoint, &packet)?;
        let payload_max = self.payload_max(handover, &admission);
        let outcome = outcome_for(handover, endpoint, &packet, payload_max)?;
        if let Some(admission) = &admission {
            self.enter_at_target(handover, admission, endpoint, &packet)?;
        }
        self.carry_out(&change, &mut packet, frame)?;
        rewrite::forward(frame, &packet, next_hop, endpoint.own_mac);
        let outcome = match outcome {
            Outcome::Transmit(to, _) => {
                let is_offloaded = self.settings.offload_checksums;
                Outcome::Transmit(to, checksum::finish(frame, &packet, is_offloaded))
            }
            outcome => outcome,
        };
        let is_new = handover.is_opening || matches!(admission, Some(Admission::New { .. }));
        let is_reply = match &admission {
            Some(Admission::New { flow, .. }) => flow.initiator() == Side::Local,
            _ => handover.is_reply,
        };
        self.tell_flow(endpoint, &packet, is_new, is_reply);
        Ok(outcome)
    }

    /// The largest TCP payload that both ends have said they take; zero when neither has.
    fn payload_max(&self, handover: &Handover, admission: &Option<Admission>) -> u16 {
        let told = match admission {
            Some(Admission::Known { ticket, .. }) => self.flows.flow(*ticket),
            _ => None,
        };
        let own = told.map_or(0, |flow| flow.payload_max.0);
        smaller_known(own, handover.payload_max)
    }

    /// Begins or notes the flow of a packet that is about to be delivered to a pod.
    fn enter_at_target(
        &mut self,
        handover: &Handover,
        admission: &Admission,
        endpoint: &Endpoint,
        packet: &Packet,
    ) -> Result<(), Drop> {
        let payer = self.payer_of(handover, admission);
        let entry = self.enter(admission, payer, Side::Remote, packet)?;
        // The answer to what left under another address was translated at the uplink alone: here
        // it is the pod's own flow.
        if let Some(flow) = entry.and_then(|ticket| self.flows.flow_mut(ticket))
            && handover.is_translated
            && flow.initiator() == Side::Remote
        {
            flow.set_translated(true);
        }
        self.pair(handover, endpoint, entry);
        Ok(())
    }

    /// Whose share an entry at the destination is a part of: a pod pays for what it begins, at both
    /// ends, else it could fill its peers' shares too. The outside is no one that could pay.
    fn payer_of(&self, handover: &Handover, admission: &Admission) -> EndpointId {
        let from = self.snapshot.endpoint(handover.from);
        let is_paying = matches!(admission, Admission::New { flow, .. }
                if flow.initiator() == Side::Remote)
            && from
                .is_some_and(|from| from.id == handover.from_id && from.kind == EndpointKind::Pod);
        if is_paying {
            handover.from_id
        } else {
            handover.to_id
        }
    }

    /// Tells of a flow when it is new, and of a denial that is only reported whenever policy was
    /// asked.
    fn tell_flow(&mut self, endpoint: &Endpoint, packet: &Packet, is_new: bool, is_reply: bool) {
        let is_audited = [self.record.egress, self.record.ingress]
            .into_iter()
            .flatten()
            .any(|verdict| !verdict.decision.is_allowed());
        if !is_new && !is_audited {
            return;
        }
        self.record.kind = RecordKind::Flow;
        self.record.is_reply = Some(is_reply);
        self.record.destination_identity = match &self.snapshot.tables {
            Some(tables) => self.snapshot.identity_of(tables, packet.destination),
            None => endpoint.identity,
        };
        self.is_telling = true;
    }

    /// What a packet becomes where it goes out: a service speaks to its client under its own name,
    /// and what leaves the node may have to leave under another.
    fn change_at_target(
        &mut self,
        handover: &Handover,
        endpoint: &Endpoint,
        packet: &Packet,
        frame: &FrameBytes<'_>,
        admission: &Option<Admission>,
    ) -> Result<Change, Drop> {
        if endpoint.kind == EndpointKind::Uplink {
            return self.change_at_exit(handover, endpoint, packet, frame);
        }
        let flow = admission.as_ref().and_then(Admission::ticket);
        let flow = flow.and_then(|ticket| self.flows.flow(ticket));
        let is_asked =
            flow.is_some_and(|flow| flow.is_translated() && flow.initiator() == Side::Local);
        if !is_asked {
            return Ok(Change::Nothing);
        }
        let change = self.known_change(endpoint.id, packet, handover.datagram, frame);
        // The client asked another: it would not know who this is.
        if change.is_nothing() {
            return Err(Drop::NatSessionUnknown);
        }
        Ok(change)
    }

    /// Who sent the packet, in the words of this worker's tables: numbers of another generation
    /// may mean others, so the source is identified anew.
    fn source_after(&self, handover: &Handover, packet: &Packet) -> Result<Identity, Drop> {
        self.tables()?;
        if handover.generation == self.snapshot.generation {
            return Ok(handover.source);
        }
        let from = self
            .snapshot
            .endpoint(handover.from)
            .filter(|endpoint| endpoint.id == handover.from_id)
            .ok_or(Drop::EndpointGone)?;
        self.source_of(from, packet)
    }

    pub fn next_hop(
        &mut self,
        handover: &Handover,
        endpoint: &Endpoint,
        packet: &Packet,
    ) -> Result<MacAddress, Drop> {
        let mac = match endpoint.kind {
            EndpointKind::Uplink => handover.next_hop,
            EndpointKind::Pod | EndpointKind::Host => endpoint.peer_mac,
        };
        if mac.is_none() && endpoint.kind != EndpointKind::Uplink {
            self.notices.wanted.add((handover.to, packet.destination));
        }
        mac.ok_or(Drop::NeighbourUnknown)
    }
}

/// Whole, where the way out takes it; cut up, where that can be done.
fn outcome_for(
    handover: &Handover,
    endpoint: &Endpoint,
    packet: &Packet,
    payload_max: u16,
) -> Result<Outcome, Drop> {
    let to = handover.to;
    if packet.ip_length <= endpoint.mtu {
        return Ok(Outcome::Transmit(to, Checksum::Untouched));
    }
    if !segment::is_divisible(packet) {
        return Err(Drop::PacketTooBig);
    }
    let payload_max =
        segment::payload_max(packet, endpoint.mtu, payload_max).ok_or(Drop::PacketTooBig)?;
    Ok(Outcome::TransmitSegmented { to, payload_max })
}

/// The smaller of two limits, where zero is none.
fn smaller_known(one: u16, other: u16) -> u16 {
    match (one, other) {
        (0, limit) | (limit, 0) => limit,
        (one, other) => one.min(other),
    }
}
