//! Spans of time as people write them.

/// Seconds of `30d`, `12h`, `45m`, `90s`, `2w`.
///
/// # Errors
/// What was expected.
pub fn seconds(text: &str) -> Result<u64, String> {
    let expected = || "expected a span such as 30d, 12h, 45m, 90s or 2w".to_owned();
    let unit = text.chars().next_back().ok_or_else(expected)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(expected()),
    };
    let count = &text[..text.len() - 1];
    let count: u32 = count.parse().map_err(|_| expected())?;
    Ok(u64::from(count) * seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        for (text, expected) in [
            ("30d", 2_592_000),
            ("12h", 43_200),
            ("90s", 90),
            ("2w", 1_209_600),
        ] {
            assert_eq!(seconds(text), Ok(expected));
        }
        for text in ["", "d", "30", "-1d", "1.5h", "30 d", "30ä"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
