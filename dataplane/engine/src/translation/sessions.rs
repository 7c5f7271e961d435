//! The sessions of one worker: opened, found, kept alive, ended; of fixed number.

use super::shares::Shares;
use super::state::{SessionState, SessionTimeouts};
use super::table::{SessionTicket, Table};
use super::{Session, SessionKind, SessionView, Traffic, Tuple, Way};
use crate::links::NONE;
use crate::nat_ports::{Destination, DestinationUse, PortRange, Ports};
use crate::packet::TcpFlags;
use crate::wheel::Wheel;
use crate::{EndpointId, Now};
use siphasher::sip::SipHasher13;

/// Sessions that one call of `expire` looks at.
pub(crate) const EXPIRE_SESSIONS_MAX: usize = 256;
/// Slots that one call of `list` looks at.
pub(crate) const LIST_SLOTS_MAX: usize = 256;

/// What a table of sessions is made with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionSettings {
    /// Sessions at once, below 2^31.
    pub sessions_max: u32,
    /// The part of them that one endpoint may have, in percent.
    pub share_percent: u8,
    /// Bitmaps of ports, 8 KiB each: for destinations that take more than a quarter of a range.
    pub bitmaps_max: u32,
    pub timeouts: SessionTimeouts,
    /// The secret key of the hash.
    pub hash_key: (u64, u64),
}

/// A session to be opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewSession {
    /// The endpoint at which it translates.
    pub endpoint: EndpointId,
    /// The endpoint whose share it takes: at the uplink the pod that sent the packet.
    pub charged: EndpointId,
    pub before: Tuple,
    pub after: Tuple,
    pub kind: SessionKind,
    pub owner: u32,
}

/// Why a session cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InsertError {
    /// Another session translates one of its tuples, there or back.
    TupleTaken,
    /// Every slot is in use.
    Full,
    /// The endpoint has its share already.
    ShareSpent,
}

/// The sessions of one worker.
#[derive(Debug)]
pub(crate) struct Sessions {
    pub(super) table: Table,
    pub(super) timeouts: SessionTimeouts,
    pub(crate) ports: Ports,
    wheel: Wheel,
    shares: Shares,
    share_max: u32,
}

impl Sessions {
    /// A table without sessions. Allocates all that it will ever need.
    pub fn new(settings: &SessionSettings) -> Self {
        let (key0, key1) = settings.hash_key;
        let hasher = SipHasher13::new_with_keys(key0, key1);
        let sessions_max = settings.sessions_max;
        let share_max = u64::from(sessions_max) * u64::from(settings.share_percent) / 100;
        Self {
            table: Table::new(sessions_max, hasher),
            timeouts: settings.timeouts,
            ports: Ports::new(sessions_max, settings.bitmaps_max, hasher),
            wheel: Wheel::new(sessions_max),
            shares: Shares::new(sessions_max, hasher),
            share_max: share_max.max(1) as u32,
        }
    }

    /// Sessions in the table, those past their time that nobody has met yet included.
    pub fn count(&self) -> usize {
        self.table.count()
    }

    /// The live session that translates this tuple at this endpoint, and which way.
    pub fn find(
        &self,
        endpoint: EndpointId,
        tuple: &Tuple,
        now: Now,
    ) -> Option<(SessionTicket, Way)> {
        let (slot, way) = find_live(&self.table, &self.timeouts, endpoint, tuple, now)?;
        Some((self.table.ticket(slot), way))
    }

    pub fn session(&self, ticket: SessionTicket) -> Option<&Session> {
        self.table.session(self.table.slot_of(ticket)?)
    }

    /// Opens a session; its first packet has yet to be noted.
    ///
    /// # Errors
    /// `TupleTaken`, `ShareSpent`, or `Full` when one sweep frees no slot.
    pub fn insert(&mut self, new: &NewSession, now: Now) -> Result<SessionTicket, InsertError> {
        let reply = new.after.reversed();
        if new.before == reply {
            return Err(InsertError::TupleTaken);
        }
        for key in [&new.before, &reply] {
            let Some((slot, _)) = self.table.find(new.endpoint, key) else {
                continue;
            };
            if !self.is_expired(slot, now) {
                return Err(InsertError::TupleTaken);
            }
            self.remove_slot(slot);
        }
        self.make_room(new.charged, now)?;
        let slot = self.table.insert(Session {
            before: new.before,
            after: new.after,
            endpoint: new.endpoint,
            charged: new.charged,
            owner: new.owner,
            kind: new.kind,
            state: SessionState::NEW,
            opened: now,
            seen: now,
            forward: Traffic::default(),
            reply: Traffic::default(),
        });
        self.shares.add(new.charged);
        if takes_port(new) {
            let destination = Destination::of(new.endpoint, &new.after);
            let port_use = self.ports.take(&destination, new.after.source_port);
            self.table.slot_mut(slot).port_use = port_use;
            if SessionState::NEW.is_stealable(new.after.protocol) {
                self.ports.queue(port_use, slot);
            }
        }
        self.wheel.arm(slot, self.deadline(slot));
        Ok(self.table.ticket(slot))
    }

    fn make_room(&mut self, charged: EndpointId, now: Now) -> Result<(), InsertError> {
        let is_spent = |sessions: &Self| sessions.shares.count(charged) >= sessions.share_max;
        if self.table.is_full() || is_spent(self) {
            self.expire(now);
        }
        // What has ended only waits for what comes late.
        if (self.table.is_full() || is_spent(self))
            && let Some(slot) = self.shares.first_ended(charged)
        {
            self.remove_slot(slot);
        }
        if self.table.is_full() {
            Err(InsertError::Full)
        } else if is_spent(self) {
            Err(InsertError::ShareSpent)
        } else {
            Ok(())
        }
    }

