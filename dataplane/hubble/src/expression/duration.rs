//! Durations in text, as Go writes them, and in nanoseconds.

/// Decimal seconds.
pub(super) fn write(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let text = format!(
        "{sign}{}.{:09}",
        nanos / 1_000_000_000,
        nanos % 1_000_000_000
    );
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Nanoseconds of `1h30m`, `1.5s`, `-300ms`: as Go writes them.
pub(super) fn read(text: &str) -> Option<i64> {
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let is_number = |one: char| one.is_ascii_digit() || one == '.';
    let mut nanos = 0;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|one| !is_number(one))?);
        let (unit, after) = after.split_at(after.find(is_number).unwrap_or(after.len()));
        nanos += amount(number, unit)?;
        rest = after;
    }
    i64::try_from(if is_negative { -nanos } else { nanos }).ok()
}

fn amount(number: &str, unit: &str) -> Option<i128> {
    const DIGITS_MAX: usize = 15;
    let nanos = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // A leading zero changes nothing, and stands for what is left out.
    let digits = |text: &str| format!("0{text}").parse::<u64>().ok().map(i128::from);
    // What is below a nanosecond is lost.
    let fraction = &fraction[..fraction.len().min(DIGITS_MAX)];
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    Some(digits(whole)? * nanos + digits(fraction)? * nanos / scale)
}
