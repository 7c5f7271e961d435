//! The egress half: from the interface a frame came in at to the endpoint it is to go out at.

use crate::change::{Change, Seen};
use crate::flow::{CachedWay, Side};
use crate::hold::Awaited;
use crate::icmp_error::{self, Error, Link};
use crate::neighbour_discovery::{self, NeighbourDiscovery};
use crate::packet::{self, Packet, Parsed, Transport};
use crate::walk::{Admission, Walk};
use crate::walk_fragment::Origin;
use crate::{
    Drop, Endpoint, EndpointIndex, EndpointKind, FrameBytes, Handover, MacAddress, Outcome,
};
use crate::{address, arp, rewrite, segment};
use portcullis_policy::{Identity, Protocol};
use std::net::IpAddr;

impl Walk<'_> {
    /// Runs the egress half.
    pub fn egress(
        &mut self,
        from: EndpointIndex,
        frame: &mut FrameBytes<'_>,
    ) -> Result<Outcome, Drop> {
        let snapshot = self.snapshot;
        let endpoint = snapshot.endpoint(from).ok_or(Drop::EndpointGone)?;
        self.record.from = Some(endpoint.id);
        if endpoint.kind != EndpointKind::Uplink {
            self.record.source_identity = endpoint.identity;
        }
        let parsed = packet::parse(frame).inspect_err(|_| {
            self.record.addresses = packet::addresses(frame);
        })?;
        match parsed {
            Parsed::Arp { source_mac } => self.answer_arp(from, endpoint, source_mac, frame),
            Parsed::Ip(packet) => {
                self.describe(&packet);
                check_source_mac(endpoint, packet.source_mac)?;
                if !rewrite::trim(frame, &packet) {
                    return Err(Drop::Malformed);
                }
                if neighbour_discovery::is_discovery(&packet) {
                    return self.answer_discovery(from, endpoint, &packet, frame);
                }
                steer(endpoint, &packet)?;
                self.forward(from, endpoint, &packet, frame)
            }
        }
    }

    fn answer_arp(
        &mut self,
        from: EndpointIndex,
        endpoint: &Endpoint,
        source_mac: MacAddress,
        frame: &mut FrameBytes<'_>,
    ) -> Result<Outcome, Drop> {
        let arp = arp::Arp::parse(frame)?;
        self.record.addresses = Some((IpAddr::V4(arp.sender), IpAddr::V4(arp.target)));
        check_source_mac(endpoint, source_mac)?;
        let reaction = arp.react(self.snapshot, endpoint, source_mac)?;
        if endpoint.has_address(IpAddr::V4(arp.sender)) {
            self.learn(from, endpoint, source_mac);
        }
        match reaction {
            arp::Reaction::Nothing => Err(Drop::ArpUnanswered),
            arp::Reaction::Answer => Ok(Outcome::Answer {
                to: from,
                length: arp.answer(frame.head, endpoint.own_mac)?,
                reason: None,
            }),
        }
    }

    fn answer_discovery(
        &mut self,
        from: EndpointIndex,
        endpoint: &Endpoint,
        packet: &Packet,
        frame: &mut FrameBytes<'_>,
    ) -> Result<Outcome, Drop> {
        let message = NeighbourDiscovery::parse(frame, packet)?;
        let reaction = message.react(self.snapshot, endpoint)?;
        match reaction {
            neighbour_discovery::Reaction::Nothing { teaches } => {
                if teaches {
                    self.learn(from, endpoint, packet.source_mac);
                }
                Err(Drop::NeighbourDiscoveryUnanswered)
            }
            neighbour_discovery::Reaction::Answer => {
                if message.shows_sender(endpoint) {
                    self.learn(from, endpoint, packet.source_mac);
                }
                Ok(Outcome::Answer {
                    to: from,
                    length: message.answer(frame.head, endpoint.own_mac)?,
                    reason: None,
                })
            }
        }
    }

    fn learn(&mut self, from: EndpointIndex, endpoint: &Endpoint, mac: MacAddress) {
        let is_wanted = endpoint.peer_mac.is_none() && endpoint.kind != EndpointKind::Uplink;
        if is_wanted && !mac.is_group() {
            self.notices.learned.add((from, mac));
        }
    }

    /// Finds who sends, whether it may, and where it goes.
    fn forward(
        &mut self,
        from: EndpointIndex,
        endpoint: &Endpoint,
        packet: &Packet,
        frame: &mut FrameBytes<'_>,
    ) -> Result<Outcome, Drop> {
        let source = self.source_of(endpoint, packet)?;
        self.record.source_identity = source;
        self.tables()?;
        if packet.hops_left <= 1 {
            return self.answer_error(from, endpoint, packet, frame, Error::TimeExceeded);
        }
        let origin = self.origin_of(endpoint, packet);
        if matches!(origin, Origin::Missing) {
            return self.hold(from, endpoint, packet);
        }
        let datagram = origin.datagram();
        let change = match self.change_at_source(endpoint, packet, datagram, frame) {
            Err(reason) if reason.is_told() => {
                return self.refuse(from, endpoint, packet, frame, reason);
            }
            change => change?,
        };
        if change.is_hairpin() {
            self.note_fragment(endpoint, packet, &origin)?;
            return self.turn_back(from, endpoint, packet, &change, frame);
        }
        let seen = change.seen(packet, datagram);
        if !change.is_nothing() {
            self.describe(&seen.packet);
        }
        let admission = match self.admit_at_source(endpoint, &seen, frame) {
            Err(reason @ Drop::FlowUnknown) => {
                return self.answer_reset(from, endpoint, packet, frame, reason);
            }
            admission => admission?,
        };
        let way = match self.way_of(from, endpoint, &seen.packet, &change, admission.as_ref()) {
            Err(Drop::NeighbourUnknown) => {
                return self.await_neighbour(from, endpoint, seen.packet.destination);
            }
            way => way?,
        };
        self.record.to = Some(way.to_id);
        let out = self.snapshot.endpoint(way.to).ok_or(Drop::EndpointGone)?;
        if packet.ip_length > out.mtu
            && (!segment::is_divisible(packet)
                || segment::payload_max(packet, out.mtu, 0).is_none())
        {
            let error = Error::PacketTooBig(out.mtu);
            return self.answer_error(from, endpoint, packet, frame, error);
        }
        self.note_fragment(endpoint, packet, &origin)?;
        self.enter_at_source(
            from, endpoint, packet, frame, &change, &seen, admission, way,
        )
        .map(|handover| Outcome::HandOver(Handover { source, ..handover }))
    }

    /// Begins or notes what belongs to the packet, and makes its handover.
    #[expect(clippy::too_many_arguments, reason = "the end of one long walk")]
    fn enter_at_source(
        &mut self,
        from: EndpointIndex,
        endpoint: &Endpoint,
        packet: &Packet,
        frame: &mut FrameBytes<'_>,
        change: &Change,
        seen: &Seen,
        admission: Option<Admission>,
        way: CachedWay,
    ) -> Result<Handover, Drop> {
        let session = self.carry_out(change, &mut packet.clone(), frame)?;
        let flow = match &admission {
            Some(admission) => self
                .enter(admission, endpoint.id, Side::Local, &seen.packet)
                .inspect_err(|_| self.take_back(change, session))?,
            None => None,
        };
        self.remember_first(endpoint, packet);
        let is_opening = match &admission {
            Some(admission) => matches!(admission, Admission::New { .. }),
            None => matches!(change, Change::Begins(_)),
        };
        // Also what an error is about was begun by one side, and perhaps under another address.
        let known = admission.as_ref().and_then(Admission::ticket).or(flow);
        let mut handover = Handover {
            from,
            to: way.to,
            from_id: endpoint.id,
            to_id: way.to_id,
            generation: self.snapshot.generation,
            source: Identity::UNKNOWN,
            egress: admission.as_ref().and_then(Admission::verdict),
            next_hop: way.next_hop,
            payload_max: 0,
            flow,
            session: session.filter(|_| is_opening || matches!(change, Change::Begins(_))),
            is_opening,
            is_reply: false,
            is_translated: endpoint.kind == EndpointKind::Uplink && change.is_forward(),
            is_own: false,
            datagram: seen.datagram,
        };
        if let Some(flow) = known.and_then(|ticket| self.flows.flow_mut(ticket)) {
            flow.set_translated(flow.is_translated() || session.is_some());
            flow.set_way(way);
            handover.is_reply = flow.initiator() == Side::Remote;
            handover.is_translated = handover.is_reply && flow.is_translated();
            handover.payload_max = flow.payload_max.1;
        }
        Ok(handover)
    }

    /// Asks the pod's own policy. Host and uplink have none: there each peer only has to be known.
    fn admit_at_source(
        &mut self,
        endpoint: &Endpoint,
        seen: &Seen,
        frame: &FrameBytes<'_>,
    ) -> Result<Option<Admission>, Drop> {
        let snapshot = self.snapshot;
        let tables = snapshot.tables.as_deref().ok_or(Drop::NoTables)?;
        let destination = || snapshot.identity_of(tables, seen.packet.destination);
        if endpoint.kind == EndpointKind::Pod {
            return self
                .admit_piece(endpoint, Side::Local, frame, seen, destination)
                .map(Some);
        }
        match destination() {
            Identity::UNKNOWN => Err(Drop::IdentityUnknown),
            _ => Ok(None),
        }
    }

    /// The way out: as the flow knows it, else by address and route.
    fn way_of(
        &mut self,
        from: EndpointIndex,
        endpoint: &Endpoint,
        packet: &Packet,
        change: &Change,
        admission: Option<&Admission>,
    ) -> Result<CachedWay, Drop> {
        if let Some(Admission::Known { ticket, .. }) = admission
            && let Some(way) = self.flows.flow(*ticket).and_then(|flow| flow.way())
        {
            return Ok(way);
        }
        let way = self.find_way(packet.destination)?;
        if endpoint.kind == EndpointKind::Pod && way.to != from {
            return Ok(way);
        }
        let out = self.snapshot.endpoint(way.to).ok_or(Drop::EndpointGone)?;
        let is_known = match (endpoint.kind, out.kind) {
            (EndpointKind::Host | EndpointKind::Uplink, EndpointKind::Pod) => true,
            // From outside to a backend on another node, and back.
            (EndpointKind::Uplink, EndpointKind::Uplink) => !change.is_nothing(),
            // The kernel left it to us for its port, but it is the node's own.
            (EndpointKind::Uplink, EndpointKind::Host) => {
                self.snapshot.exits.is_shared(packet.destination)
            }
            // Host and uplink reach each other in the kernel.
            _ => false,
        };
        is_known.then_some(way).ok_or(Drop::NoRoute)
    }

    /// The way to an address, and the next hop's MAC address. What is missing is asked for.
    pub fn find_way(&mut self, destination: IpAddr) -> Result<CachedWay, Drop> {
        let way = self.snapshot.way_to(destination).ok_or(Drop::NoRoute)?;
        let out = self.snapshot.endpoint(way.to).ok_or(Drop::EndpointGone)?;
        let next_hop = way
            .next_hop
            .map(|address| self.snapshot.neighbours.get(&address).copied());
        let is_unknown = match next_hop {
            Some(mac) => mac.is_none(),
            None => out.peer_mac.is_none(),
        };
        if is_unknown {
            let address = way.next_hop.unwrap_or(destination);
            self.notices.wanted.add((way.to, address));
            return Err(Drop::NeighbourUnknown);
        }
        Ok(CachedWay {
            to: way.to,
            to_id: out.id,
            next_hop: next_hop.flatten(),
        })
    }

    /// Lets a packet wait for its next hop, which has been asked for. Nothing of it has been noted
    /// yet: when it goes on, it is judged anew.
    ///
    /// # Errors
    /// `NeighbourUnknown` when it has waited already, or too many do.
    fn await_neighbour(
        &mut self,
        from: EndpointIndex,
        endpoint: &Endpoint,
        destination: IpAddr,
    ) -> Result<Outcome, Drop> {
        let way = self.snapshot.way_to(destination);
        let way = way.filter(|_| !self.has_waited);
        let way = way.ok_or(Drop::NeighbourUnknown)?;
        let awaited = Awaited::Neighbour(way.to, way.next_hop.unwrap_or(destination));
        let slot = self.holds.hold(awaited, (from, endpoint.id), self.now);
        slot.map(Outcome::Hold)
    }

    /// Makes an ICMP error about a packet out of it, where one is permitted.
    ///
    /// # Errors
    /// Why the packet ends, without an error about it.
    pub fn write_error(
        &mut self,
        endpoint: &Endpoint,
        packet: &Packet,
        frame: &mut FrameBytes<'_>,
        error: Error,
    ) -> Result<u16, Drop> {
        let gateways = self.snapshot.router_addresses(packet.source);
        let is_nameless = match packet.source {
            IpAddr::V4(_) => gateways.0.is_unspecified(),
            IpAddr::V6(_) => gateways.1.is_unspecified(),
        };
        if is_nameless
            || !icmp_error::is_permitted(packet)
            || !self.notices.icmp_errors.take(self.now)
        {
            return Err(error.reason());
        }
        let link = Link {
            source: endpoint.own_mac,
            destination: packet.source_mac,
            gateways,
        };
        icmp_error::answer(frame, packet, error, &link).map_err(|_| error.reason())
    }

    /// Drops a packet with an ICMP error to its sender, where one is permitted.
    pub fn answer_error(
        &mut self,
        from: EndpointIndex,
        endpoint: &Endpoint,
        packet: &Packet,
        frame: &mut FrameBytes<'_>,
        error: Error,
    ) -> Result<Outcome, Drop> {
        let reason = error.reason();
        let length = self.write_error(endpoint, packet, frame, error)?;
        self.end(reason);
        Ok(Outcome::Answer {
            to: from,
            length,
            reason: Some(reason),
        })
    }
}

