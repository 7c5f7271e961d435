//! A table that spreads hashes evenly over backends and moves few of them when one goes.
//!
//! [Maglev: A Fast and Reliable Software Network Load Balancer, §3.4]

use siphasher::sip::SipHasher13;
use std::net::IpAddr;

/// Entries of a table.
pub(crate) const ENTRIES: usize = 16_381;

/// The key is no secret: every node must come to the same table.
const WISHES_KEY: (u64, u64) = (0x706f_7274_6375_6c6c, 0x7769_7368_6573_0003);

/// Nobody's entry yet.
const NOBODY: u16 = u16::MAX;

/// For each entry the place of a backend among `backends`.
///
/// `backends` are sorted and differ, so that the table does not depend on who named them first;
/// there is at least one, and fewer than `u16::MAX`.
pub(crate) fn entries(backends: &[(IpAddr, u16)]) -> Box<[u16; ENTRIES]> {
    assert!(!backends.is_empty() && backends.len() < usize::from(NOBODY));
    assert!(backends.is_sorted_by(|one, next| one < next));
    let hasher = SipHasher13::new_with_keys(WISHES_KEY.0, WISHES_KEY.1);
    let mut wishes: Vec<Wishes> = backends
        .iter()
        .map(|backend| Wishes {
            key: hasher.hash(&bytes_of(*backend)),
            next: 0,
        })
        .collect();
    let mut entries: Box<[u16; ENTRIES]> = vec![NOBODY; ENTRIES]
        .try_into()
        .expect("it has that many entries");
    let mut free = ENTRIES;
    loop {
        for (place, wishes) in wishes.iter_mut().enumerate() {
            let mut wish = wishes.take();
            while entries[wish] != NOBODY {
                wish = wishes.take();
            }
            entries[wish] = place as u16;
            free -= 1;
            if free == 0 {
                return entries;
            }
        }
    }
}

/// The entries in the order in which a backend prefers them.
///
/// The paper walks by an offset and a skip. Two skips that have to do with each other make two
/// backends meet all along, and when one goes three percent too many may move; an order that is
/// mixed by a key of 64 bits never came near that (0.9 % at ten backends, 1.2 % at forty, of 3000).
struct Wishes {
    key: u64,
    next: u32,
}

/// Bits of a number that is mixed: the fewest that hold all entries.
const WISH_BITS: u32 = ENTRIES.ilog2() + 1;

impl Wishes {
    /// The next one. There must be one left.
    fn take(&mut self) -> usize {
        loop {
            debug_assert!(self.next < 1 << WISH_BITS);
            let wish = self.mix(self.next) as usize;
            self.next += 1;
            // Of all numbers of so many bits a few are no entries.
            if wish < ENTRIES {
                return wish;
            }
        }
    }

    /// Puts the numbers below `1 << WISH_BITS` into another order: each step can be undone.
    fn mix(&self, number: u32) -> u32 {
        const MASK: u32 = (1 << WISH_BITS) - 1;
        let part = |bits: u32| (self.key >> bits) as u32;
        let mut mixed = number.wrapping_mul(part(0) | 1) & MASK;
        mixed ^= mixed >> (WISH_BITS / 2);
        mixed = mixed.wrapping_add(part(32)) & MASK;
        mixed = mixed.wrapping_mul(part(16) | 1) & MASK;
        mixed ^= mixed >> (WISH_BITS / 2);
        mixed = mixed.wrapping_add(part(48)) & MASK;
        mixed = mixed.wrapping_mul(part(8) | 1) & MASK;
        mixed ^ mixed >> (WISH_BITS / 2 - 1)
    }
}

fn bytes_of((address, port): (IpAddr, u16)) -> [u8; 18] {
    let octets = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&octets);
    // In network order: nodes of both sorts must agree.
    bytes[16..].copy_from_slice(&port.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn backends(count: u16, seed: u32) -> Vec<(IpAddr, u16)> {
        let address =
            |number: u32| IpAddr::from((0x0a00_0000 | (seed & 0xff) << 16 | number).to_be_bytes());
        let mut all: Vec<_> = (0..u32::from(count))
            .map(|number| (address(number), (8000 + seed % 100) as u16))
            .collect();
        all.sort();
        all
    }

    fn shares(entries: &[u16], count: usize) -> Vec<usize> {
        let mut shares = vec![0; count];
        for place in entries {
            shares[usize::from(*place)] += 1;
        }
        shares
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn every_backend_has_its_share(count in 1_u16..40, seed: u32) {
            let all = backends(count, seed);
            let even = ENTRIES as f64 / f64::from(count);
            for share in shares(&*entries(&all), all.len()) {
                let difference = (share as f64 - even).abs();
                prop_assert!(difference <= even * 0.05, "{share} of {even}");
            }
        }

        #[test]
        fn one_that_goes_moves_few_that_were_not_its_own(
            count in 2_u16..40,
            seed: u32,
            gone: proptest::sample::Index,
        ) {
            let all = backends(count, seed);
            let mut rest = all.clone();
            rest.remove(gone.index(all.len()));
            let (before, after) = (entries(&all), entries(&rest));
            let moved = before
                .iter()
                .zip(after.iter())
                .filter(|(before, after)| {
                    all[usize::from(**before)] != rest[usize::from(**after)]
                })
                .count();
            // Its own share, and of the others' places some.
            let limit = 1.0 / f64::from(count) + 0.02;
            let moved = moved as f64 / ENTRIES as f64;
            prop_assert!(moved <= limit, "{moved} moved, {limit} may");
        }
    }

    #[test]
    fn a_backend_wishes_for_each_entry_once() {
        for key in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
            let mut wishes = Wishes { key, next: 0 };
            let mut all: Vec<usize> = (0..ENTRIES).map(|_| wishes.take()).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..ENTRIES), "{key:x}");
        }
    }

    #[test]
    fn every_node_comes_to_the_same_table() {
        // Written down: a change of it moves connections between nodes of two versions.
        let table = entries(&backends(3, 7));
        let sum = table.iter().fold(0_u64, |sum, place| {
            sum.wrapping_mul(31).wrapping_add(u64::from(*place))
        });
        assert_eq!(sum, 12_570_101_524_177_808_834, "{:?}", &table[..16]);
    }

    #[test]
    fn more_backends_than_entries_still_end() {
        let all: Vec<_> = (0..20_000_u32)
            .map(|number| (IpAddr::from((0x0a00_0000 + number).to_be_bytes()), 80))
            .collect();
        assert!(
            shares(&*entries(&all), all.len())
                .iter()
                .all(|share| *share <= 1)
        );
    }
}
