//! Where addresses are exchanged: at pods for services, at the uplink for node ports and egress.

use crate::change::{Change, ErrorChange, tuple_at, tuple_or_drop};
use crate::exit_plan::{ExitReason, Leave};
use crate::packet::{Packet, TcpFlags, Transport};
use crate::quoted::quoted;
use crate::translate::{translate, translate_error};
use crate::translation::{
    InsertError, NewSession, SessionKind, SessionState, SessionTicket, Source, Tuple, Way,
    pick_address,
};
use crate::walk::Walk;
use crate::walk_service::connection_hash;
use crate::{
    CrowdedDestination, Datagram, Drop, Endpoint, EndpointId, EndpointKind, FrameBytes,
    FrontendKind, Handover, PortRange,
};
use portcullis_policy::Protocol;
use std::net::IpAddr;

impl Walk<'_> {
    /// What a packet becomes by a session that is there.
    pub fn known_change(
        &mut self,
        endpoint: EndpointId,
        packet: &Packet,
        datagram: Option<Datagram>,
        frame: &FrameBytes<'_>,
    ) -> Change {
        // Where nothing is translated, nothing is looked for.
        if self.sessions.count() == 0 {
            return Change::Nothing;
        }
        if packet.is_icmp_error() {
            return self.error_change(endpoint, packet, frame);
        }
        let Some(tuple) = tuple_at(packet, datagram) else {
            return Change::Nothing;
        };
        let Some((ticket, way)) = self.sessions.find(endpoint, &tuple, self.now) else {
            return Change::Nothing;
        };
        let Some(session) = self.sessions.session(ticket) else {
            return Change::Nothing;
        };
        // What begins anew where all has ended may go elsewhere now.
        if way == Way::Forward && session.state == SessionState::Closing && is_opening(packet) {
            self.sessions.remove(ticket);
            return Change::Nothing;
        }
        Change::Known {
            ticket,
            way,
            new: session.translated(way),
            is_hairpin: session.kind == SessionKind::Hairpin,
        }
    }

    /// What becomes of an ICMP error about a packet of a session. Whoever the error is for had sent
    /// the quoted packet, or what became of it: its reply finds the session.
    fn error_change(
        &mut self,
        endpoint: EndpointId,
        packet: &Packet,
        frame: &FrameBytes<'_>,
    ) -> Change {
        let quoted = quoted(frame, packet).and_then(|quoted| Tuple::of_quoted(&quoted));
        let Some(inner) = quoted.filter(|inner| inner.source == packet.destination) else {
            return Change::Nothing;
        };
        let Some((ticket, way)) = self.sessions.find(endpoint, &inner.reversed(), self.now) else {
            return Change::Nothing;
        };
        let Some(session) = self.sessions.session(ticket) else {
            return Change::Nothing;
        };
        let new = session.translated(way).reversed();
        Change::Error(ErrorChange {
            inner: new,
            source: (packet.source == inner.destination).then_some(new.destination),
            destination: Some(new.source),
            is_hairpin: session.kind == SessionKind::Hairpin,
        })
    }

    /// Carries a change out: the session is begun or noted, the bytes are rewritten.
    ///
    /// # Errors
    /// `SessionTableFull`, `SessionShareFull`, `NatSessionUnknown` when another packet was faster,
    /// and why bytes cannot be rewritten.
    pub fn carry_out(
        &mut self,
        change: &Change,
        packet: &mut Packet,
        frame: &mut FrameBytes<'_>,
    ) -> Result<Option<SessionTicket>, Drop> {
        let (ticket, way, new) = match change {
            Change::Nothing => return Ok(None),
            Change::Error(error) => {
                let (source, destination) = (error.source, error.destination);
                translate_error(frame, packet, &error.inner, source, destination)?;
                return Ok(None);
            }
            Change::Known {
                ticket, way, new, ..
            } => (*ticket, *way, *new),
            Change::Begins(session) => {
                let ticket = self.begin(session)?;
                (ticket, Way::Forward, session.after)
            }
        };
        self.note_session(ticket, way, packet);
        translate(frame, packet, &new).inspect_err(|_| self.take_back(change, Some(ticket)))?;
        Ok(Some(ticket))
    }

    /// Ends a session that a packet has just begun, and that it does not get any further with.
    pub fn take_back(&mut self, change: &Change, session: Option<SessionTicket>) {
        if let (Change::Begins(_), Some(ticket)) = (change, session) {
            self.sessions.remove(ticket);
        }
    }

    fn begin(&mut self, session: &NewSession) -> Result<SessionTicket, Drop> {
        self.sessions
            .insert(session, self.now)
            .map_err(|error| match error {
                InsertError::TupleTaken => Drop::NatSessionUnknown,
                InsertError::Full => Drop::SessionTableFull,
                InsertError::ShareSpent => Drop::SessionShareFull,
            })
    }

    fn note_session(&mut self, ticket: SessionTicket, way: Way, packet: &Packet) {
        let flags = match packet.transport {
            Transport::Tcp { flags, .. } => Some(flags),
            _ => None,
        };
        self.sessions
            .note(ticket, way, flags, packet.ip_length, self.now);
    }

    /// What a pod's packet becomes when it leaves by the uplink. Doubt never ends in the pod's own
    /// address.
    ///
    /// # Errors
    /// Why it may not leave with its own address, and cannot with another.
    pub fn change_at_exit(
        &mut self,
        handover: &Handover,
        uplink: &Endpoint,
        packet: &Packet,
        frame: &FrameBytes<'_>,
    ) -> Result<Change, Drop> {
        let snapshot = self.snapshot;
        // An index is used again: nobody's packet leaves as another's.
        let from = snapshot
            .endpoint(handover.from)
            .filter(|from| from.id == handover.from_id)
            .ok_or(Drop::EndpointGone)?;
        // What only passes through was translated where it came in.
        if from.kind == EndpointKind::Uplink {
            return Ok(Change::Nothing);
        }
        let change = self.known_change(uplink.id, packet, handover.datagram, frame);
        if !change.is_nothing() && self.keeps_source(&change) {
            return Ok(change);
        }
        // The answer to who came in through us must not show whom they came to.
        if handover.is_translated {
            return Err(Drop::NatSessionUnknown);
        }
        // Who began what is under way at a start was only guessed: it is the pod, by doubt.
        let is_guessed = handover.is_opening && is_under_way(packet);
        // Only what a pod begins gets another source.
        if from.kind != EndpointKind::Pod || handover.is_reply && !is_guessed {
            return Ok(Change::Nothing);
        }
        if is_guessed && let Some(session) = self.session_again(handover, uplink, packet) {
            // It is there at once: this packet goes its other way.
            return Ok(Change::Known {
                ticket: self.begin(&session)?,
                way: Way::Reply,
                new: session.before.reversed(),
                is_hairpin: false,
            });
        }
        let tables = snapshot.tables.as_deref().ok_or(Drop::NoTables)?;
        match snapshot.exits.leave(tables, from, packet.destination)? {
            Leave::Unchanged => Ok(Change::Nothing),
            Leave::As(..) if packet.is_icmp_error() => Err(Drop::IcmpErrorUnrelated),
            Leave::As(addresses, reason) => {
                self.new_exit(handover, uplink, packet, (addresses, reason))
            }
        }
    }

    /// The session of a packet that is the first of its flow to leave under another address.
    fn new_exit(
        &mut self,
        handover: &Handover,
        uplink: &Endpoint,
        packet: &Packet,
        (addresses, reason): (&[IpAddr], ExitReason),
    ) -> Result<Change, Drop> {
        let before = tuple_or_drop(packet, handover.datagram)?;
        self.check_begins(packet, Drop::NatSessionUnknown)?;
        let address = pick_address(addresses, packet.source).ok_or(Drop::EgressAddressMissing)?;
        let (kind, owner) = match reason {
            ExitReason::Policy(policy) => (SessionKind::Gateway, policy),
            ExitReason::Masquerade => (SessionKind::Masquerade, 0),
        };
        let source = Source {
            endpoint: uplink.id,
            before,
            address,
            destination: (before.destination, before.destination_port),
            range: self.range_of(address, packet)?,
        };
        let after = self.choose_source(&source)?;
        Ok(Change::Begins(NewSession {
            endpoint: uplink.id,
            charged: handover.from_id,
            before,
            after,
            kind,
            owner,
        }))
    }

    /// Whether a session may go on with the address that it leaves with: answers to an address
    /// that is ours no longer do not come back. Such a session ends.
    fn keeps_source(&mut self, change: &Change) -> bool {
        let Change::Known {
            ticket,
            way: Way::Forward,
            new,
            ..
        } = change
        else {
            return true;
        };
        let is_ours = self.snapshot.exits.is_egress_address(new.source);
        if !is_ours {
            self.sessions.remove(*ticket);
        }
        is_ours
    }

    /// The session that a backend spoke by before a restart: a client that waits for its answer says
    /// nothing that would begin it anew. Which frontend the client had asked is told by whom that
    /// leads to; where several do, the client may know nothing of it, and resets the connection.
    fn session_again(
        &mut self,
        handover: &Handover,
        uplink: &Endpoint,
        packet: &Packet,
    ) -> Option<NewSession> {
        let after = Tuple::of(packet)?.reversed();
        for service in self.snapshot.services.iter() {
            for (frontend, kind) in &service.frontends {
                let before = Tuple {
                    destination: frontend.address,
                    destination_port: frontend.port,
                    ..after
                };
                let is_alike = frontend.address.is_ipv4() == after.source.is_ipv4()
                    && frontend.protocol == packet.protocol()
                    && *kind != FrontendKind::ClusterIp;
                if !is_alike {
                    continue;
                }
                let picked = service.backends(*kind).pick(connection_hash(&before));
                let backend = (after.destination, after.destination_port);
                let is_picked = picked.is_some_and(|one| (one.address, one.port) == backend);
                if is_picked && self.sessions.find(uplink.id, &before, self.now).is_none() {
                    let (index, ..) = self.snapshot.services.find(*frontend)?;
                    return Some(NewSession {
                        endpoint: uplink.id,
                        charged: handover.from_id,
                        before,
                        after,
                        kind: SessionKind::NodePort,
                        owner: index.0,
                    });
                }
            }
        }
        None
    }

    pub fn choose_source(&mut self, source: &Source) -> Result<Tuple, Drop> {
        let chosen = self.sessions.choose_source(source, self.now);
        let is_crowded = chosen.map_or(true, |after| {
            let (endpoint, range) = (source.endpoint, source.range);
            self.sessions.is_nearly_full(endpoint, &after, range)
        });
        if is_crowded {
            self.notices.crowded.add(CrowdedDestination {
                egress: source.address,
                protocol: source.before.protocol,
                destination: source.destination,
                is_exhausted: chosen.is_err(),
            });
        }
        chosen.map_err(|_| Drop::NatPortsExhausted)
    }

    /// The ports that packets may leave an address from; for an echo its identifiers.
    ///
    /// # Errors
    /// `EgressAddressMissing` when none are ours: answers would not find back.
    pub fn range_of(&self, address: std::net::IpAddr, packet: &Packet) -> Result<PortRange, Drop> {
        let range = self.snapshot.exits.ports.get(&address).copied();
        let range = range.ok_or(Drop::EgressAddressMissing)?;
        let is_icmp = matches!(packet.protocol(), Protocol::Icmp | Protocol::Icmpv6);
        // An address of our own has all identifiers, one that the host uses too has its part.
        if is_icmp && !self.snapshot.exits.is_shared(address) {
            Ok(PortRange::IDENTIFIERS)
        } else {
            Ok(range)
        }
    }

    /// A session begins with the first packet of its flow: another would go on with a stranger.
    /// Only in the first seconds after a start what was under way goes on.
    pub fn check_begins(&self, packet: &Packet, reason: Drop) -> Result<(), Drop> {
        let is_first = match packet.transport {
            Transport::Tcp { flags, .. } => flags.is_opening() || self.is_learning(flags),
            Transport::LaterFragment(_) => return Err(Drop::FragmentUnknown),
            Transport::Icmp(message) => message.kind == 8,
            Transport::Icmpv6(message) => message.kind == 128,
            _ => true,
        };
        if is_first { Ok(()) } else { Err(reason) }
    }
}

impl Walk<'_> {
    /// Whether connections that are under way are taken over now.
    pub fn is_learning(&self, flags: TcpFlags) -> bool {
        let age = self.now.0.saturating_sub(self.settings.started.0);
        !flags.has(TcpFlags::RST) && u128::from(age) < self.settings.midstream_learn.as_nanos()
    }
}

/// Whether it is a segment in the middle of a connection.
fn is_under_way(packet: &Packet) -> bool {
    matches!(packet.transport, Transport::Tcp { flags, .. } if !flags.has(TcpFlags::SYN))
}

fn is_opening(packet: &Packet) -> bool {
    matches!(packet.transport, Transport::Tcp { flags, .. } if flags.is_opening())
}
