//! Moments as people write them: `5m` ago, or a time.

use jiff::civil::Date;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Reads `90s`, `5m`, `1h30m`, `3d`: so long ago; or a time such as `2026-11-28T19:00:00Z`.
///
/// # Errors
/// What was expected.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    moment_before(text, Timestamp::now())
}

fn moment_before(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let expected =
        || "expected how long ago (90s, 5m, 1h30m, 3d) or a time (2026-11-28T19:00:00Z)".to_owned();
    if let Some(time) = written(text) {
        return Ok(time);
    }
    // A day has 24 hours here: what is asked for is so many of them ago.
    let ago = match text.strip_suffix('d').map(str::parse::<u32>) {
        Some(Ok(days)) => SignedDuration::from_hours(24 * i64::from(days)),
        _ => text.parse().map_err(|_| expected())?,
    };
    if ago.is_negative() {
        return Err(expected());
    }
    now.checked_sub(ago).map_err(|_| expected())
}

/// A time in one of the forms that Hubble's command line takes: RFC 3339, its beginning down to the
/// minute, the hour or the day, RFC 1123 with a numeric zone.
fn written(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    if let Ok(day) = text.parse::<Date>()
        && text.len() == "2026-11-28".len()
    {
        return day.to_zoned(TimeZone::UTC).ok().map(|day| day.timestamp());
    }
    // The zone stands behind the hour or the minute: the rest is filled in before it.
    let (moment, zone) = text.split_at_checked("2026-11-28T19".len())?;
    let (minute, zone) = match zone
        .strip_prefix(':')
        .and_then(|rest| rest.split_at_checked(2))
    {
        Some((minute, zone)) => (minute, zone),
        None => ("00", zone),
    };
    let filled = format!("{moment}:{minute}:00{zone}").parse().ok();
    filled.or_else(|| Some(rfc2822::parse(text).ok()?.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_so_long_ago_or_a_time() {
        let now: Timestamp = "2026-11-28T19:00:00Z".parse().expect("a time");
        for (text, expected) in [
            ("90s", "2026-11-28T18:58:30Z"),
            ("1h30m", "2026-11-28T17:30:00Z"),
            ("3d", "2026-11-25T19:00:00Z"),
            ("2026-11-28T10:00:00+01:00", "2026-11-28T09:00:00Z"),
            ("2026-11-28T10:00:00.5Z", "2026-11-28T10:00:00.5Z"),
            ("2026-11-28", "2026-11-28T00:00:00Z"),
            ("2026-11-28T10Z", "2026-11-28T10:00:00Z"),
            ("2026-11-28T10+01:00", "2026-11-28T09:00:00Z"),
            ("2026-11-28T10:30Z", "2026-11-28T10:30:00Z"),
            ("2026-11-28T10:30-02:00", "2026-11-28T12:30:00Z"),
            ("Sat, 28 Nov 2026 10:00:00 +0100", "2026-11-28T09:00:00Z"),
            ("300ms", "2026-11-28T18:59:59.7Z"),
            ("1.5h", "2026-11-28T17:30:00Z"),
        ] {
            let read = moment_before(text, now).map(|time| time.to_string());
            assert_eq!(read.as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "5",
            "yesterday",
            "-5m",
            "99999999999d",
            "2026-11-31",
            "2026-11-28T10",
        ] {
            assert!(moment_before(text, now).is_err(), "{text}");
        }
    }
}