    /// Takes note of a packet of `bytes` bytes of IP; nothing happens when the session has gone.
    pub fn note(
        &mut self,
        ticket: SessionTicket,
        way: Way,
        flags: Option<TcpFlags>,
        bytes: u32,
        now: Now,
    ) {
        let Some(slot) = self.table.slot_of(ticket) else {
            return;
        };
        let place = self.table.slot_mut(slot);
        let port_use = place.port_use;
        let Some(session) = &mut place.session else {
            return;
        };
        let traffic = match way {
            Way::Forward => &mut session.forward,
            Way::Reply => &mut session.reply,
        };
        traffic.packets += 1;
        traffic.bytes += u64::from(bytes);
        // Clocks of a batch never run backwards; a late call must not shorten a life.
        session.seen = session.seen.max(now);
        let protocol = session.after.protocol;
        let old = session.state;
        let new = old.after(protocol, way, flags);
        session.state = new;
        let charged = session.charged;
        // A life that grows is seen when the old deadline comes; one that shrinks is not.
        if self.timeouts.life(protocol, new) < self.timeouts.life(protocol, old) {
            self.wheel.arm(slot, self.deadline(slot));
        }
        match (old == SessionState::Closing, new == SessionState::Closing) {
            (false, true) => self.shares.end(charged, slot),
            (true, false) => self.shares.unend(charged, slot),
            _ => {}
        }
        if port_use != NONE {
            // Out and in again: the queue is in the order of the last packets.
            if old.is_stealable(protocol) {
                self.ports.unqueue(port_use, slot);
            }
            if new.is_stealable(protocol) {
                self.ports.queue(port_use, slot);
            }
        }
    }

    /// Ends a session; nothing happens when it has gone already.
    pub fn remove(&mut self, ticket: SessionTicket) {
        if let Some(slot) = self.table.slot_of(ticket) {
            self.remove_slot(slot);
        }
    }

    pub(super) fn remove_slot(&mut self, slot: u32) {
        let port_use = self.table.slot_mut(slot).port_use;
        let Some(session) = self.table.remove(slot) else {
            return;
        };
        self.wheel.disarm(slot);
        if session.state == SessionState::Closing {
            self.shares.unend(session.charged, slot);
        }
        self.shares.take(session.charged);
        if port_use != NONE {
            if session.state.is_stealable(session.after.protocol) {
                self.ports.unqueue(port_use, slot);
            }
            self.ports.release(port_use, session.after.source_port);
        }
    }

    /// Ends sessions past their time. Looks at `EXPIRE_SESSIONS_MAX` at most, none of them young.
    pub fn expire(&mut self, now: Now) {
        for _ in 0..EXPIRE_SESSIONS_MAX {
            let Some(slot) = self.wheel.next_due(now) else {
                return;
            };
            if self.is_expired(slot, now) {
                self.remove_slot(slot);
            } else {
                self.wheel.arm(slot, self.deadline(slot));
            }
        }
    }

    /// Lists sessions from a cursor on, zero at first, as many as `views` has room for. Returns
    /// the cursor to go on from; None at the end. Looks at `LIST_SLOTS_MAX` slots at most.
    pub fn list(&self, cursor: u32, views: &mut Vec<SessionView>) -> Option<u32> {
        let start = cursor as usize;
        let slots = self.table.slots().get(start..)?;
        for (looked, slot) in slots.iter().enumerate() {
            if looked == LIST_SLOTS_MAX || views.len() == views.capacity() {
                return Some((start + looked) as u32);
            }
            views.extend(slot.session.as_ref().map(SessionView::from));
        }
        None
    }

    /// Fills `uses` up to its capacity with the destinations that take most ports, the fullest
    /// first. Looks at every destination, so not for each packet.
    pub fn fullest(&self, uses: &mut Vec<DestinationUse>) {
        self.ports.fullest(uses);
    }

    /// Whether the destination of a translated tuple takes three quarters of its ports.
    pub fn is_nearly_full(&self, endpoint: EndpointId, after: &Tuple, range: PortRange) -> bool {
        let destination = Destination::of(endpoint, after);
        self.ports.is_nearly_full(&destination, range)
    }

    pub(super) fn is_expired(&self, slot: u32, now: Now) -> bool {
        self.table
            .session(slot)
            .is_none_or(|session| is_expired(&self.timeouts, session, now))
    }

    fn deadline(&self, slot: u32) -> Now {
        self.table
            .session(slot)
            .map_or(Now(0), |session| deadline(&self.timeouts, session))
    }
}

/// Whether the session took a port of the address that it sends from.
fn takes_port(new: &NewSession) -> bool {
    match new.kind {
        SessionKind::Masquerade | SessionKind::Gateway => true,
        SessionKind::NodePort => new.before.source != new.after.source,
        SessionKind::Service | SessionKind::Hairpin => false,
    }
}

fn deadline(timeouts: &SessionTimeouts, session: &Session) -> Now {
    let life = timeouts.life(session.before.protocol, session.state);
    Now(session.seen.0.saturating_add(life))
}

fn is_expired(timeouts: &SessionTimeouts, session: &Session, now: Now) -> bool {
    now > deadline(timeouts, session)
}

/// The slot of the live session that has this key, and the way.
pub(super) fn find_live(
    table: &Table,
    timeouts: &SessionTimeouts,
    endpoint: EndpointId,
    tuple: &Tuple,
    now: Now,
) -> Option<(u32, Way)> {
    let (slot, way) = table.find(endpoint, tuple)?;
    let session = table.session(slot)?;
    (!is_expired(timeouts, session, now)).then_some((slot, way))
}
