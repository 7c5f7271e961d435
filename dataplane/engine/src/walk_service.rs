//! Services: a new connection to one gets a backend, those that are there keep theirs.

use crate::change::{Change, tuple_at};
use crate::flow::Side;
use crate::flow_key::FlowKey;
use crate::icmp_error::Error;
use crate::packet::{Packet, Transport};
use crate::translation::{NewSession, SessionKind, SessionTicket, Source, Tuple, Way};
use crate::walk::Walk;
use crate::{
    Backend, BackendSet, Datagram, Drop, Endpoint, EndpointIndex, EndpointKind, FrameBytes,
    Frontend, FrontendKind, Outcome, ServiceIndex, ServicePort,
};
use siphasher::sip::SipHasher13;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whom a pod is told that its own packet comes from, when a service led it back to itself: its
/// stack believes no packet from its own address. [Cilium, `ipv4-service-loopback-address`]
const LOOPBACK_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 42, 1);
/// The same for IPv6, from the block that leads nowhere. [RFC 6666]
const LOOPBACK_V6: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0x2a, 1);

impl Walk<'_> {
    /// What a packet becomes at its source, before policy sees it.
    ///
    /// # Errors
    /// Why it cannot go where it is sent to. `ServiceWithoutBackend`, `ServicePortUnknown` and
    /// `ServiceBackendGone` are to be told to the sender.
    pub fn change_at_source(
        &mut self,
        endpoint: &Endpoint,
        packet: &Packet,
        datagram: Option<Datagram>,
        frame: &FrameBytes<'_>,
    ) -> Result<Change, Drop> {
        match endpoint.kind {
            EndpointKind::Host => Ok(Change::Nothing),
            EndpointKind::Pod => self.change_at_pod(endpoint, packet, datagram, frame),
            EndpointKind::Uplink => self.change_at_entry(endpoint, packet, datagram, frame),
        }
    }

    fn change_at_pod(
        &mut self,
        endpoint: &Endpoint,
        packet: &Packet,
        datagram: Option<Datagram>,
        frame: &FrameBytes<'_>,
    ) -> Result<Change, Drop> {
        let snapshot = self.snapshot;
        let services = &*snapshot.services;
        let is_loopback = packet.destination == loopback_like(packet.destination);
        if !is_loopback && !services.has_address(packet.destination) {
            return Ok(Change::Nothing);
        }
        let change = self.known_change(endpoint.id, packet, datagram, frame);
        if let Change::Known {
            ticket, way, new, ..
        } = change
            && (way == Way::Reply || self.keeps_backend(ticket, packet, &new)?)
        {
            return Ok(change);
        }
        if matches!(change, Change::Error(_)) {
            return Ok(change);
        }
        if is_loopback {
            return Err(Drop::NatSessionUnknown);
        }
        let before = tuple_at(packet, datagram);
        let found = before.and_then(|before| Some((before, services.find(frontend_of(&before))?)));
        let Some((before, (index, service, kind))) = found else {
            // A service has only its ports, and answers no ping; the node's own address has more.
            return if services.is_virtual(packet.destination) {
                Err(Drop::ServicePortUnknown)
            } else {
                Ok(Change::Nothing)
            };
        };
        self.check_begins(packet, Drop::FlowUnknown)?;
        let backends = service.backends(kind);
        let first = self.pick(&before, service, backends)?;
        for backend in candidates(first, backends, &before) {
            let is_own = endpoint.has_address(backend.address);
            let source = if is_own {
                loopback_like(before.source)
            } else {
                before.source
            };
            let after = Tuple {
                source,
                destination: backend.address,
                destination_port: backend.port,
                ..before
            };
            if self.is_free(endpoint, &before, &after) {
                let kind = if is_own {
                    SessionKind::Hairpin
                } else {
                    SessionKind::Service
                };
                return Ok(Change::Begins(new_session(
                    endpoint, before, after, kind, index,
                )));
            }
        }
        Err(Drop::NatPortsExhausted)
    }

    /// Whether a connection may stay with its backend. A datagram that cannot finds another one, as
    /// does a connection that is still being opened.
    ///
    /// # Errors
    /// `ServiceBackendGone`.
    fn keeps_backend(
        &mut self,
        ticket: SessionTicket,
        packet: &Packet,
        new: &Tuple,
    ) -> Result<bool, Drop> {
        let snapshot = self.snapshot;
        let services = &*snapshot.services;
        let before = Tuple {
            destination: packet.destination,
            ..*new
        };
        let found = self.sessions.session(ticket).map(|session| session.before);
        let frontend = frontend_of(&found.unwrap_or(before));
        let is_there = services.find(frontend).is_some_and(|(_, service, _)| {
            let state = service
                .all_backends()
                .backend_state(new.destination, new.destination_port);
            state.is_some()
        });
        if is_there || self.is_alive(new.destination) && is_connection(packet) {
            return Ok(true);
        }
        self.sessions.remove(ticket);
        let is_opening =
            matches!(packet.transport, Transport::Tcp { flags, .. } if flags.is_opening());
        if is_connection(packet) && !is_opening {
            return Err(Drop::ServiceBackendGone);
        }
        Ok(false)
    }

    /// Whether somebody known is still at a backend's address: a connection that has begun ends
    /// with its pod, not with its entry in a list.
    fn is_alive(&self, backend: IpAddr) -> bool {
        let tables = self.snapshot.tables.as_deref();
        tables.is_some_and(|tables| {
            self.snapshot.identity_of(tables, backend) != portcullis_policy::Identity::UNKNOWN
        })
    }

    /// Whether neither a session nor a flow of the pod has these tuples already.
    fn is_free(&mut self, endpoint: &Endpoint, before: &Tuple, after: &Tuple) -> bool {
        let reply = after.reversed();
        let key = FlowKey::between(
            endpoint.id,
            Side::Local,
            after.protocol,
            0,
            (after.source, after.destination),
            (after.source_port, after.destination_port),
        );
        self.sessions.find(endpoint.id, before, self.now).is_none()
            && self.sessions.find(endpoint.id, &reply, self.now).is_none()
            && self.flows.find(&key, self.now).is_none_or(|ticket| {
                let flow = self.flows.flow(ticket);
                flow.is_none_or(|flow| flow.is_translated())
            })
    }

    /// What a packet from outside becomes: the answer to what left under another address, or a
    /// connection to a service.
    fn change_at_entry(
        &mut self,
        uplink: &Endpoint,
        packet: &Packet,
        datagram: Option<Datagram>,
        frame: &FrameBytes<'_>,
    ) -> Result<Change, Drop> {
        let snapshot = self.snapshot;
        let destination = packet.destination;
        let is_egress = snapshot.exits.is_egress_address(destination);
        if !is_egress && !snapshot.services.has_address(destination) {
            return Ok(Change::Nothing);
        }
        let change = self.known_change(uplink.id, packet, datagram, frame);
        let is_kept = match &change {
            Change::Known {
                ticket,
                way: Way::Forward,
                new,
                ..
            } => self.keeps_backend(*ticket, packet, new)?,
            Change::Nothing => false,
            _ => true,
        };
        if is_kept {
            return Ok(change);
        }
        let found = tuple_at(packet, datagram).and_then(|before| {
            let found = snapshot.services.find(frontend_of(&before));
            let (index, service, kind) =
                found.filter(|(_, _, kind)| *kind != FrontendKind::ClusterIp)?;
            Some((before, index, service, kind))
        });
        let Some((before, index, service, kind)) = found else {
            // What is not ours on an address that we share with the node is the node's.
            return if snapshot.exits.is_shared(destination) {
                Ok(Change::Nothing)
            } else if packet.is_icmp_error() {
                Err(Drop::IcmpErrorUnrelated)
            } else {
                Err(Drop::NatSessionUnknown)
            };
        };
        self.check_begins(packet, Drop::NatSessionUnknown)?;
        let backends = service.backends(kind);
        let first = self.pick(&before, service, backends)?;
        for backend in candidates(first, backends, &before) {
            let Some(after) = self.entry_tuple(uplink, packet, &before, backend)? else {
                continue;
            };
            return Ok(Change::Begins(new_session(
                uplink,
                before,
                after,
                SessionKind::NodePort,
                index,
            )));
        }
        Err(Drop::NatPortsExhausted)
    }

    /// A backend on this node sees the client itself; one elsewhere sees this node, so that its
    /// answer comes back here. None when another connection has the tuple.
    fn entry_tuple(
        &mut self,
        uplink: &Endpoint,
        packet: &Packet,
        before: &Tuple,
        backend: &Backend,
    ) -> Result<Option<Tuple>, Drop> {
        let owner = self.snapshot.owner_of(backend.address);
        if owner.is_some_and(|(_, endpoint)| endpoint.kind == EndpointKind::Pod) {
            let after = Tuple {
                destination: backend.address,
                destination_port: backend.port,
                ..*before
            };
            let reply = after.reversed();
            let taken = self.sessions.find(uplink.id, &reply, self.now);
            return Ok(taken.is_none().then_some(after));
        }
        let addresses = &self.snapshot.exits.node;
        let address = crate::translation::pick_address(addresses, before.source)
            .ok_or(Drop::EgressAddressMissing)?;
        let source = Source {
            endpoint: uplink.id,
            before: *before,
            address,
            destination: (backend.address, backend.port),
            range: self.range_of(address, packet)?,
        };
        self.choose_source(&source).map(Some)
    }

    fn pick(
        &mut self,
        before: &Tuple,
        service: &ServicePort,
        backends: &BackendSet,
    ) -> Result<(IpAddr, u16), Drop> {
        let hash = connection_hash(before);
        self.affinity
            .pick(before.source, service, backends, hash, self.now)
            .map(|backend| (backend.address, backend.port))
            .ok_or(Drop::ServiceWithoutBackend)
    }

    /// Tells the sender at once that nobody is there: a reset, or an ICMP error.
    pub fn refuse(
        &mut self,
        from: EndpointIndex,
        endpoint: &Endpoint,
        packet: &Packet,
        frame: &mut FrameBytes<'_>,
        reason: Drop,
    ) -> Result<Outcome, Drop> {
        if is_connection(packet) {
            return self.answer_reset(from, endpoint, packet, frame, reason);
        }
        self.answer_error(
            from,
            endpoint,
            packet,
            frame,
            Error::PortUnreachable(reason),
        )
    }
}

