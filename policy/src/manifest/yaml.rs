//! Text to plain values, within a budget.

use crate::DocumentError;
use serde_json::Value;

/// Bytes of one file.
const FILE_BYTES_MAX: usize = 16 << 20;

/// Reads every document of the text that is not empty.
///
/// Fails on text that is no YAML, that says a key twice, or that asks for more than the budget:
/// depth, nodes, documents, aliases.
pub(crate) fn read(file: &str, text: &str) -> Result<Vec<Value>, DocumentError> {
    let error = |field: String, expected: String, found: String| DocumentError {
        file: file.to_owned(),
        document: 0,
        field,
        expected,
        found,
    };
    if text.len() > FILE_BYTES_MAX {
        let expected = format!("at most {FILE_BYTES_MAX} bytes");
        return Err(error(String::new(), expected, text.len().to_string()));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 48,
            max_documents: 10_000,
            max_nodes: 2_000_000,
            max_events: 4_000_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_merge_keys: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
        },
        with_snippet: false,
        emit_comments: false,
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|fault| {
        let place = fault.location().filter(|place| place.line() > 0);
        let field = place.map_or(String::new(), |place| {
            format!("line {}, column {}", place.line(), place.column())
        });
        error(field, "YAML".to_owned(), message(&fault.to_string()))
    })
}

/// The parser's message in one line, without the place that it repeats.
fn message(text: &str) -> String {
    let line = text
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("something else");
    let line = line.trim().trim_start_matches("error: ");
    line.split(" at line ").next().unwrap_or(line).to_owned()
}
