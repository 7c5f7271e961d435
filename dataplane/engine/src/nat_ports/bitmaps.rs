//! Bitmaps of the ports in use, from a pool of fixed size.

/// Words of a bitmap: a bit for each of 65 536 ports.
const WORDS: usize = 1024;
/// Ports that one call of `fill` asks about.
const FILL_PORTS: u32 = 256;
const PORTS: u32 = 1 << 16;

#[derive(Debug, Clone)]
struct Bitmap {
    /// A bit is set where a port is in use.
    words: [u64; WORDS],
    /// The ports below have been asked about.
    filled: u32,
}

/// The pool. A bitmap is named by its number.
#[derive(Debug)]
pub(super) struct Bitmaps {
    bitmaps: Vec<Bitmap>,
    free: Vec<u32>,
}

impl Bitmaps {
    pub fn new(bitmaps_max: u32) -> Self {
        let empty = Bitmap {
            words: [0; WORDS],
            filled: 0,
        };
        Self {
            bitmaps: vec![empty; bitmaps_max as usize],
            free: (0..bitmaps_max).collect(),
        }
    }

    /// An empty bitmap, if there is one left.
    pub fn take(&mut self) -> Option<u32> {
        let number = self.free.pop()?;
        let bitmap = &mut self.bitmaps[number as usize];
        bitmap.words.fill(0);
        bitmap.filled = 0;
        Some(number)
    }

    pub fn give_back(&mut self, number: u32) {
        self.free.push(number);
    }

    pub fn set(&mut self, number: u32, port: u16) {
        self.bitmaps[number as usize].words[usize::from(port) / 64] |= 1 << (port % 64);
    }

    pub fn clear(&mut self, number: u32, port: u16) {
        self.bitmaps[number as usize].words[usize::from(port) / 64] &= !(1 << (port % 64));
    }

    /// Asks about the next ports, until all have been asked about.
    pub fn fill(&mut self, number: u32, is_free: impl Fn(u16) -> bool) {
        let from = self.bitmaps[number as usize].filled;
        let to = (from + FILL_PORTS).min(PORTS);
        for port in from..to {
            if !is_free(port as u16) {
                self.set(number, port as u16);
            }
        }
        self.bitmaps[number as usize].filled = to;
    }

    pub fn is_filled(&self, number: u32) -> bool {
        self.bitmaps[number as usize].filled == PORTS
    }

    /// The first port from `first` to `last` that is not in use, and is free: others than those
    /// counted here may have taken it.
    pub fn first_free(
        &self,
        number: u32,
        first: u16,
        last: u16,
        is_free: impl Fn(u16) -> bool,
    ) -> Option<u16> {
        let words = &self.bitmaps[number as usize].words;
        for at in first / 64..=last / 64 {
            let mut unset = !words[usize::from(at)];
            while unset != 0 {
                let port = at * 64 + unset.trailing_zeros() as u16;
                unset &= unset - 1;
                if first <= port && port <= last && is_free(port) {
                    return Some(port);
                }
            }
        }
        None
    }

    #[cfg(test)]
    pub fn free_count(&self) -> usize {
        self.free.len()
    }
}
