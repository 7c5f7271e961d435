//! The words of an expression.
//!
//! [github.com/google/cel-spec, doc/langdef.md#syntax]

use super::Fault;

/// A word.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Name(String),
    /// Without a sign: that is an operator.
    Int(u64),
    Uint(u64),
    Double(f64),
    Text(String),
    /// Brackets and operators.
    Sign(&'static str),
    End,
}

/// Longer ones first.
const SIGNS: [&str; 24] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", "(", ")",
    "[", "]", "{", "}", ",", ".",
];

/// All words, each with the byte that it begins at. The last one is `End`.
pub(super) fn all(text: &str) -> Result<Vec<(usize, Token)>, Fault> {
    let mut words = Vec::new();
    let mut place = 0;
    while let Some(first) = text[place..].chars().next() {
        let rest = &text[place..];
        if first.is_ascii_whitespace() {
            place += 1;
            continue;
        }
        if rest.starts_with("//") {
            place += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        let (token, length) = word(rest, first).map_err(|fault| Fault::at(place, fault))?;
        words.push((place, token));
        place += length;
    }
    words.push((text.len(), Token::End));
    Ok(words)
}

fn word(rest: &str, first: char) -> Result<(Token, usize), String> {
    let (is_raw, quoted) = match rest.strip_prefix(['r', 'R']) {
        Some(quoted) => (true, quoted),
        None => (false, rest),
    };
    if quoted.starts_with(['"', '\'']) {
        let (text, length) = quotation(quoted, is_raw)?;
        return Ok((Token::Text(text), length + usize::from(is_raw)));
    }
    let second = rest.as_bytes().get(1);
    if first.is_ascii_digit() || (first == '.' && second.is_some_and(u8::is_ascii_digit)) {
        return number(rest);
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let is_end = |one: char| !one.is_ascii_alphanumeric() && one != '_';
        let length = rest.find(is_end).unwrap_or(rest.len());
        return Ok((Token::Name(rest[..length].to_owned()), length));
    }
    match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
        Some(sign) => Ok((Token::Sign(sign), sign.len())),
        None => Err(format!("expected an operator, found \"{first}\"")),
    }
}

fn number(rest: &str) -> Result<(Token, usize), String> {
    let digits = |text: &str| {
        let end = text.find(|one: char| !one.is_ascii_digit());
        end.unwrap_or(text.len())
    };
    if let Some(hex) = rest.strip_prefix("0x") {
        let end = hex.find(|one: char| !one.is_ascii_hexdigit());
        let length = end.unwrap_or(hex.len());
        return whole(&hex[..length], 16, &hex[length..], 2 + length);
    }
    let mut length = digits(rest);
    let mut is_whole = true;
    if let Some(after) = rest[length..].strip_prefix('.')
        && digits(after) > 0
    {
        length += 1 + digits(after);
        is_whole = false;
    }
    if let Some(after) = rest[length..].strip_prefix(['e', 'E']) {
        let sign = usize::from(after.starts_with(['+', '-']));
        if digits(&after[sign..]) > 0 {
            length += 1 + sign + digits(&after[sign..]);
            is_whole = false;
        }
    }
    if is_whole {
        return whole(&rest[..length], 10, &rest[length..], length);
    }
    let digits = &rest[..length];
    let double = digits.parse().ok().filter(|value: &f64| value.is_finite());
    let double = double.ok_or_else(|| no_number(digits))?;
    Ok((Token::Double(double), length))
}

fn whole(digits: &str, base: u32, after: &str, length: usize) -> Result<(Token, usize), String> {
    let value = u64::from_str_radix(digits, base).map_err(|_| no_number(digits))?;
    if after.starts_with(['u', 'U']) {
        return Ok((Token::Uint(value), length + 1));
    }
    Ok((Token::Int(value), length))
}

pub(super) fn no_number(found: &str) -> String {
    format!("expected a number of at most 64 bits, found \"{found}\"")
}

/// The text between quotes, and the bytes that it takes with them.
fn quotation(rest: &str, is_raw: bool) -> Result<(String, usize), String> {
    let quote = &rest[..1];
    let triple = quote.repeat(3);
    let quote = if rest.starts_with(&triple) {
        triple.as_str()
    } else {
        quote
    };
    let mut text = String::new();
    let mut place = quote.len();
    loop {
        let rest = &rest[place..];
        if rest.starts_with(quote) {
            return Ok((text, place + quote.len()));
        }
        let open = || format!("expected {quote} at the end of a text");
        let first = rest.chars().next().ok_or_else(open)?;
        if ['\n', '\r'].contains(&first) && quote.len() == 1 {
            return Err(open());
        }
        if first == '\\' && !is_raw {
            let (escaped, length) = escape(&rest[1..])?;
            text.push(escaped);
            place += 1 + length;
        } else {
            text.push(first);
            place += first.len_utf8();
        }
    }
}

/// What stands behind a backslash.
fn escape(rest: &str) -> Result<(char, usize), String> {
    let wrong = || "expected an escape such as \\n, \\x41 or \\u0041 behind \\".to_owned();
    let first = rest.chars().next().ok_or_else(wrong)?;
    let numbered = |skip: usize, length: usize, base: u32| {
        let digits = rest.get(skip..skip + length).ok_or_else(wrong)?;
        let number = u32::from_str_radix(digits, base).map_err(|_| wrong())?;
        let is_number = !digits.starts_with('+');
        let found = char::from_u32(number).filter(|_| is_number);
        Ok((found.ok_or_else(wrong)?, skip + length))
    };
    let plain = match first {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '\\' | '?' | '"' | '\'' | '`' => first,
        'x' | 'X' => return numbered(1, 2, 16),
        'u' => return numbered(1, 4, 16),
        'U' => return numbered(1, 8, 16),
        '0'..='3' => return numbered(0, 3, 8),
        _ => return Err(wrong()),
    };
    Ok((plain, 1))
}
