//! Sets of slots, one bit for each.

/// A set of small numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// Whether the number is in it.
    pub(crate) fn has(&self, number: u32) -> bool {
        self.words
            .get(number as usize / 64)
            .is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// Puts the number in, or takes it out.
    pub(crate) fn put(&mut self, number: u32, is_in: bool) {
        let place = number as usize / 64;
        if self.words.len() <= place {
            if !is_in {
                return;
            }
            self.words.resize(place + 1, 0);
        }
        let bit = 1_u64 << (number % 64);
        if is_in {
            self.words[place] |= bit;
        } else {
            self.words[place] &= !bit;
        }
    }

    /// Its numbers, from low to high.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.words.iter().zip(0_u32..).flat_map(|(word, place)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros();
                rest &= rest.wrapping_sub(1);
                (bit < 64).then_some(place * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_out_in_order() {
        let mut bits = Bits::default();
        for number in [700, 3, 63, 64, 0] {
            bits.put(number, true);
        }
        bits.put(3, false);
        bits.put(9000, false);
        assert_eq!(bits.iter().collect::<Vec<_>>(), [0, 63, 64, 700]);
        assert!(bits.has(700) && !bits.has(3) && !bits.has(9000));
    }
}
