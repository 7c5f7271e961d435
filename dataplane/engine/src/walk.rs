//! What both halves of a packet's walk share: find its flow, on a miss ask policy.

use crate::change::Seen;
use crate::decide::{Question, decide};
use crate::endings::{is_telling, totals_of};
use crate::engine::EngineSettings;
use crate::flow::{Flow, Side};
use crate::flow_key::{FlowKey, Role, tuple_of};
use crate::flow_table::{FlowTable, FlowTicket};
use crate::fragment_table::FragmentTable;
use crate::hold::Holds;
use crate::notice::Notices;
use crate::packet::{Packet, TcpFlags, Transport};
use crate::quoted::quoted;
use crate::reset::Resets;
use crate::translation::Sessions;
use crate::{
    AffinityTable, Drop, Endpoint, EndpointId, EndpointKind, FrameBytes, Now, Outcome, Record,
    RecordKind, Snapshot, address,
};
use portcullis_policy::{Identity, RuleId, Tables, Verdict};

/// One half of one packet's walk.
pub(crate) struct Walk<'a> {
    pub snapshot: &'a Snapshot,
    pub settings: &'a EngineSettings,
    pub flows: &'a mut FlowTable,
    pub fragments: &'a mut FragmentTable,
    pub holds: &'a mut Holds,
    pub notices: &'a mut Notices,
    pub resets: &'a mut Resets,
    pub sessions: &'a mut Sessions,
    pub affinity: &'a mut AffinityTable,
    pub now: Now,
    /// Whether the frame has waited, for the first fragment of its datagram or for its next hop: it
    /// does so once.
    pub has_waited: bool,
    /// What will be told, as far as it is known by now.
    pub record: Record,
    /// Rules that have decided about a flow that is new, which count unless it has to wait.
    pub deciding: [Option<RuleId>; 2],
    /// Whether the record is to be told at the end.
    pub is_telling: bool,
}

/// How a packet may pass at a pod.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Admission {
    /// It belongs to an entry. The verdict is there when this packet made us ask again.
    Known {
        ticket: FlowTicket,
        verdict: Option<Verdict>,
    },
    /// It begins a flow that policy allows; `enter` puts it into the table.
    New { flow: Flow, verdict: Verdict },
    /// An ICMP error about an entry.
    Related { ticket: FlowTicket },
}

impl Admission {
    /// What policy said, when this packet made us ask.
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Known { verdict, .. } => *verdict,
            Self::New { verdict, .. } => Some(*verdict),
            Self::Related { .. } => None,
        }
    }

    /// The entry that was there before.
    pub fn ticket(&self) -> Option<FlowTicket> {
        match self {
            Self::Known { ticket, .. } | Self::Related { ticket } => Some(*ticket),
            Self::New { .. } => None,
        }
    }
}

