//! The plain reading of translation: one map of what became of what, at each endpoint.

use crate::network::UPLINK;
use portcullis_engine::{
    Endpoint, EndpointId, EndpointIndex, Frontend, Packet, Snapshot, Transport, Tuple, Way,
};
use portcullis_policy::{ExitChoice, Protocol};
use std::collections::HashMap;
use std::net::IpAddr;

/// Which half of a walk, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    Egress(EndpointIndex),
    Ingress(EndpointIndex),
}

/// What each tuple became last.
#[derive(Debug, Default)]
pub struct Translations {
    known: HashMap<(EndpointId, Tuple), (Tuple, Way)>,
}

impl Translations {
    /// Checks one half of a walk by the packet before and after it. Returns whether it was
    /// translated.
    pub fn check(
        &mut self,
        snapshot: &Snapshot,
        half: Half,
        before: (&Packet, &[u8]),
        after: (&Packet, &[u8]),
    ) -> bool {
        let (Half::Egress(index) | Half::Ingress(index)) = half;
        let endpoint = snapshot.endpoint(index).unwrap().id;
        if before.0.is_icmp_error() {
            return self.check_error(endpoint, before, after);
        }
        let (Some(old), Some(new)) = (tuple_of(before.0), tuple_of(after.0)) else {
            return false;
        };
        if old == new {
            return false;
        }
        match self.known.get(&(endpoint, old)) {
            Some((known, _)) if *known == new => return true,
            Some((known, Way::Reply)) if matches!(half, Half::Ingress(index) if index != UPLINK) => {
                panic!("{old:?} came back as {new:?}, not as {known:?}");
            }
            _ => {}
        }
        // Then it begins something, and what had the tuples before is over.
        self.check_begins(snapshot, half, &old, &new);
        self.forget(endpoint, old);
        self.forget(endpoint, new.reversed());
        self.known.insert((endpoint, old), (new, Way::Forward));
        let reply = (old.reversed(), Way::Reply);
        self.known.insert((endpoint, new.reversed()), reply);
        true
    }

    fn forget(&mut self, endpoint: EndpointId, tuple: Tuple) {
        if let Some((other, _)) = self.known.remove(&(endpoint, tuple)) {
            self.known.remove(&(endpoint, other.reversed()));
        }
    }

    fn check_begins(&self, snapshot: &Snapshot, half: Half, old: &Tuple, new: &Tuple) {
        let is_egress = |address| snapshot.exits.ports.contains_key(&address);
        match half {
            Half::Egress(_) => {
                let frontend = Frontend {
                    address: old.destination,
                    protocol: Protocol::from_number(old.protocol),
                    port: old.destination_port,
                };
                let found = snapshot.services.find(frontend);
                let (_, service, _) = found.unwrap_or_else(|| panic!("{old:?} became {new:?}"));
                let backend = service
                    .all_backends()
                    .backend_state(new.destination, new.destination_port);
                assert!(backend.is_some(), "{old:?} went to {new:?}");
            }
            Half::Ingress(UPLINK) => {
                let (old_end, new_end) = (
                    (old.destination, old.destination_port),
                    (new.destination, new.destination_port),
                );
                assert_eq!(old_end, new_end, "{old:?} became {new:?}");
                assert!(is_egress(new.source), "{old:?} became {new:?}");
                assert!(
                    snapshot.owner_of(old.source).is_some(),
                    "{old:?} is no pod's"
                );
            }
            Half::Ingress(_) => panic!("{old:?} came back as {new:?}, by no session"),
        }
    }

    /// The packet that an error quotes was sent in the other direction: its answer is known.
    fn check_error(
        &self,
        endpoint: EndpointId,
        before: (&Packet, &[u8]),
        after: (&Packet, &[u8]),
    ) -> bool {
        let (old, new) = (quoted(before), quoted(after));
        if old == new {
            assert_eq!(before.0.source, after.0.source);
            assert_eq!(before.0.destination, after.0.destination);
            return false;
        }
        let (old, new) = (old.unwrap(), new.unwrap());
        let known = self.known.get(&(endpoint, old.reversed()));
        let is_known = known.is_some_and(|(known, _)| *known == new.reversed());
        assert!(is_known, "an error about {old:?} now quotes {new:?}");
        assert_eq!(after.0.destination, new.source);
        true
    }
}

fn echo_ports(kind: u8, identifier: u16) -> Option<(u16, u16)> {
    match kind {
        8 | 128 => Some((identifier, 0)),
        0 | 129 => Some((0, identifier)),
        _ => None,
    }
}

fn tuple_of(packet: &Packet) -> Option<Tuple> {
    let (source_port, destination_port) = match packet.transport {
        Transport::Tcp { ports, .. } | Transport::Udp { ports } | Transport::Sctp { ports } => {
            ports
        }
        Transport::Icmp(echo) | Transport::Icmpv6(echo) => echo_ports(echo.kind, echo.identifier)?,
        _ => return None,
    };
    Some(Tuple {
        protocol: packet.protocol().number(),
        source: packet.source,
        destination: packet.destination,
        source_port,
        destination_port,
    })
}

/// What an error quotes, by plain offsets: the simulation's quotes have no options.
fn quoted((packet, bytes): (&Packet, &[u8])) -> Option<Tuple> {
    // What follows the packet is padding.
    let end = packet.frame_length();
    let quote = bytes.get(usize::from(packet.transport_offset) + 8..end)?;
    let word = |at: usize| Some(u16::from_be_bytes([*quote.get(at)?, *quote.get(at + 1)?]));
    let (protocol, source, destination, at) = if quote.first()? >> 4 == 4 {
        let four = |at: usize| {
            let octets: [u8; 4] = quote.get(at..at + 4)?.try_into().ok()?;
            Some(IpAddr::from(octets))
        };
        (
            *quote.get(9)?,
            four(12)?,
            four(16)?,
            usize::from(quote[0] & 15) * 4,
        )
    } else {
        let sixteen = |at: usize| {
            let octets: [u8; 16] = quote.get(at..at + 16)?.try_into().ok()?;
            Some(IpAddr::from(octets))
        };
        (*quote.get(6)?, sixteen(8)?, sixteen(24)?, 40)
    };
    let (source_port, destination_port) = match protocol {
        1 | 58 => echo_ports(*quote.get(at)?, word(at + 4)?)?,
        _ => (word(at)?, word(at + 2)?),
    };
    Some(Tuple {
        protocol,
        source,
        destination,
        source_port,
        destination_port,
    })
}

/// Whether what a pod begins there leaves under another address or not at all.
pub fn must_be_hidden(snapshot: &Snapshot, pod: &Endpoint, destination: IpAddr) -> bool {
    let tables = snapshot.tables.as_deref().unwrap();
    let choice = pod.exits.map_or(ExitChoice::Usual, |place| {
        tables.exit_choice(place, destination)
    });
    match choice {
        ExitChoice::Usual | ExitChoice::Excluded(_) => {
            let mut masks = snapshot.exits.masquerade.iter();
            masks.any(|mask| mask.is_ipv4() == destination.is_ipv4())
                && tables.is_outside_cluster(destination)
        }
        _ => true,
    }
}
