//! A table that spreads hashes evenly over backends and moves few of them when one goes.
//!
//! [Maglev: A Fast and Reliable Software Network Load Balancer, §3.4]

use siphasher::sip::SipHasher13;
use std::net::IpAddr;

/// Entries of a table: a prime, so that every skip visits all of them.
pub(crate) const ENTRIES: usize = 16_381;

/// The keys are no secret: every node must come to the same table.
const OFFSET_KEY: (u64, u64) = (0x706f_7274_6375_6c6c, 0x6f66_6673_6574_0001);
const SKIP_KEY: (u64, u64) = (0x706f_7274_6375_6c6c, 0x736b_6970_0000_0002);

/// Nobody's entry yet.
const NOBODY: u16 = u16::MAX;

/// For each entry the place of a backend among `backends`.
///
/// `backends` are sorted and differ, so that the table does not depend on who named them first;
/// there is at least one, and fewer than `u16::MAX`.
pub(crate) fn entries(backends: &[(IpAddr, u16)]) -> Box<[u16; ENTRIES]> {
    assert!(!backends.is_empty() && backends.len() < usize::from(NOBODY));
    assert!(backends.is_sorted_by(|one, next| one < next));
    let offset = SipHasher13::new_with_keys(OFFSET_KEY.0, OFFSET_KEY.1);
    let skip = SipHasher13::new_with_keys(SKIP_KEY.0, SKIP_KEY.1);
    // The next entry that each backend prefers, and how far on the one after that is.
    let mut wishes: Vec<(usize, usize)> = backends
        .iter()
        .map(|backend| {
            let bytes = bytes_of(*backend);
            (
                (offset.hash(&bytes) % ENTRIES as u64) as usize,
                (skip.hash(&bytes) % (ENTRIES as u64 - 1)) as usize + 1,
            )
        })
        .collect();
    let mut entries: Box<[u16; ENTRIES]> = vec![NOBODY; ENTRIES]
        .try_into()
        .expect("it has that many entries");
    let mut free = ENTRIES;
    loop {
        for (place, (wish, skip)) in wishes.iter_mut().enumerate() {
            while entries[*wish] != NOBODY {
                *wish = next(*wish, *skip);
            }
            entries[*wish] = place as u16;
            *wish = next(*wish, *skip);
            free -= 1;
            if free == 0 {
                return entries;
            }
        }
    }
}

const fn next(wish: usize, skip: usize) -> usize {
    let next = wish + skip;
    if next < ENTRIES { next } else { next - ENTRIES }
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
        #![proptest_config(ProptestConfig::with_cases(32))]

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
            // Its own share, and of the others' places some: more where each has few.
            let others = if count <= 10 { 0.02 } else { 0.03 };
            let limit = 1.0 / f64::from(count) + others;
            let moved = moved as f64 / ENTRIES as f64;
            prop_assert!(moved <= limit, "{moved} moved, {limit} may");
        }
    }

    #[test]
    fn every_node_comes_to_the_same_table() {
        // Written down: a change of it moves connections between nodes of two versions.
        let table = entries(&backends(3, 7));
        let sum = table.iter().fold(0_u64, |sum, place| {
            sum.wrapping_mul(31).wrapping_add(u64::from(*place))
        });
        assert_eq!(sum, 17_403_069_908_572_742_138, "{:?}", &table[..16]);
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
