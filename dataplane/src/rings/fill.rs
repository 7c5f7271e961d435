//! How many chunks an interface is given to receive into: few while it is quiet, many when busy.

/// The depth that one socket's fill ring is kept at.
///
/// Grows while packets come (doubled when half was used between two refills, fourfold when nearly
/// all was) and sinks by half for each quiet second. Chunks cannot be taken back from a fill ring,
/// so sinking only means that what is received into is not replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FillDepth {
    idle: u32,
    most: u32,
    target: u32,
    /// The fewest chunks that were left since the last look, if any came.
    lowest: u32,
}

impl FillDepth {
    /// A depth between `idle` and `most` chunks, idle at first.
    pub const fn new(idle: u32, most: u32) -> Self {
        Self {
            idle,
            most,
            target: idle,
            lowest: idle,
        }
    }

    /// Chunks that the ring should hold now.
    pub const fn target(&self) -> u32 {
        self.target
    }

    /// Chunks that the ring holds however scarce they are.
    pub const fn idle(&self) -> u32 {
        self.idle
    }

    /// Notes that packets were received and `left` chunks remain.
    #[inline]
    pub fn received(&mut self, left: u32) {
        self.lowest = self.lowest.min(left);
        let factor = match left {
            _ if left < self.target / 8 => 4,
            _ if left < self.target / 2 => 2,
            _ => return,
        };
        self.target = (self.target * factor).min(self.most);
    }

    /// Lets the depth sink if less than a quarter was needed since the last call: once a second.
    ///
    /// `left` is what the ring holds now.
    pub fn relax(&mut self, left: u32) {
        // A quarter, because after halving the same use must not double the depth again.
        if self.lowest > self.target - self.target / 4 {
            self.target = (self.target / 2).max(self.idle);
        }
        self.lowest = left.max(self.target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_interface_stays_at_the_idle_depth() {
        let mut depth = FillDepth::new(32, 4096);
        for _ in 0..10 {
            depth.received(30);
            depth.relax(32);
        }
        assert_eq!(depth.target(), 32);
    }

    #[test]
    fn a_busy_interface_reaches_the_most_and_no_more() {
        let mut depth = FillDepth::new(32, 4096);
        for _ in 0..20 {
            depth.received(0);
        }
        assert_eq!(depth.target(), 4096);
    }

    #[test]
    fn half_used_doubles_and_nearly_all_used_quadruples() {
        let mut depth = FillDepth::new(32, 4096);
        depth.received(15);
        assert_eq!(depth.target(), 64);
        depth.received(7);
        assert_eq!(depth.target(), 256);
        depth.received(128);
        assert_eq!(depth.target(), 256);
    }

    #[test]
    fn the_depth_sinks_by_half_each_quiet_second_down_to_idle() {
        let mut depth = FillDepth::new(32, 4096);
        for _ in 0..20 {
            depth.received(0);
        }
        let mut seen = Vec::new();
        for _ in 0..9 {
            depth.relax(4096);
            seen.push(depth.target());
        }
        // The first second still remembers the burst.
        assert_eq!(seen, [4096, 2048, 1024, 512, 256, 128, 64, 32, 32]);
    }

    #[test]
    fn a_depth_that_fits_the_load_neither_grows_nor_sinks() {
        let mut depth = FillDepth::new(32, 4096);
        for _ in 0..3 {
            depth.received(0);
        }
        let target = depth.target();
        for _ in 0..100 {
            depth.received(target - target / 3);
            depth.relax(target);
        }
        assert_eq!(depth.target(), target);
    }
}
