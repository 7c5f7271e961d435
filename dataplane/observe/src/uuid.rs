//! Names of sightings: told by when and between whom, so every reader gives the same one.

use super::event::Event;
use jiff::Timestamp;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A name of 128 bits: the time in front, so that what it names is found without an index.
///
/// [RFC 9562 §5.8: version 8, of our own making]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub u128);

impl Uuid {
    pub(crate) fn of(event: &Event, aspect: u8) -> Self {
        let record = &event.record;
        let mut hash = Fnv::default();
        let mut address = |address: IpAddr| match address {
            IpAddr::V4(address) => hash.add(&address.octets()),
            IpAddr::V6(address) => hash.add(&address.octets()),
        };
        if let Some((source, destination)) = record.addresses {
            address(source);
            address(destination);
        }
        hash.add(&record.ports.0.to_be_bytes());
        hash.add(&record.ports.1.to_be_bytes());
        hash.add(&[record.protocol.map_or(0, |protocol| protocol.number())]);
        hash.add(&record.length.to_be_bytes());
        let nanoseconds = u64::try_from(event.time.as_nanosecond()).unwrap_or_default();
        // 60 bits of time around the version, then the variant, the rest of time, whom and what.
        let high = (nanoseconds >> 16 << 16) | 0x8000 | (nanoseconds >> 4 & 0x0fff);
        let low = (0b10 << 62)
            | (nanoseconds & 0xf) << 58
            | (hash.0 & ((1 << 56) - 1)) << 2
            | u64::from(aspect & 0b11);
        Self(u128::from(high) << 64 | u128::from(low))
    }

    /// When it was seen.
    #[must_use]
    pub fn time(self) -> Option<Timestamp> {
        let (high, low) = ((self.0 >> 64) as u64, self.0 as u64);
        if high & 0xf000 != 0x8000 || low >> 62 != 0b10 {
            return None;
        }
        let nanoseconds = (high >> 16 << 16) | (high & 0x0fff) << 4 | (low >> 58 & 0xf);
        Timestamp::from_nanosecond(i128::from(nanoseconds)).ok()
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:032x}", self.0);
        let [a, b, c, d, e] = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)]
            .map(|(from, to)| digits.get(from..to).unwrap_or_default());
        write!(f, "{a}-{b}-{c}-{d}-{e}")
    }
}

impl FromStr for Uuid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected the uuid of a flow, found \"{text}\"");
        let digits: String = text.chars().filter(|letter| *letter != '-').collect();
        if digits.len() != 32 {
            return Err(wrong());
        }
        u128::from_str_radix(&digits, 16)
            .map(Self)
            .map_err(|_| wrong())
    }
}

/// [FNV-1a of 64 bits: the same in every build, which the standard library's hash is not]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_engine::Record;
    use std::sync::Arc;

    #[test]
    fn a_name_is_read_back_and_tells_the_time() {
        let time: Timestamp = "2026-11-28T19:10:11.123456789Z".parse().unwrap();
        let event = Event::new(time, Record::BLANK, Arc::default());
        let uuid = Uuid::of(&event, 2);
        assert_eq!(uuid.to_string().parse(), Ok(uuid));
        assert_eq!(uuid.time(), Some(time));
        assert_eq!(uuid.to_string().as_bytes()[14], b'8', "{uuid}");
        assert_ne!(uuid, Uuid::of(&event, 3));
        let other = Record {
            ports: (1, 2),
            ..Record::BLANK
        };
        assert_ne!(uuid, Uuid::of(&Event::new(time, other, Arc::default()), 2));
        assert_eq!(Uuid(0).time(), None);
    }
}
