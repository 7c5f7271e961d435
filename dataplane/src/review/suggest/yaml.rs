//! YAML as people would write it, line by line, with comments.

use super::draft::{Draft, DraftRule};
use super::workload::Workload;
use std::fmt::Write;

/// A document that grows.
#[derive(Debug, Default)]
pub struct Yaml(String);

impl Yaml {
    /// Adds a line at a depth of indentation.
    pub fn line(&mut self, depth: usize, text: &str) {
        let _ = writeln!(self.0, "{:1$}{text}", "", 2 * depth);
    }

    /// Adds a comment.
    pub fn comment(&mut self, depth: usize, text: &str) {
        // A line break in a name would end the comment.
        self.line(depth, &format!("# {}", text.replace(char::is_control, " ")));
    }

    /// Begins a policy: what it is, where it comes from, its name.
    pub fn head(&mut self, api: &str, kind: &str, draft: &Draft, workload: &Workload) {
        let count = |rules: &[DraftRule]| rules.iter().map(|rule| rule.count).sum::<u64>();
        self.comment(
            0,
            &format!(
                "What {} was seen to need: {} connections to it, {} from it. Nothing else passes.",
                workload.title(),
                count(&draft.ingress),
                count(&draft.egress)
            ),
        );
        self.line(0, &format!("apiVersion: {api}"));
        self.line(0, &format!("kind: {kind}"));
        self.line(0, "metadata:");
        self.line(1, &format!("name: {}", workload.policy));
        self.line(1, &format!("namespace: {}", scalar(&workload.namespace)));
        self.line(0, "spec:");
    }

    /// Says what a rule was inferred from.
    pub fn evidence(&mut self, depth: usize, rule: &DraftRule) {
        let last = rule.last.strftime("%Y-%m-%d %H:%M:%SZ");
        let plural = if rule.count == 1 { "" } else { "s" };
        let text = format!(
            "From {} connection{plural}, the last at {last}.",
            rule.count
        );
        self.comment(depth, &text);
        if rule.is_dns {
            self.comment(
                depth,
                "DNS: a truncated answer is asked for again over TCP, so 53/TCP goes with 53/UDP.",
            );
        }
    }

    /// The document.
    pub fn finish(self) -> String {
        self.0
    }
}

/// A text as a value or key: as it is where nothing could take it for something else.
pub fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || "-_./".contains(letter));
    let lower = text.to_ascii_lowercase();
    let is_word =
        ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&lower.as_str());
    if is_plain && !is_word {
        text.to_owned()
    } else {
        // JSON is YAML.
        serde_json::Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_yaml_would_read_as_something_else_is_quoted() {
        for plain in ["web", "app.kubernetes.io/name", "v1.2", "a_b"] {
            assert_eq!(scalar(plain), plain);
        }
        for quoted in ["", "80", "true", "Yes", "1.5", "a: b", "a#b", "-", "~"] {
            assert_eq!(scalar(quoted), format!("\"{quoted}\""));
        }
    }
}
