//! Where things with a hash are: open addressing of fixed size, no tombstones, so nothing is ever
//! rebuilt.

/// Numbers by hash. At most half full, so that a search ends soon.
#[derive(Debug)]
pub(crate) struct FlowIndex {
    /// Hash in the upper half, number plus one in the lower; zero where nothing is.
    places: Box<[u64]>,
    mask: usize,
    /// A hash without these lower bits is its first place.
    shift: u32,
}

impl FlowIndex {
    /// An index for this many numbers.
    pub fn new(capacity: usize) -> Self {
        let length = (capacity * 2).next_power_of_two();
        Self {
            places: vec![0; length].into_boxed_slice(),
            mask: length - 1,
            shift: (u32::BITS - length.trailing_zeros()).min(u32::BITS - 1),
        }
    }

    /// The number with this hash that is the one.
    pub fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.position(hash, is_it)
            .map(|position| number(self.places[position]))
    }

    /// Where a search for this hash begins.
    pub fn place_of(&self, hash: u32) -> *const u8 {
        std::ptr::from_ref(&self.places[self.home(hash)]).cast()
    }

    /// The memory it lies in: where it begins, and its bytes.
    pub fn memory(&self) -> (*const u8, usize) {
        (self.places.as_ptr().cast(), size_of_val(&*self.places))
    }

    /// Adds a number that is not there.
    pub fn insert(&mut self, hash: u32, number: u32) {
        let mut position = self.home(hash);
        while self.places[position] != 0 {
            position = (position + 1) & self.mask;
        }
        self.places[position] = u64::from(hash) << 32 | u64::from(number + 1);
    }

    /// Removes a number; nothing happens when it is not there.
    pub fn remove(&mut self, hash: u32, gone: u32) {
        let Some(mut hole) = self.position(hash, |number| number == gone) else {
            return;
        };
        // What a search would no longer reach across the hole moves into it.
        let mut position = hole;
        loop {
            position = (position + 1) & self.mask;
            let place = self.places[position];
            if place == 0 {
                break;
            }
            let home = self.home((place >> 32) as u32);
            let from_home = position.wrapping_sub(home) & self.mask;
            if from_home >= position.wrapping_sub(hole) & self.mask {
                self.places[hole] = place;
                hole = position;
            }
        }
        self.places[hole] = 0;
    }

    /// The upper bits of a hash are its best.
    fn home(&self, hash: u32) -> usize {
        (hash >> self.shift) as usize & self.mask
    }

    fn position(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        let mut position = self.home(hash);
        loop {
            let place = self.places[position];
            if place == 0 {
                return None;
            }
            if (place >> 32) as u32 == hash && is_it(number(place)) {
                return Some(position);
            }
            position = (position + 1) & self.mask;
        }
    }
}

fn number(place: u64) -> u32 {
    place as u32 - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn the_index_agrees_with_a_plain_map(
            steps in proptest::collection::vec((0_u32..12, any::<bool>()), 0..200),
            hashes in proptest::collection::vec((0_u32..20).prop_map(|hash| hash << 27 | hash), 12),
        ) {
            let mut index = FlowIndex::new(12);
            let mut plain = BTreeMap::new();
            for (number, adds) in steps {
                let hash = hashes[number as usize];
                if adds && plain.insert(number, hash).is_none() {
                    index.insert(hash, number);
                } else if !adds {
                    plain.remove(&number);
                    index.remove(hash, number);
                }
                for number in 0..12 {
                    let found = index.find(hashes[number as usize], |it| it == number);
                    prop_assert_eq!(found.is_some(), plain.contains_key(&number));
                }
            }
        }
    }
}
