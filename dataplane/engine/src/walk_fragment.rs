//! How fragments pass: the first like any packet, the others by what the first one said.

use crate::change::Seen;
use crate::flow::Side;
use crate::flow_key::{FlowKey, tuple_of};
use crate::fragment::Datagram;
use crate::fragment_table::{FragmentKey, FragmentTicket};
use crate::hold::Awaited;
use crate::packet::Packet;
use crate::walk::{Admission, Walk};
use crate::{Drop, Endpoint, EndpointIndex, FrameBytes, Outcome};
use portcullis_policy::Identity;

/// What is known at its source of the datagram that a packet is a piece of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin {
    /// The packet says itself what it is: a whole datagram, or the first fragment of one.
    Itself,
    /// The first fragment said it.
    First(FragmentTicket, Datagram),
    /// A fragment ahead of the first.
    Missing,
}

impl Origin {
    /// What judges the packet in place of itself.
    pub fn datagram(&self) -> Option<Datagram> {
        match self {
            Self::First(_, datagram) => Some(*datagram),
            Self::Itself | Self::Missing => None,
        }
    }
}

impl Walk<'_> {
    /// Finds out what the first fragment of a packet's datagram said, where that is needed.
    pub fn origin_of(&mut self, endpoint: &Endpoint, packet: &Packet) -> Origin {
        let Some(fragment) = packet.fragment.filter(|_| packet.is_later_fragment()) else {
            return Origin::Itself;
        };
        let key = FragmentKey::of(endpoint.id, packet, &fragment);
        match self.fragments.find(&key, self.now) {
            Some((ticket, datagram)) => {
                self.describe_datagram(Some(datagram));
                Origin::First(ticket, datagram)
            }
            None => Origin::Missing,
        }
    }

    /// Lets a fragment wait for the first of its datagram.
    ///
    /// # Errors
    /// `FragmentUnknown` when it has waited already, `FragmentHoldFull`.
    pub fn hold(
        &mut self,
        from: EndpointIndex,
        endpoint: &Endpoint,
        packet: &Packet,
    ) -> Result<Outcome, Drop> {
        let fragment = packet.fragment.filter(|_| !self.has_waited);
        let fragment = fragment.ok_or(Drop::FragmentUnknown)?;
        let key = FragmentKey::of(endpoint.id, packet, &fragment);
        let slot = self
            .holds
            .hold(Awaited::First(key), (from, endpoint.id), self.now);
        slot.map(Outcome::Hold)
    }

    /// Notes in the record of a later fragment what the first one said.
    pub fn describe_datagram(&mut self, datagram: Option<Datagram>) {
        if let Some(datagram) = datagram {
            self.record.protocol = Some(datagram.protocol());
            self.record.ports = datagram.ports_told();
        }
    }

    /// `admit` for any packet: a later fragment is admitted by its datagram.
    ///
    /// # Errors
    /// The denial, or why the packet can belong to no flow.
    pub fn admit_piece(
        &mut self,
        subject: &Endpoint,
        sender: Side,
        frame: &FrameBytes<'_>,
        seen: &Seen,
        peer: impl FnOnce() -> Identity,
    ) -> Result<Admission, Drop> {
        let packet = &seen.packet;
        if !packet.is_later_fragment() {
            return self.admit(subject, sender, frame, seen, peer);
        }
        let datagram = seen.datagram.ok_or(Drop::FragmentUnknown)?;
        let key = FlowKey::of_datagram(subject.id, sender, packet, &datagram);
        // The first fragment entered the flow. Were it another's, or none, it did not pass.
        let ticket = self
            .flows
            .find(&key, self.now)
            .ok_or(Drop::FragmentUnknown)?;
        let initiator = self.flows.flow(ticket).map(|flow| flow.initiator());
        if datagram.is_opening && initiator != Some(sender) {
            return Err(Drop::FragmentUnknown);
        }
        let verdict = self.judge_again(subject, sender, ticket, peer)?;
        Ok(Admission::Known { ticket, verdict })
    }

    /// Takes note of a later fragment that is about to pass; of a first one only checks that it
    /// has not passed before.
    ///
    /// # Errors
    /// `FragmentOverlap` or `FragmentScattered`.
    pub fn note_fragment(
        &mut self,
        endpoint: &Endpoint,
        packet: &Packet,
        origin: &Origin,
    ) -> Result<(), Drop> {
        let Some(fragment) = packet.fragment else {
            return Ok(());
        };
        if let Origin::First(ticket, _) = origin {
            return self.fragments.note(*ticket, &fragment);
        }
        let key = FragmentKey::of(endpoint.id, packet, &fragment);
        let datagram = tuple_of(packet).map(|tuple| Datagram::of(packet.protocol(), &tuple));
        self.fragments
            .check_first(&key, datagram, &fragment, self.now)
    }

    /// Remembers the datagram whose first fragment passes: the wait of the others is over.
    ///
    /// The others of an ICMP error stay unknown: it quotes less than any link takes.
    pub fn remember_first(&mut self, endpoint: &Endpoint, packet: &Packet) {
        if let Some(fragment) = packet.fragment
            && let Some(tuple) = tuple_of(packet)
        {
            let key = FragmentKey::of(endpoint.id, packet, &fragment);
            let datagram = Datagram::of(packet.protocol(), &tuple);
            self.fragments.remember(key, datagram, &fragment, self.now);
            self.holds.release(&key);
        }
    }
}
