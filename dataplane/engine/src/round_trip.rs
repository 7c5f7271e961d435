//! A round trip in one byte.

/// A time between two packets in one byte: the bits of its microseconds, and the three after the
/// first; to six percent. Zero for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RoundTrip(u8);

impl RoundTrip {
    pub fn of_ns(time_ns: u64) -> Self {
        let time_us = (time_ns / 1000).clamp(1, u64::from(u32::MAX >> 1)) as u32;
        let exponent = time_us.ilog2();
        // Three bits behind the first, rounded down.
        let mantissa = (u64::from(time_us) << 3 >> exponent) as u32 & 7;
        Self(((exponent + 1) << 3 | mantissa) as u8)
    }

    /// Microseconds, in the middle of what the byte stands for; zero for none.
    pub fn us(self) -> u32 {
        let Some(exponent) = (u32::from(self.0) >> 3).checked_sub(1) else {
            return 0;
        };
        let sixteenths = (u64::from(self.0 & 7) + 8) * 2 + 1;
        ((sixteenths << exponent) / 16) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_kept_to_seven_percent(time_us in 1_u64..1_000_000_000) {
            let kept = u64::from(RoundTrip::of_ns(time_us * 1000).us());
            prop_assert!(kept.abs_diff(time_us) <= 1 + time_us * 7 / 100, "{kept} for {time_us}");
        }
    }

    #[test]
    fn none_is_zero_and_less_than_a_microsecond_is_one() {
        assert_eq!(RoundTrip::default().us(), 0);
        assert_eq!(RoundTrip::of_ns(10).us(), 1);
        assert!(RoundTrip::of_ns(u64::MAX).us() > 0);
    }
}
