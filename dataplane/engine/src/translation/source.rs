//! The address and port that a translated packet is sent from.

use super::sessions::{Sessions, find_live};
use super::{SessionState, Tuple};
use crate::nat_ports::{Destination, PortRange, PortsExhausted, Request};
use crate::{EndpointId, Now};
use siphasher::sip::SipHasher13;
use std::net::IpAddr;

/// Sessions that one search for a port to steal looks at.
const STEAL_LOOKS_MAX: usize = 16;
/// How long a datagram waits for its answer before its port may be stolen: one second.
const STEAL_IDLE_MIN: u64 = 1_000_000_000;

/// What a port is wanted for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    /// The endpoint at which the session will translate.
    pub endpoint: EndpointId,
    /// The packet as it came.
    pub before: Tuple,
    /// The address that it is to be sent from.
    pub address: IpAddr,
    /// Whom it goes to: where it came for, or the backend of a node port.
    pub destination: (IpAddr, u16),
    /// The ports that may be used.
    pub range: PortRange,
}

impl Sessions {
    /// The translated tuple with a port that no other session sends from to the same destination.
    /// At need the session goes that is of least use: one that has ended, or waits for an answer
    /// in vain, the longest idle first.
    ///
    /// # Errors
    /// `PortsExhausted` when every port of the range is in use to this destination.
    pub fn choose_source(&mut self, source: &Source, now: Now) -> Result<Tuple, PortsExhausted> {
        let after = Tuple {
            protocol: source.before.protocol,
            source: source.address,
            destination: source.destination.0,
            source_port: source.before.source_port,
            destination_port: source.destination.1,
        };
        let destination = Destination::of(source.endpoint, &after);
        let request = Request {
            destination,
            preferred: source.before.source_port,
            chance: self.table.hash(source.endpoint, &source.before),
            range: source.range,
        };
        let (table, timeouts) = (&self.table, &self.timeouts);
        let is_free = |source_port| {
            let reply = Tuple {
                source_port,
                ..after
            }
            .reversed();
            find_live(table, timeouts, source.endpoint, &reply, now).is_none()
        };
        let source_port = match self.ports.search(&request, now, is_free) {
            Ok(port) => port,
            Err(exhausted) => self
                .steal(&destination, source.range, now)
                .ok_or(exhausted)?,
        };
        Ok(Tuple {
            source_port,
            ..after
        })
    }

    fn steal(&mut self, destination: &Destination, range: PortRange, now: Now) -> Option<u16> {
        let mut next = self.ports.first_queued(destination);
        for _ in 0..STEAL_LOOKS_MAX {
            let slot = next?;
            next = self.ports.queued_after(slot);
            let session = self.table.session(slot)?;
            let port = session.after.source_port;
            let is_idle = now.0.saturating_sub(session.seen.0) >= STEAL_IDLE_MIN;
            let is_ended = session.state == SessionState::Closing;
            if range.has(port) && (is_ended || is_idle) {
                self.remove_slot(slot);
                return Some(port);
            }
        }
        None
    }
}

/// The address that a source sends from: the same as long as that address is there, whichever
/// others come and go. None when there is none of its family. [Thaler and Ravishankar 1998]
#[must_use]
pub(crate) fn pick_address(addresses: &[IpAddr], source: IpAddr) -> Option<IpAddr> {
    // Without a secret: after a restart, and at another node, the choice is the same.
    let hasher = SipHasher13::new();
    let weight = |address: &IpAddr| {
        let mut bytes = [0; 32];
        for (address, at) in [(*address, 0), (source, 16)] {
            let octets = match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            bytes[at..at + 16].copy_from_slice(&octets);
        }
        (hasher.hash(&bytes), *address)
    };
    addresses
        .iter()
        .filter(|address| address.is_ipv4() == source.is_ipv4())
        .copied()
        .max_by_key(weight)
}