/// A known MAC address must be the frame's; no sender is a group.
fn check_source_mac(endpoint: &Endpoint, source: MacAddress) -> Result<(), Drop> {
    let is_foreign =
        endpoint.kind != EndpointKind::Uplink && endpoint.peer_mac.is_some_and(|mac| mac != source);
    if is_foreign || source.is_group() {
        return Err(Drop::SourceMacSpoofed);
    }
    Ok(())
}

/// Turns away what is never forwarded, whoever sends it.
fn steer(endpoint: &Endpoint, packet: &Packet) -> Result<(), Drop> {
    let destination = packet.destination;
    if address::is_multicast(destination) {
        return Err(if is_dhcp(packet) {
            Drop::Dhcp
        } else {
            Drop::Multicast
        });
    }
    if packet.destination_mac.is_group() {
        return Err(Drop::Multicast);
    }
    if packet.destination_mac != endpoint.own_mac {
        return Err(Drop::DestinationMacForeign);
    }
    if address::is_martian(destination) || address::is_link_local_v6(destination) {
        return Err(Drop::DestinationInvalid);
    }
    match packet.transport {
        Transport::Other(_) => Err(Drop::ProtocolUnknown),
        // In IPv6 only the first fragment tells. [RFC 8200 §4.5]
        Transport::LaterFragment(Protocol::Other(_)) if packet.source.is_ipv4() => {
            Err(Drop::ProtocolUnknown)
        }
        // [RFC 792: redirect]
        Transport::Icmp(message) if message.kind == 5 => Err(Drop::IcmpRedirect),
        _ => Ok(()),
    }
}

/// Client to server. [RFC 2131 §4.1; RFC 9915 §7.2]
fn is_dhcp(packet: &Packet) -> bool {
    matches!(
        packet.transport,
        Transport::Udp {
            ports: (68, 67) | (546, 547)
        }
    )
}
