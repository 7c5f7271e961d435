//! Regular expressions of filters, as RE2 reads them. [github.com/google/re2/wiki/Syntax]

use regex::bytes::{Regex, RegexBuilder};

/// Bytes of an expression once it is compiled, and of what it keeps while it looks.
const BYTES_MAX: usize = 128 << 10;
/// Brackets in one another.
const NESTING_MAX: u32 = 24;

/// A regular expression. It looks anywhere in a text; `^` and `$` are its ends.
#[derive(Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Reads an expression.
    ///
    /// # Errors
    /// Why it is none, in one line.
    pub fn read(text: &str) -> Result<Self, String> {
        let built = RegexBuilder::new(&ascii_classes(text))
            .nest_limit(NESTING_MAX)
            .size_limit(BYTES_MAX)
            .dfa_size_limit(BYTES_MAX)
            .build();
        built.map(Self).map_err(|error| {
            let text = error.to_string();
            let line = text.lines().last().unwrap_or("no expression");
            line.trim_start_matches("error: ").to_owned()
        })
    }

    /// Whether it is found in a text.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text.as_bytes())
    }
}

/// The classes of Perl are of ASCII in RE2, while `.`, `[^a]` and `(?i)` are of Unicode. A class may
/// stand in another one.
fn ascii_classes(text: &str) -> String {
    let mut found = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(one) = rest.next() {
        let escaped = if one == '\\' { rest.next() } else { None };
        match escaped {
            Some('d') => found.push_str("[0-9]"),
            Some('D') => found.push_str("[^0-9]"),
            Some('w') => found.push_str("[0-9A-Za-z_]"),
            Some('W') => found.push_str("[^0-9A-Za-z_]"),
            Some('s') => found.push_str(r"[\t\n\f\r ]"),
            Some('S') => found.push_str(r"[^\t\n\f\r ]"),
            Some('b') => found.push_str(r"(?-u:\b)"),
            Some('B') => found.push_str(r"(?-u:\B)"),
            _ => {
                found.push(one);
                found.extend(escaped);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_means_what_it_means_to_re2() {
        for (expression, yes, no) in [
            // Of ASCII.
            (r"^\d+$", "2026", "٢"),
            (r"^\w+$", "web_0", "wéb"),
            (r"^\s$", "\t", "\u{b}"),
            (r"^\S$", "\u{a0}", " "),
            (r"^\W$", "é", "e"),
            (r"^\D$", "٢", "2"),
            (r"^[\w.-]+$", "web-0.shop", "web/0"),
            (r"^[^\d\s]+$", "é", "1"),
            (r"^[^\W_]$", "a", "_"),
            (r"\bé", "aé", "é"),
            (r"a\B", "ab", "aé"),
            (r"^[[:alpha:]]$", "a", "é"),
            // Of Unicode.
            ("^.$", "é", "éé"),
            ("^[^a]$", "é", "a"),
            ("^[à-ï]$", "é", "z"),
            ("^é{2}$", "éé", "é"),
            ("(?i)^É$", "é", "e"),
            ("(?i)^web$", "WEB", "wob"),
            (r"^\pL\p{Lu}$", "éÉ", "ÉÉ1"),
            (r"^\p{Greek}$", "α", "a"),
            (r"^\PL$", "1", "é"),
            // Backslashes that stand for themselves.
            (r"^\\d$", r"\d", "1"),
            (r"^10\.0\.", "10.0.1", "10x0x1"),
            // Anywhere, and `$` is the end alone.
            ("b", "abc", "ac"),
            ("a$", "a", "a\n"),
            ("(?m)a$", "a\nb", "ab"),
            ("^.$", "a", "\n"),
            ("(?s)^.$", "\n", ""),
        ] {
            let pattern = Pattern::read(expression).unwrap_or_else(|e| panic!("{expression}: {e}"));
            assert!(pattern.is_match(yes), "{expression} {yes}");
            assert!(!pattern.is_match(no), "{expression} {no}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_in_one_line() {
        for (expression, words) in [
            ("(a", "unclosed group"),
            (
                r"\",
                "incomplete escape sequence, reached end of pattern prematurely",
            ),
            (r"[\b]", "invalid escape sequence found in character class"),
            (r"(a)\1", "backreferences are not supported"),
            (
                "a(?=b)",
                "look-around, including look-ahead and look-behind, is not supported",
            ),
        ] {
            let found = Pattern::read(expression).expect_err(expression);
            assert_eq!(found, words, "{expression}");
        }
        let large = [
            r"(\w{100}){100}".to_owned(),
            format!("{}a{}", "(".repeat(400), ")".repeat(400)),
        ];
        for expression in large {
            assert!(Pattern::read(&expression).is_err(), "{expression}");
        }
    }
}
