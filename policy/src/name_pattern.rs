//! Patterns of DNS names.

/// Characters of a name or pattern.
const LENGTH_MAX: usize = 255;

/// What a rule says of names, in lower case and with the trailing dot.
///
/// [policy-semantics §9.1]
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamePattern {
    /// This name.
    Name(String),
    /// Names of this form.
    Pattern(String),
}

impl NamePattern {
    /// A `matchName`; None when it has other characters than a name's, or too many.
    #[must_use]
    pub fn name(text: &str) -> Option<Self> {
        is_of(text, is_name_byte).then(|| Self::Name(absolute(text)))
    }

    /// A `matchPattern`; None when it has other characters than a pattern's, or too many.
    #[must_use]
    pub fn pattern(text: &str) -> Option<Self> {
        is_of(text, |byte| is_name_byte(byte) || byte == b'*')
            .then(|| Self::Pattern(absolute(text)))
    }

    /// Whether the name is meant. Upper and lower case are the same, and so is a name without
    /// its trailing dot.
    ///
    /// Never allocates more than the name; costs at most the product of both lengths.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        if name.len() > LENGTH_MAX {
            return false;
        }
        let name = absolute(name);
        match self {
            Self::Name(wanted) => *wanted == name,
            Self::Pattern(pattern) => {
                if is_every_name(pattern) {
                    return name == "." || is_of_labels(&name);
                }
                let rest = pattern.trim_start_matches('*');
                if pattern.len() - rest.len() >= 2
                    && let Some(rest) = rest.strip_prefix('.')
                {
                    return has_more_labels(rest, &name);
                }
                fits(pattern.as_bytes(), name.as_bytes())
            }
        }
    }

    /// Whether a query for the name may pass: as `matches`, but stars alone let every name pass,
    /// also one that no name can be. [policy-semantics §8.3]
    #[must_use]
    pub fn lets_ask(&self, name: &str) -> bool {
        match self {
            Self::Pattern(pattern) if is_every_name(pattern) => true,
            _ => self.matches(name),
        }
    }
}

/// Whether a pattern is only stars, with or without the dot of the root.
fn is_every_name(pattern: &str) -> bool {
    let stars = pattern.trim_end_matches('.');
    !stars.is_empty() && stars.bytes().all(|byte| byte == b'*')
}

/// How it was written, without the trailing dot.
impl std::fmt::Display for NamePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Name(text) | Self::Pattern(text)) = self;
        f.write_str(match text.strip_suffix('.') {
            Some(shorter) if !shorter.is_empty() => shorter,
            _ => text,
        })
    }
}

fn absolute(text: &str) -> String {
    let mut name = text.trim().to_ascii_lowercase();
    if !name.ends_with('.') {
        name.push('.');
    }
    name
}

fn is_of(text: &str, is_allowed: impl Fn(u8) -> bool) -> bool {
    text.len() <= LENGTH_MAX && text.bytes().all(is_allowed)
}

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// What a star stands for, never a dot.
const fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Whether the name is labels, each with its dot.
fn is_of_labels(name: &str) -> bool {
    name.strip_suffix('.').is_some_and(|name| {
        name.split('.')
            .all(|label| !label.is_empty() && label.bytes().all(is_label_byte))
    })
}

/// Whether the name is one or more whole labels and then what the pattern says.
fn has_more_labels(pattern: &str, name: &str) -> bool {
    let mut rest = name;
    while let Some((label, more)) = rest.split_once('.') {
        if label.is_empty() || !label.bytes().all(is_label_byte) {
            return false;
        }
        if fits(pattern.as_bytes(), more.as_bytes()) {
            return true;
        }
        rest = more;
    }
    false
}

/// Whether the name fits the pattern: a walk that remembers only the last star, as what a star
/// may take is the same for all of them.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut place) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while place < name.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, place));
            at += 1;
        } else if pattern.get(at) == Some(&name[place]) {
            at += 1;
            place += 1;
        } else if let Some((star_at, taken)) = star
            && is_label_byte(name[taken])
        {
            star = Some((star_at, taken + 1));
            at = star_at + 1;
            place = taken + 1;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> NamePattern {
        NamePattern::pattern(text).expect("a pattern")
    }

    #[test]
    fn a_star_stays_inside_its_label() {
        let one = pattern("*.example.com");
        assert!(one.matches("a.example.com"));
        assert!(!one.matches("a.b.example.com"));
        assert!(!one.matches("example.com"));
        assert!(pattern("*example.com").matches("xexample.com"));
        assert!(!pattern("a*c.com").matches("a.c.com"));
    }

    #[test]
    fn two_stars_and_a_dot_are_whole_labels() {
        let any_depth = pattern("**.example.com");
        assert!(any_depth.matches("a.example.com"));
        assert!(any_depth.matches("a.b.example.com"));
        assert!(!any_depth.matches("example.com"));
        assert!(!any_depth.matches(".example.com"));
    }

    #[test]
    fn only_stars_are_every_name() {
        for text in ["*", "**", "*.", "**."] {
            assert!(pattern(text).matches("."), "{text}");
            assert!(pattern(text).matches("a.example"), "{text}");
            assert!(!pattern(text).matches("a$b.example"), "{text}");
            assert!(pattern(text).lets_ask("a$b.example"), "{text}");
        }
    }

    #[test]
    fn a_hostile_pattern_ends_in_time() {
        let text = "a*".repeat(120);
        let name = "a".repeat(250);
        assert!(!pattern(&format!("{text}b")).matches(&name));
    }
}
