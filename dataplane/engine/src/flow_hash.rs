//! The keyed hash of flows: almost universal, a dozen multiplications at most.
//!
//! Strangers choose addresses and ports, but see neither keys nor hashes: whatever two flows they
//! choose meet in one place with a chance of about one in the number of places. [NH: RFC 4418 §5.2;
//! multiply-shift: Dietzfelbinger et al., 1997]

use siphasher::sip::SipHasher13;

/// Words of the longest input, padded to pairs.
const WORDS_MAX: usize = 12;

/// The secret keys.
#[derive(Debug)]
pub(crate) struct FlowHasher {
    keys: [u32; WORDS_MAX],
    /// Odd.
    factor: u64,
    addend: u64,
}

impl FlowHasher {
    /// Keys out of a secret chance value.
    pub fn new(hash_key: (u64, u64)) -> Self {
        let seed = SipHasher13::new_with_keys(hash_key.0, hash_key.1);
        let chance = |number: u8| seed.hash(&[number]);
        Self {
            keys: std::array::from_fn(|at| chance(at as u8) as u32),
            factor: chance(254) | 1,
            addend: chance(255),
        }
    }

    /// The hash of an even number of words; its upper bits are the best. Inputs of different
    /// lengths must differ in their last word.
    #[inline]
    pub fn hash<const WORDS: usize>(&self, words: &[u32; WORDS]) -> u32 {
        const { assert!(WORDS <= WORDS_MAX && WORDS.is_multiple_of(2)) }
        let mut total = 0_u64;
        for at in (0..WORDS).step_by(2) {
            let one = words[at].wrapping_add(self.keys[at]);
            let other = words[at + 1].wrapping_add(self.keys[at + 1]);
            total = total.wrapping_add(u64::from(one) * u64::from(other));
        }
        // Ports and addresses come in rows, and a product leaves rows in order: they are mixed up,
        // and into the upper bits, which are those that an index takes. [Stafford, mix 13]
        total ^= total >> 30;
        total = total.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        total ^= total >> 27;
        (total.wrapping_mul(self.factor).wrapping_add(self.addend) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flows as a scan makes them: one port after the other, one address after the other.
    #[test]
    fn neighbouring_inputs_spread_evenly() {
        for seed in 0..20 {
            let hasher = FlowHasher::new((seed, 7));
            let mut places = [0_u32; 256];
            for port in 0..64_u32 {
                for address in 0..256_u32 {
                    let hash = hasher.hash(&[1, 6, port << 16 | 80, 0x0a00_0002, address, 1]);
                    places[(hash >> 24) as usize] += 1;
                }
            }
            // 64 are expected in each; chance would give 64 ± 8.
            let (least, most) = (places.iter().min(), places.iter().max());
            assert!(
                least > Some(&16) && most < Some(&192),
                "{seed}: {least:?} {most:?}"
            );
        }
    }

    #[test]
    fn another_key_gives_other_hashes() {
        let words = [1, 2, 3, 4, 5, 6];
        let one = FlowHasher::new((1, 2)).hash(&words);
        assert_ne!(one, FlowHasher::new((1, 3)).hash(&words));
        assert_eq!(one, FlowHasher::new((1, 2)).hash(&words));
    }
}