/// The backend that was picked, then the others in the order in which they would be.
fn candidates<'a>(
    first: (IpAddr, u16),
    backends: &'a BackendSet,
    before: &Tuple,
) -> impl Iterator<Item = &'a Backend> {
    let hash = connection_hash(before);
    let others = (0..).map_while(move |tries| backends.next_pick(hash, tries));
    let rest = others.filter(move |backend| (backend.address, backend.port) != first);
    backends
        .find_candidate(first.0, first.1)
        .into_iter()
        .chain(rest)
        // A pod that has as many connections to each of them from one port has a fault.
        .take(8)
}

/// Without a secret: after a restart a connection finds its backend again.
pub(crate) fn connection_hash(before: &Tuple) -> u64 {
    let mut bytes = [0; 37];
    for (address, at) in [(before.source, 0), (before.destination, 16)] {
        let octets = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        bytes[at..at + 16].copy_from_slice(&octets);
    }
    bytes[32..34].copy_from_slice(&before.source_port.to_be_bytes());
    bytes[34..36].copy_from_slice(&before.destination_port.to_be_bytes());
    bytes[36] = before.protocol;
    SipHasher13::new().hash(&bytes)
}

fn new_session(
    endpoint: &Endpoint,
    before: Tuple,
    after: Tuple,
    kind: SessionKind,
    index: ServiceIndex,
) -> NewSession {
    NewSession {
        endpoint: endpoint.id,
        charged: endpoint.id,
        before,
        after,
        kind,
        owner: index.0,
    }
}

fn frontend_of(before: &Tuple) -> Frontend {
    Frontend {
        address: before.destination,
        protocol: portcullis_policy::Protocol::from_number(before.protocol),
        port: before.destination_port,
    }
}

fn loopback_like(family: IpAddr) -> IpAddr {
    match family {
        IpAddr::V4(_) => IpAddr::V4(LOOPBACK_V4),
        IpAddr::V6(_) => IpAddr::V6(LOOPBACK_V6),
    }
}

/// Whether a packet is part of a connection that a reset ends.
fn is_connection(packet: &Packet) -> bool {
    matches!(packet.transport, Transport::Tcp { .. })
}
