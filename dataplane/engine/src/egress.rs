//! The egress half: from the interface a frame came in at to the endpoint it is to go out at.

use crate::flow::{CachedWay, Side};
use crate::fragment::Datagram;
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
        let admission = match self.admit_at_source(endpoint, packet, frame, datagram) {
            Err(Drop::FlowUnknown) => return self.answer_reset(from, endpoint, packet, frame),
            admission => admission?,
        };
        let way = self.way_of(from, endpoint, packet, admission.as_ref())?;
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
        let flow = match &admission {
            Some(admission) => self.enter(admission, Side::Local, packet)?,
            None => None,
        };
        self.remember_first(endpoint, packet);
        let (mut payload_max, mut is_reply) = (0, false);
        if let Some(flow) = flow.and_then(|ticket| self.flows.flow_mut(ticket)) {
            is_reply = flow.initiator() == Side::Remote;
            if !matches!(admission, Some(Admission::Related)) {
                flow.set_way(way);
            }
            payload_max = flow.payload_max.1;
        }
        Ok(Outcome::HandOver(Handover {
            from,
            to: way.to,
            from_id: endpoint.id,
            to_id: way.to_id,
            generation: self.snapshot.generation,
            source,
            egress: admission.as_ref().and_then(Admission::verdict),
            next_hop: way.next_hop,
            payload_max,
            flow,
            is_opening: matches!(admission, Some(Admission::New { .. })),
            is_reply,
            is_own: false,
            datagram,
        }))
    }

    /// Asks the pod's own policy. Host and uplink have none: there each peer only has to be known.
    fn admit_at_source(
        &mut self,
        endpoint: &Endpoint,
        packet: &Packet,
        frame: &FrameBytes<'_>,
        datagram: Option<Datagram>,
    ) -> Result<Option<Admission>, Drop> {
        let snapshot = self.snapshot;
        let tables = snapshot.tables.as_deref().ok_or(Drop::NoTables)?;
        let destination = || snapshot.identity_of(tables, packet.destination);
        if endpoint.kind == EndpointKind::Pod {
            return self
                .admit_piece(endpoint, Side::Local, frame, packet, datagram, destination)
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
        admission: Option<&Admission>,
    ) -> Result<CachedWay, Drop> {
        if let Some(Admission::Known { ticket, .. }) = admission
            && let Some(way) = self.flows.flow(*ticket).and_then(|flow| flow.way())
        {
            return Ok(way);
        }
        let way = self.find_way(packet.destination)?;
        if way.to == from {
            return Err(Drop::NoRoute);
        }
        let out = self.snapshot.endpoint(way.to).ok_or(Drop::EndpointGone)?;
        // Host and uplink reach the pods through us; each other they reach in the kernel.
        if endpoint.kind != EndpointKind::Pod && out.kind != EndpointKind::Pod {
            return Err(Drop::NoRoute);
        }
        Ok(way)
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

    /// Drops a packet with an ICMP error to its sender, where one is permitted.
    fn answer_error(
        &mut self,
        from: EndpointIndex,
        endpoint: &Endpoint,
        packet: &Packet,
        frame: &mut FrameBytes<'_>,
        error: Error,
    ) -> Result<Outcome, Drop> {
        let reason = match error {
            Error::TimeExceeded => Drop::TtlExceeded,
            Error::PacketTooBig(_) => Drop::PacketTooBig,
        };
        let gateways = self.snapshot.gateway_addresses;
        let is_nameless = match packet.source {
            IpAddr::V4(_) => gateways.0.is_unspecified(),
            IpAddr::V6(_) => gateways.1.is_unspecified(),
        };
        if is_nameless
            || !icmp_error::is_permitted(packet)
            || !self.notices.icmp_errors.take(self.now)
        {
            return Err(reason);
        }
        let link = Link {
            source: endpoint.own_mac,
            destination: packet.source_mac,
            gateways,
        };
        let Ok(length) = icmp_error::answer(frame, packet, error, &link) else {
            return Err(reason);
        };
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
