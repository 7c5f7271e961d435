//! Patterns of names: `*` stands for any part of a name.

/// A pattern, in small letters, without the trailing dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob(String);

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it holds letters that no name has.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let folded = fold(text);
        let is_right = !folded.is_empty()
            && folded
                .bytes()
                .all(|byte| byte == b'*' || byte == b'_' || is_part(byte));
        if is_right {
            Ok(Self(folded))
        } else {
            Err(format!(
                "expected a name in which * stands for any part, found \"{text}\""
            ))
        }
    }

    /// Whether a name is meant, in whatever letters.
    pub(crate) fn matches(&self, name: &str) -> bool {
        is_match(self.0.as_bytes(), fold(name).as_bytes())
    }
}

fn fold(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

const fn is_part(byte: u8) -> bool {
    matches!(byte, b'-' | b'.' | b'0'..=b'9' | b'a'..=b'z')
}

/// Goes back to the last star alone: that is enough, as an earlier one has found its first fit.
fn is_match(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut place) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while place < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, place));
                at += 1;
            }
            Some(byte) if *byte == name[place] => {
                at += 1;
                place += 1;
            }
            _ => match star {
                Some((star_at, from)) if is_part(name[from]) => {
                    star = Some((star_at, from + 1));
                    at = star_at + 1;
                    place = from + 1;
                }
                _ => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_part_and_letters_and_the_last_dot_do_not_matter() {
        for (pattern, name, is_meant) in [
            ("api.example.com", "API.example.com.", true),
            ("api.example.com.", "api.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*example.com", "example.com", true),
            (
                "*.cluster.local*",
                "kube-dns.kube-system.svc.cluster.local.",
                true,
            ),
            ("a*b*c", "a-x-b-y-b-c", true),
            ("a*b*c", "a-x-b-y", false),
            ("*", "anything.at.all", true),
            ("a*", "a b", false),
        ] {
            let glob = Glob::parse(pattern).unwrap();
            assert_eq!(glob.matches(name), is_meant, "{pattern} {name}");
        }
        assert!(Glob::parse("a b").is_err() && Glob::parse(".").is_err());
    }
}
