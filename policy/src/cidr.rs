//! Address blocks, and the longest of them that holds an address.

use crate::Identity;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// [RFC 791]
    V4,
    /// [RFC 8200]
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Bits of an address.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

/// A block of addresses. Bits below the prefix are always zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    family: Family,
    network: u128,
    length: u8,
}

impl Cidr {
    /// The block that holds `address`, with a prefix of `length` bits; None when the family has
    /// fewer.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let family = Family::of(address);
        if length > family.bits() {
            return None;
        }
        let network = to_bits(address) & mask(family, length);
        Some(Self {
            family,
            network,
            length,
        })
    }

    /// The block of one address.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        let family = Family::of(address);
        Self {
            family,
            network: to_bits(address),
            length: family.bits(),
        }
    }

    /// The family of its addresses.
    #[must_use]
    pub const fn family(self) -> Family {
        self.family
    }

    /// Bits of the prefix.
    #[must_use]
    pub const fn length(self) -> u8 {
        self.length
    }

    /// Its first address.
    #[must_use]
    pub fn network(self) -> IpAddr {
        match self.family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(self.network as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(self.network)),
        }
    }

    /// Its last address, as a block.
    pub(crate) fn last(self) -> Self {
        Self {
            family: self.family,
            network: self.network
                | (mask(self.family, self.family.bits()) & !mask(self.family, self.length)),
            length: self.family.bits(),
        }
    }

    /// Whether it is all addresses of its family.
    #[must_use]
    pub const fn is_everything(self) -> bool {
        self.length == 0
    }

    /// Whether the address lies in it.
    #[must_use]
    pub fn has_address(self, address: IpAddr) -> bool {
        self.has(Self::host(address))
    }

    /// Whether the other block lies in it; a block lies in itself.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.family == other.family
            && self.length <= other.length
            && other.network & mask(self.family, self.length) == self.network
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.length)
    }
}

impl FromStr for Cidr {
    type Err = ();

    /// Reads `10.0.0.0/8`. The mask is mandatory; bits below it are cleared.
    ///
    /// Fails on anything else, among it masks with leading zeros or a sign.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, length) = text.split_once('/').ok_or(())?;
        let is_plain = length.bytes().all(|byte| byte.is_ascii_digit())
            && (length.len() == 1 || !length.starts_with('0'));
        if !is_plain {
            return Err(());
        }
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let length: u8 = length.parse().map_err(|_| ())?;
        Self::new(address, length).ok_or(())
    }
}

fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn mask(family: Family, length: u8) -> u128 {
    let everything = match family {
        Family::V4 => u128::from(u32::MAX),
        Family::V6 => u128::MAX,
    };
    let low_bits = u32::from(family.bits() - length);
    // A shift by all 128 bits is not defined, and means no bits at all.
    everything & u128::MAX.checked_shl(low_bits).unwrap_or(0)
}

/// Finds the longest prefix that holds an address: one sorted list for each length in use.
///
/// A search costs one binary search per distinct length, of which there are few.
#[derive(Debug, Default)]
pub(crate) struct PrefixTable {
    v4: Vec<Prefixes>,
    v6: Vec<Prefixes>,
}

#[derive(Debug)]
struct Prefixes {
    mask: u128,
    /// Sorted by network.
    networks: Vec<(u128, Identity)>,
}

impl PrefixTable {
    /// A table of these blocks, each of which stands in the list once.
    pub(crate) fn new(blocks: &[(Cidr, Identity)]) -> Self {
        Self {
            v4: lists(blocks, Family::V4),
            v6: lists(blocks, Family::V6),
        }
    }

    /// The identity of the longest block that holds the address.
    pub(crate) fn find(&self, address: IpAddr) -> Option<Identity> {
        let lists = match address {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        };
        let bits = to_bits(address);
        lists.iter().find_map(|list| {
            let network = bits & list.mask;
            let place = list
                .networks
                .binary_search_by_key(&network, |entry| entry.0)
                .ok()?;
            Some(list.networks[place].1)
        })
    }
}

/// The lists of one family, longest prefix first.
fn lists(blocks: &[(Cidr, Identity)], family: Family) -> Vec<Prefixes> {
    let mut sorted: Vec<_> = blocks
        .iter()
        .filter(|(cidr, _)| cidr.family == family)
        .collect();
    sorted.sort_by_key(|(cidr, _)| (std::cmp::Reverse(cidr.length), cidr.network));
    sorted
        .chunk_by(|left, right| left.0.length == right.0.length)
        .map(|chunk| Prefixes {
            mask: mask(family, chunk[0].0.length),
            networks: chunk
                .iter()
                .map(|(cidr, identity)| (cidr.network, *identity))
                .collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().expect("a block")
    }

    #[test]
    fn bits_below_the_mask_are_cleared() {
        assert_eq!(cidr("10.1.2.3/8"), cidr("10.0.0.0/8"));
        assert_eq!(cidr("10.1.2.3/8").to_string(), "10.0.0.0/8");
        assert_eq!(cidr("2001:db8::1/32").to_string(), "2001:db8::/32");
        assert_eq!(cidr("1.2.3.4/0").to_string(), "0.0.0.0/0");
        assert_eq!(cidr("::1/0").to_string(), "::/0");
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for text in [
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "::/129",
            "/8",
            "",
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(()), "{text}");
        }
    }

    #[test]
    fn a_block_has_what_lies_inside_it() {
        assert!(cidr("10.0.0.0/8").has(cidr("10.1.0.0/16")));
        assert!(cidr("10.0.0.0/8").has(cidr("10.0.0.0/8")));
        assert!(!cidr("10.1.0.0/16").has(cidr("10.0.0.0/8")));
        assert!(!cidr("0.0.0.0/0").has(cidr("::/0")));
        assert!(cidr("::/0").has(cidr("2001:db8::/32")));
    }

    #[test]
    fn the_longest_prefix_wins() {
        let table = PrefixTable::new(&[
            (cidr("10.0.0.0/8"), Identity(1)),
            (cidr("10.1.0.0/16"), Identity(2)),
            (cidr("10.1.2.3/32"), Identity(3)),
            (cidr("2001:db8::/32"), Identity(4)),
        ]);
        let find = |text: &str| table.find(text.parse().expect("an address"));
        assert_eq!(find("10.1.2.3"), Some(Identity(3)));
        assert_eq!(find("10.1.2.4"), Some(Identity(2)));
        assert_eq!(find("10.2.0.0"), Some(Identity(1)));
        assert_eq!(find("11.0.0.0"), None);
        assert_eq!(find("2001:db8::1"), Some(Identity(4)));
        assert_eq!(find("2001:db9::1"), None);
    }
}
