//! HTTP requests against HTTP rules.

use crate::{HeaderMatch, HttpRule};
use regex::bytes::{Regex, RegexBuilder};

/// Bytes of a compiled expression; more is refused when the document is read.
const EXPRESSION_BYTES_MAX: usize = 1 << 20;
/// Bytes of an expression as written.
const EXPRESSION_LENGTH_MAX: usize = 4096;

/// One request, as a proxy has read it: the path after normalisation.
#[derive(Debug, Clone, Copy)]
pub struct HttpRequest<'a> {
    /// `:method`
    pub method: &'a str,
    /// `:path`, with the query.
    pub path: &'a str,
    /// `:authority`, with the port if the client sent one.
    pub host: &'a str,
    /// The other headers.
    pub headers: &'a [(&'a str, &'a str)],
}

/// An HTTP rule, ready to be asked.
#[derive(Debug, Clone)]
pub struct HttpMatcher {
    method: Option<Regex>,
    path: Option<Regex>,
    host: Option<Regex>,
    headers: Vec<HeaderMatch>,
}

/// What is wrong with an expression, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionError(pub String);

impl HttpMatcher {
    /// Compiles a rule.
    ///
    /// # Errors
    /// An expression that is none, or that is too large when compiled.
    pub fn new(rule: &HttpRule) -> Result<Self, ExpressionError> {
        let compile = |text: &Option<String>| text.as_deref().map(expression).transpose();
        Ok(Self {
            method: compile(&rule.method)?,
            path: compile(&rule.path)?,
            host: compile(&rule.host)?,
            headers: rule.headers.clone(),
        })
    }

    /// Whether the rule lets the request pass. Takes time linear in the request.
    #[must_use]
    pub fn matches(&self, request: &HttpRequest<'_>) -> bool {
        let fits = |expression: &Option<Regex>, text: &str| {
            expression
                .as_ref()
                .is_none_or(|expression| expression.is_match(text.as_bytes()))
        };
        fits(&self.method, request.method)
            && fits(&self.path, request.path)
            && fits(&self.host, request.host)
            && self
                .headers
                .iter()
                .all(|wanted| wanted.mismatch.is_some() || has_header(wanted, request))
    }
}

fn has_header(wanted: &HeaderMatch, request: &HttpRequest<'_>) -> bool {
    // What a secret holds is not known here: only its presence could be judged, so it fails.
    wanted.secret.is_none()
        && request.headers.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case(&wanted.name)
                && (wanted.value.is_empty() || *value == wanted.value)
        })
}

/// An expression over the whole of a text. [RE2 syntax: neither look-around nor back references]
///
/// # Errors
/// Text that is no expression, or one that is too large when compiled.
pub(crate) fn expression(text: &str) -> Result<Regex, ExpressionError> {
    if text.len() > EXPRESSION_LENGTH_MAX {
        return Err(ExpressionError(format!(
            "it has more than {EXPRESSION_LENGTH_MAX} characters"
        )));
    }
    // A group that is closed inside and opened again would undo the anchors.
    let build = |text: &str| {
        RegexBuilder::new(text)
            .unicode(false)
            .size_limit(EXPRESSION_BYTES_MAX)
            .dfa_size_limit(EXPRESSION_BYTES_MAX)
            .nest_limit(50)
            .build()
    };
    let whole = build(text).and_then(|_| build(&format!("^(?:{text})$")));
    whole.map_err(|error| {
        let text = error.to_string();
        let line = text.lines().last().unwrap_or("no expression");
        ExpressionError(line.trim_start_matches("error: ").to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(rule: HttpRule) -> HttpMatcher {
        HttpMatcher::new(&rule).expect("valid expressions")
    }

    const REQUEST: HttpRequest<'static> = HttpRequest {
        method: "GET",
        path: "/api/v1/users",
        host: "api.example:8080",
        headers: &[("X-Token", "secret")],
    };

    #[test]
    fn an_expression_must_match_the_whole_field() {
        let path = |text: &str| HttpRule {
            path: Some(text.to_owned()),
            ..HttpRule::default()
        };
        assert!(matcher(path("/api/.*")).matches(&REQUEST));
        assert!(!matcher(path("/api")).matches(&REQUEST));
        assert!(!matcher(path("/api/v1/*")).matches(&REQUEST));
        assert!(matcher(path("/x|/api/v1/users")).matches(&REQUEST));
        assert!(!matcher(path("/API/.*")).matches(&REQUEST));
    }

    #[test]
    fn a_group_cannot_break_out_of_the_anchors() {
        assert!(expression("a)|(b").is_err());
    }

    #[test]
    fn expressions_that_explode_are_refused() {
        assert!(expression("((((a{1,999}){1,999}){1,999}){1,999})").is_err());
        assert!(expression(&"(".repeat(3000)).is_err());
        assert!(expression(r"(a)\1").is_err());
    }

    #[test]
    fn headers_are_compared_by_name_without_case_and_by_value_with_it() {
        let header = |name: &str, value: &str, mismatch| HttpRule {
            headers: vec![HeaderMatch {
                name: name.to_owned(),
                value: value.to_owned(),
                secret: None,
                mismatch,
            }],
            ..HttpRule::default()
        };
        assert!(matcher(header("x-token", "", None)).matches(&REQUEST));
        assert!(matcher(header("x-token", "secret", None)).matches(&REQUEST));
        assert!(!matcher(header("x-token", "Secret", None)).matches(&REQUEST));
        assert!(!matcher(header("x-other", "", None)).matches(&REQUEST));
        let logged = Some(crate::Mismatch::Log);
        assert!(matcher(header("x-other", "", logged)).matches(&REQUEST));
    }
}
