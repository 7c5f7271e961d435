//! Moments as people write them: `5m` ago, or a time.

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
    if let Ok(time) = text.parse::<Timestamp>() {
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
        ] {
            let read = moment_before(text, now).map(|time| time.to_string());
            assert_eq!(read.as_deref(), Ok(expected), "{text}");
        }
        for text in ["", "5", "yesterday", "-5m", "99999999999d"] {
            assert!(moment_before(text, now).is_err(), "{text}");
        }
    }
}
