//! Times by Hubble's names for their formats.

use clap::ValueEnum;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum TimeFormat {
    /// `Nov 28 19:00:00.123`, in local time.
    #[default]
    #[value(name = "StampMilli")]
    StampMilli,
    /// `2026-11-28`
    #[value(name = "YearMonthDay")]
    YearMonthDay,
    /// `2026-11-28T19Z`
    #[value(name = "YearMonthDayHour")]
    YearMonthDayHour,
    /// `2026-11-28T19:00Z`
    #[value(name = "YearMonthDayHourMinute")]
    YearMonthDayHourMinute,
    /// `2026-11-28T19:00:00Z`
    #[value(name = "RFC3339")]
    Rfc3339,
    /// `2026-11-28T19:00:00.123Z`
    #[value(name = "RFC3339Milli")]
    Rfc3339Milli,
    /// `2026-11-28T19:00:00.123456Z`
    #[value(name = "RFC3339Micro")]
    Rfc3339Micro,
    /// `2026-11-28T19:00:00.123456789Z`
    #[value(name = "RFC3339Nano")]
    Rfc3339Nano,
    /// `Sat, 28 Nov 2026 19:00:00 +0000`
    #[value(name = "RFC1123Z")]
    Rfc1123z,
}

impl TimeFormat {
    /// A time in this format.
    #[must_use]
    pub fn text(self, time: Timestamp) -> String {
        let utc = |format: &str| time.strftime(format).to_string();
        match self {
            Self::StampMilli => time
                .to_zoned(TimeZone::system())
                .strftime("%b %d %H:%M:%S%.3f")
                .to_string(),
            Self::YearMonthDay => utc("%Y-%m-%d"),
            Self::YearMonthDayHour => utc("%Y-%m-%dT%HZ"),
            Self::YearMonthDayHourMinute => utc("%Y-%m-%dT%H:%MZ"),
            Self::Rfc3339 => utc("%Y-%m-%dT%H:%M:%SZ"),
            Self::Rfc3339Milli => utc("%Y-%m-%dT%H:%M:%S%.3fZ"),
            Self::Rfc3339Micro => utc("%Y-%m-%dT%H:%M:%S%.6fZ"),
            Self::Rfc3339Nano => utc("%Y-%m-%dT%H:%M:%S%.9fZ"),
            Self::Rfc1123z => utc("%a, %d %b %Y %H:%M:%S +0000"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TimeFormat as F;

    #[test]
    fn times_are_written_as_their_formats_say() {
        let time = "2026-11-28T19:00:00.123456789Z".parse().expect("a time");
        for (format, expected) in [
            (F::YearMonthDay, "2026-11-28"),
            (F::YearMonthDayHour, "2026-11-28T19Z"),
            (F::YearMonthDayHourMinute, "2026-11-28T19:00Z"),
            (F::Rfc3339, "2026-11-28T19:00:00Z"),
            (F::Rfc3339Milli, "2026-11-28T19:00:00.123Z"),
            (F::Rfc3339Micro, "2026-11-28T19:00:00.123456Z"),
            (F::Rfc3339Nano, "2026-11-28T19:00:00.123456789Z"),
            (F::Rfc1123z, "Sat, 28 Nov 2026 19:00:00 +0000"),
        ] {
            assert_eq!(format.text(time), expected);
        }
    }
}
