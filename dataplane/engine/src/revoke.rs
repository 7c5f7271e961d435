//! The end of a connection that policy allowed and allows no longer: both ends are told at once.

use crate::change::Change;
use crate::checksum;
use crate::flow::{CachedWay, Side};
use crate::flow_key::{FlowKey, tuple_of};
use crate::flow_table::FlowTicket;
use crate::icmp_error::Error;
use crate::packet::{Packet, TcpFlags, Transport};
use crate::reset::{self, Reset, Segment};
use crate::walk::Walk;
use crate::{
    Drop, Endpoint, EndpointIndex, EndpointKind, FrameBytes, Handover, Outcome, RecordKind,
};
use portcullis_policy::Identity;

impl Walk<'_> {
    /// Owes a reset to each end of a TCP connection whose entry is about to go.
    pub fn owe_resets(&mut self, subject: &Endpoint, ticket: FlowTicket) {
        let Some(flow) = self.flows.flow(ticket) else {
            return;
        };
        let (key, way) = (flow.key, flow.way());
        let is_reply = flow.initiator() == Side::Remote;
        let is_translated = is_reply && flow.is_translated();
        let towards = [Side::Local, Side::Remote].map(|side| (side, flow.reset_towards(side)));
        let Some((from, _)) = self.snapshot.owner_of(key.addresses().0) else {
            return;
        };
        for (side, numbers) in towards {
            let Some(numbers) = numbers else { continue };
            let way = match side {
                Side::Local => Some(own_way(from, subject)),
                // A peer that cannot be reached cannot be told.
                Side::Remote => way.or_else(|| self.find_way(key.addresses().1).ok()),
            };
            let Some(way) = way else { continue };
            self.resets.add(Reset {
                handover: Handover {
                    is_reply,
                    is_translated,
                    ..self.own_handover(from, subject, &way)
                },
                segment: Segment {
                    sequence: numbers.sequence,
                    acknowledgement: numbers.acknowledgement,
                    ..between(&key, side)
                },
            });
        }
    }

    /// Carries a packet that we made about a flow of `from` to the ingress half.
    pub fn own_handover(
        &self,
        from: EndpointIndex,
        subject: &Endpoint,
        way: &CachedWay,
    ) -> Handover {
        Handover {
            from,
            to: way.to,
            from_id: subject.id,
            to_id: way.to_id,
            generation: self.snapshot.generation,
            source: Identity::UNKNOWN,
            egress: None,
            next_hop: way.next_hop,
            payload_max: 0,
            flow: None,
            session: None,
            is_opening: false,
            is_reply: false,
            is_translated: false,
            is_own: true,
            datagram: None,
        }
    }

    /// Answers a segment in the middle of a connection that is not known with a reset, so that
    /// its sender need not find out by silence. [RFC 9293 §3.10.7.1]
    pub fn answer_reset(
        &mut self,
        from: EndpointIndex,
        endpoint: &Endpoint,
        packet: &Packet,
        frame: &mut FrameBytes<'_>,
        reason: Drop,
    ) -> Result<Outcome, Drop> {
        // Strangers that send something in the middle of nothing learn nothing.
        let is_stranger = endpoint.kind != EndpointKind::Pod && reason == Drop::FlowUnknown;
        let segment = reset::answer_to(frame, packet).ok_or(reason)?;
        if is_stranger || !self.notices.resets.take(self.now) {
            return Err(reason);
        }
        let length = reset::write(frame.head, &segment).ok_or(reason)?;
        reset::address(frame.head, packet.source_mac, endpoint.own_mac);
        self.end(reason);
        Ok(Outcome::Answer {
            to: from,
            length: length as u16,
            reason: Some(reason),
        })
    }

    /// The ingress half of a packet that we made ourselves: no policy, no hop taken from it.
    pub fn deliver_own(
        &mut self,
        handover: &Handover,
        endpoint: &Endpoint,
        packet: &Packet,
        frame: &mut FrameBytes<'_>,
    ) -> Result<Outcome, Drop> {
        let mut packet = *packet;
        let is_reset = matches!(packet.transport, Transport::Tcp { flags, .. }
            if flags.has(TcpFlags::RST));
        let change = if endpoint.kind == EndpointKind::Uplink {
            self.change_at_exit(handover, endpoint, &packet, frame)?
        } else {
            self.known_change(endpoint.id, &packet, None, frame)
        };
        if is_reset {
            self.close(endpoint, &packet);
        }
        let next_hop = self.next_hop(handover, endpoint, &packet)?;
        self.carry_out(&change, &mut packet, frame)?;
        reset::address(frame.head, next_hop, endpoint.own_mac);
        let checksum = checksum::finish(frame, &packet, self.settings.offload_checksums);
        if handover.is_opening {
            self.record.kind = RecordKind::Flow;
            self.record.destination_identity = endpoint.identity;
            self.is_telling = true;
        }
        Ok(Outcome::Transmit(handover.to, checksum))
    }

    /// Leads a pod's packet to a service back to the pod itself, which no policy is asked about.
    /// [policy-semantics §11]
    pub fn turn_back(
        &mut self,
        from: EndpointIndex,
        endpoint: &Endpoint,
        packet: &Packet,
        change: &Change,
        frame: &mut FrameBytes<'_>,
    ) -> Result<Outcome, Drop> {
        let session = self.carry_out(change, &mut packet.clone(), frame)?;
        self.remember_first(endpoint, packet);
        let is_opening = matches!(change, Change::Begins(_));
        Ok(Outcome::HandOver(Handover {
            session: session.filter(|_| is_opening),
            is_opening,
            source: endpoint.identity,
            ..self.own_handover(from, endpoint, &own_way(from, endpoint))
        }))
    }

    /// Tells the pod whose packet cannot leave why it cannot.
    pub fn tell_back(
        &mut self,
        handover: &Handover,
        uplink: &Endpoint,
        packet: &Packet,
        frame: &mut FrameBytes<'_>,
        reason: Drop,
    ) -> Result<Outcome, Drop> {
        let from = self.snapshot.endpoint(handover.from);
        let from = from.filter(|from| from.id == handover.from_id);
        let from = from.ok_or(reason)?;
        let length = match reset::answer_to(frame, packet) {
            Some(segment) if reason == Drop::NatSessionUnknown => {
                if !self.notices.resets.take(self.now) {
                    return Err(reason);
                }
                reset::write(frame.head, &segment).ok_or(reason)? as u16
            }
            _ => self.write_error(uplink, packet, frame, Error::Prohibited(reason))?,
        };
        self.end(reason);
        Ok(Outcome::Return {
            handover: self.own_handover(handover.from, from, &own_way(handover.from, from)),
            length,
            reason,
        })
    }

    /// Removes the entry of a connection that a reset of ours ends.
    fn close(&mut self, endpoint: &Endpoint, packet: &Packet) {
        let Some(tuple) = tuple_of(packet) else {
            return;
        };
        let key = FlowKey::of(endpoint.id, Side::Remote, packet, &tuple);
        if let Some(ticket) = self.flows.find(&key, self.now) {
            self.flows.remove(ticket);
        }
    }
}

fn own_way(from: EndpointIndex, subject: &Endpoint) -> CachedWay {
    CachedWay {
        to: from,
        to_id: subject.id,
        next_hop: None,
    }
}

/// A segment to `side` as if the other side had sent it; its numbers are still to be set.
fn between(key: &FlowKey, side: Side) -> Segment {
    let (local, remote) = key.addresses();
    let (local_port, remote_port) = key.ports();
    let (source, destination) = match side {
        Side::Local => ((remote, remote_port), (local, local_port)),
        Side::Remote => ((local, local_port), (remote, remote_port)),
    };
    Segment {
        source,
        destination,
        sequence: 0,
        acknowledgement: None,
    }
}