impl Walk<'_> {
    /// Ends the walk in a drop and makes its record ready.
    pub fn end(&mut self, reason: Drop) -> Outcome {
        self.is_telling = true;
        if !matches!(self.record.kind, RecordKind::Revoked(_)) {
            self.record.kind = RecordKind::Drop(reason);
        }
        if let (Some(tables), Some((_, destination))) =
            (self.snapshot.tables.as_deref(), self.record.addresses)
        {
            self.record.destination_identity = self.snapshot.identity_of(tables, destination);
        }
        Outcome::Drop(reason)
    }

    /// Notes in the record what a packet says of itself.
    pub fn describe(&mut self, packet: &Packet) {
        self.record.addresses = Some((packet.source, packet.destination));
        self.record.protocol = Some(packet.protocol());
        self.record.ports = packet.ports();
        match packet.transport {
            Transport::Tcp { flags, .. } => self.record.tcp_flags = flags,
            Transport::Icmp(message) | Transport::Icmpv6(message) => {
                self.record.icmp_code = message.code;
            }
            _ => {}
        }
    }

    /// The tables, without which nothing passes.
    pub fn tables(&self) -> Result<&'_ Tables, Drop> {
        self.snapshot.tables.as_deref().ok_or(Drop::NoTables)
    }

    /// Who sent a packet that came in at this endpoint: the interface tells, the source address
    /// has to fit.
    pub fn source_of(&self, from: &Endpoint, packet: &Packet) -> Result<Identity, Drop> {
        let source = packet.source;
        let is_own = from.has_address(source);
        if from.kind == EndpointKind::Pod {
            return match (is_own, from.identity) {
                (false, _) => Err(Drop::SourceAddressSpoofed),
                (true, Identity::UNKNOWN) => Err(Drop::IdentityUnknown),
                (true, identity) => Ok(identity),
            };
        }
        if address::is_martian(source)
            || address::is_multicast(source)
            || address::is_link_local_v6(source)
        {
            return Err(Drop::SourceInvalid);
        }
        if from.kind == EndpointKind::Host && is_own {
            return Ok(Identity::HOST);
        }
        if self.snapshot.owner_of(source).is_some() {
            return Err(Drop::SourceAddressSpoofed);
        }
        match self.tables()?.identity_of(source) {
            Identity::UNKNOWN => Err(Drop::IdentityUnknown),
            // The node speaks from its own interface only.
            Identity::HOST if from.kind == EndpointKind::Uplink => Err(Drop::SourceAddressSpoofed),
            identity => Ok(identity),
        }
    }

    /// Finds the flow of a packet at a pod, and asks policy when there is none, or when the
    /// entry was judged under other tables. `sender` is the side that sent the packet.
    ///
    /// # Errors
    /// The denial, or why the packet can belong to no flow.
    pub fn admit(
        &mut self,
        subject: &Endpoint,
        sender: Side,
        frame: &FrameBytes<'_>,
        seen: &Seen,
        peer: impl FnOnce() -> Identity,
    ) -> Result<Admission, Drop> {
        let packet = &seen.packet;
        let Some(tuple) = tuple_of(packet) else {
            return self.relate(subject, sender, frame, seen);
        };
        let key = FlowKey::of(subject.id, sender, packet, &tuple);
        if let Some(ticket) = self.flows.find(&key, self.now)
            && let Some(flow) = self.flows.flow(ticket)
        {
            // A SYN from the answering side is a connection of its own: taken for a part of this
            // one it would pass unjudged.
            let is_another =
                tuple.role == Role::Opens && (flow.initiator() != sender || flow.is_closing());
            if !is_another {
                let verdict = self.judge_again(subject, sender, ticket, peer)?;
                return Ok(Admission::Known { ticket, verdict });
            }
        }
        let initiator = self.initiator_of(sender, packet, tuple.role)?;
        let verdict = self.ask(subject, sender, &key, initiator, peer(), true)?;
        let mut flow = Flow::new(
            key,
            initiator,
            tuple.role,
            self.snapshot.generation,
            self.now,
        );
        flow.judged(self.snapshot.generation, verdict.rule);
        Ok(Admission::New { flow, verdict })
    }

    /// Puts an admitted packet's flow into the table, as a part of the `payer`'s share, or notes the
    /// packet in its entry.
    ///
    /// # Errors
    /// `FlowTableFull`, `FlowShareFull` or `HalfOpenFull`.
    pub fn enter(
        &mut self,
        admission: &Admission,
        payer: EndpointId,
        sender: Side,
        packet: &Packet,
    ) -> Result<Option<FlowTicket>, Drop> {
        match admission {
            Admission::Related { .. } => Ok(None),
            Admission::Known { ticket, .. } => {
                self.flows.note(*ticket, sender, packet, self.now)?;
                Ok(Some(*ticket))
            }
            Admission::New { flow, .. } => {
                let mut flow = *flow;
                flow.set_telling(is_telling(self.snapshot, &flow));
                flow.note(sender, packet, self.now);
                self.flows.insert_for(payer, flow, self.now).map(Some)
            }
        }
    }

    /// Lets an ICMP error pass when the packet it quotes belongs to an entry of this pod.
    fn relate(
        &mut self,
        subject: &Endpoint,
        sender: Side,
        frame: &FrameBytes<'_>,
        seen: &Seen,
    ) -> Result<Admission, Drop> {
        // The quoted packet went the other way.
        let quoter = sender.other();
        let key = match &seen.inner {
            Some(inner) if inner.source == seen.packet.destination => FlowKey::between(
                subject.id,
                quoter,
                inner.protocol,
                0,
                (inner.source, inner.destination),
                (inner.source_port, inner.destination_port),
            ),
            Some(_) => return Err(Drop::IcmpErrorUnrelated),
            None => quoted(frame, &seen.packet)
                .filter(|quoted| quoted.source == seen.packet.destination)
                .map(|quoted| FlowKey::of_quoted(subject.id, quoter, &quoted))
                .ok_or(Drop::IcmpErrorUnrelated)?,
        };
        let ticket = self
            .flows
            .find(&key, self.now)
            .ok_or(Drop::IcmpErrorUnrelated)?;
        // The error may come from a router: the flow is judged by its own peer.
        let snapshot = self.snapshot;
        let tables = snapshot.tables.as_deref().ok_or(Drop::NoTables)?;
        let peer = || snapshot.identity_of(tables, key.addresses().1);
        self.judge_again(subject, sender, ticket, peer)?;
        Ok(Admission::Related { ticket })
    }

    /// Asks again, in the initiator's direction, when the entry is of another generation. Judged
    /// alone, a reply looks like an intruder.
    pub fn judge_again(
        &mut self,
        subject: &Endpoint,
        sender: Side,
        ticket: FlowTicket,
        peer: impl FnOnce() -> Identity,
    ) -> Result<Option<Verdict>, Drop> {
        let Some(flow) = self.flows.flow(ticket) else {
            return Err(Drop::FlowUnknown);
        };
        if flow.is_of(self.snapshot.generation) {
            return Ok(None);
        }
        let (key, initiator, totals) = (flow.key, flow.initiator(), totals_of(flow));
        match self.ask(subject, sender, &key, initiator, peer(), false) {
            Ok(verdict) => {
                if let Some(flow) = self.flows.flow_mut(ticket) {
                    flow.judged(self.snapshot.generation, verdict.rule);
                }
                Ok(Some(verdict))
            }
            Err(reason) => {
                self.record.totals = totals;
                // Read in the packet's direction, a reply would be denied by the wrong policy.
                self.record.is_reply = Some(sender != initiator);
                self.owe_resets(subject, ticket);
                self.flows.remove(ticket);
                self.record.kind = RecordKind::Revoked(reason);
                Err(reason)
            }
        }
    }

    /// Asks policy, and notes in the record what it said. Of a new flow the rules are noted, too.
    fn ask(
        &mut self,
        subject: &Endpoint,
        sender: Side,
        key: &FlowKey,
        initiator: Side,
        peer: Identity,
        is_new: bool,
    ) -> Result<Verdict, Drop> {
        let question = Question {
            initiator,
            peer,
            protocol: key.protocol(),
            port: key.service_port(initiator),
        };
        let answer = decide(self.tables()?, subject, &question);
        let (told, enforced) = match &answer {
            Ok(permission) => (Some(permission.told()), Some(permission.enforced)),
            Err(denial) => (denial.verdict, denial.verdict),
        };
        match sender {
            Side::Local => self.record.egress = told,
            Side::Remote => self.record.ingress = told,
        }
        if is_new {
            let rule = |verdict: Option<Verdict>| verdict.and_then(|verdict| verdict.rule);
            self.deciding = [rule(told), rule(enforced.filter(|_| told != enforced))];
        }
        answer
            .map(|permission| permission.told())
            .map_err(|denial| denial.reason)
    }

    /// Which side began the flow of a packet that has no entry.
    fn initiator_of(&self, sender: Side, packet: &Packet, role: Role) -> Result<Side, Drop> {
        let flags = match role {
            Role::Opens | Role::MayOpen => return Ok(sender),
            Role::Answers => return Err(Drop::FlowUnknown),
            Role::Continues(flags) => flags,
        };
        if !self.is_learning(flags) {
            return Err(Drop::FlowUnknown);
        }
        let (source, destination) = packet.ports();
        // Who answers a SYN did not begin; otherwise servers have the lower port.
        if flags.has(TcpFlags::SYN) || source < destination {
            Ok(sender.other())
        } else {
            Ok(sender)
        }
    }
}
