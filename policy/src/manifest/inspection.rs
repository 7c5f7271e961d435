//! What an entry of `toPorts` asks to be looked at above L4.

use super::node::{Faults, Fields, Node, quoted};
use crate::http::expression;
use crate::{
    Compat, Direction, Filter, HeaderMatch, HttpRule, Inspection, Listener, Mismatch, NamePattern,
    SecretName, Section, Settings, TlsContext,
};

/// Where an entry stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) section: Section,
    /// Whether the rule is about nodes.
    pub(crate) is_about_nodes: bool,
    pub(crate) settings: &'a Settings,
}

/// Said of everything here.
pub(crate) const LATER: &str = "read and checked, but enforced only from a later stage on; until \
                                then the traffic it would allow is dropped";

/// Reads it; None when nothing is asked.
pub(crate) fn read(
    entry: &Node<'_>,
    fields: &Fields<'_>,
    place: Place<'_>,
    faults: &mut Faults,
) -> Option<Inspection> {
    if place.section.is_deny() {
        refuse_in_deny(fields, faults);
        return None;
    }
    let inspection = Inspection {
        filter: filter(fields, place, faults),
        server_names: server_names(fields, faults),
        terminating_tls: tls(fields, "terminatingTLS", faults),
        originating_tls: tls(fields, "originatingTLS", faults),
        listener: listener(fields, place.section, faults),
    };
    check_together(entry, &inspection, place, faults);
    if inspection == Inspection::default() {
        return None;
    }
    entry.warn(LATER, faults);
    Some(inspection)
}

/// Whatever is judged above L4 is refused in a deny section, not passed over: without it the
/// entry would forbid more.
fn refuse_in_deny(fields: &Fields<'_>, faults: &mut Faults) {
    if let Some(rules) = fields.get("rules")
        && let Some(kinds) = Fields::strict(&rules, "rules", &["http", "dns"], faults)
    {
        for kind in ["http", "dns"].iter().filter_map(|name| kinds.get(name)) {
            if kind.is_empty_list() {
                kind.warn(EMPTY, faults);
            } else {
                kind.fault(
                    "no rules in a deny section: to deny single requests is an extension that \
                     comes with the L7 stage and is not supported yet; without the rules this \
                     would deny the whole port, so it is refused and not cut down",
                    faults,
                );
            }
        }
    }
    for name in [
        "listener",
        "terminatingTLS",
        "originatingTLS",
        "serverNames",
    ] {
        if let Some(node) = fields.get(name) {
            node.fault(
                &format!("only ports in a deny section: {name} is not one of its fields"),
                faults,
            );
        }
    }
}

const EMPTY: &str = "an empty list is as if it were not there: nothing is filtered";

fn filter(fields: &Fields<'_>, place: Place<'_>, faults: &mut Faults) -> Filter {
    let Some(rules) = fields.get("rules") else {
        return Filter::None;
    };
    let removed = ["kafka", "l7proto", "l7"];
    let kinds = Fields::lenient(&rules, faults);
    if let Some(node) = kinds.and_then(|kinds| removed.iter().find_map(|name| kinds.get(name))) {
        node.fault(
            "http or dns: the other kinds of rules have been removed from the policy language",
            faults,
        );
        return Filter::None;
    }
    let Some(kinds) = Fields::strict(&rules, "rules", &["http", "dns"], faults) else {
        return Filter::None;
    };
    for kind in ["http", "dns"].iter().filter_map(|name| kinds.get(name)) {
        if kind.is_empty_list() {
            kind.warn(EMPTY, faults);
        }
    }
    let (http, dns) = (kinds.list("http", faults), kinds.list("dns", faults));
    match (http.is_empty(), dns.is_empty()) {
        (true, true) => Filter::None,
        (false, false) => {
            rules.fault_found("one kind of rules in an entry", "http and dns", faults);
            Filter::None
        }
        (false, true) => Filter::Http(
            http.iter()
                .filter_map(|node| http_rule(node, place.settings, faults))
                .collect(),
        ),
        (true, false) => {
            if place.section.direction() == Direction::Ingress {
                rules.fault(
                    "no dns rules at ingress: queries are judged where they leave",
                    faults,
                );
            }
            Filter::Dns(
                dns.iter()
                    .filter_map(|node| name_pattern(node, faults))
                    .collect(),
            )
        }
    }
}

fn http_rule(node: &Node<'_>, settings: &Settings, faults: &mut Faults) -> Option<HttpRule> {
    let known = ["path", "method", "host", "headers", "headerMatches"];
    let fields = Fields::strict(node, "an HTTP rule", &known, faults)?;
    let mut text = |name: &str, is_checked: bool| {
        let node = fields.get(name)?;
        let text = node.text(faults)?;
        if text.is_empty() {
            return None;
        }
        if is_checked && let Err(error) = expression(text) {
            node.fault(
                &format!("a regular expression of RE2 ({})", error.0),
                faults,
            );
        }
        if name == "path" {
            lint_path(&node, text, faults);
        }
        Some(text.to_owned())
    };
    let mut rule = HttpRule {
        path: text("path", true),
        method: text("method", true),
        // The reference engine looks at it only in its proxy.
        host: text("host", settings.compat == Compat::Portcullis),
        headers: Vec::new(),
    };
    for node in fields.list("headers", faults) {
        rule.headers.extend(header(&node, faults));
    }
    for node in fields.list("headerMatches", faults) {
        rule.headers.extend(header_match(&node, faults));
    }
    Some(rule)
}

/// `/api/*` is a glob to most people, and slashes to an expression.
fn lint_path(node: &Node<'_>, text: &str, faults: &mut Faults) {
    let Some(place) = text.find("/*") else { return };
    let (before, after) = (&text[..place], &text[place + 2..]);
    node.warn(
        &format!(
            "a regular expression: it matches '{before}' and slashes{}; did you mean \
             '{before}/.*{after}'?",
            if after.is_empty() {
                String::new()
            } else {
                format!(" and '{after}'")
            }
        ),
        faults,
    );
}

/// `Name: value`, or the name alone.
fn header(node: &Node<'_>, faults: &mut Faults) -> Option<HeaderMatch> {
    let text = node.text(faults)?;
    let (name, value) = text.split_once(' ').unwrap_or((text, ""));
    let name = name.strip_suffix(':').unwrap_or(name);
    if name.is_empty() {
        node.fault("the name of a header, or \"Name: value\"", faults);
        return None;
    }
    lint_value(node, value, faults);
    Some(HeaderMatch {
        name: name.to_owned(),
        value: value.to_owned(),
        secret: None,
        mismatch: None,
    })
}

fn header_match(node: &Node<'_>, faults: &mut Faults) -> Option<HeaderMatch> {
    let known = ["name", "value", "secret", "mismatch"];
    let fields = Fields::strict(node, "a header match", &known, faults)?;
    let name = fields.required("name", "the name of a header", faults)?;
    let text = name.text(faults)?;
    if text.is_empty() {
        name.fault("the name of a header", faults);
        return None;
    }
    let value = fields.get("value");
    let value_text = value
        .as_ref()
        .and_then(|node| node.text(faults))
        .unwrap_or("");
    if let Some(node) = &value {
        lint_value(node, value_text, faults);
    }
    let mismatch = match fields.get("mismatch") {
        None => None,
        Some(node) => match node.text(faults)? {
            "LOG" => Some(Mismatch::Log),
            "ADD" => Some(Mismatch::Add),
            "DELETE" => Some(Mismatch::Delete),
            "REPLACE" => Some(Mismatch::Replace),
            _ => {
                node.fault("LOG, ADD, DELETE or REPLACE", faults);
                None
            }
        },
    };
    Some(HeaderMatch {
        name: text.to_owned(),
        value: value_text.to_owned(),
        secret: fields.get("secret").and_then(|node| secret(&node, faults)),
        mismatch,
    })
}

/// Values are compared as they stand; most people who write a star think otherwise.
fn lint_value(node: &Node<'_>, value: &str, faults: &mut Faults) {
    let is_pattern = ["*", ".+", "[", "\\"]
        .iter()
        .any(|mark| value.contains(mark))
        || value.starts_with('^')
        || value.ends_with('$');
    if is_pattern {
        node.warn(
            &format!(
                "looks like a pattern, but values are compared as they stand: only {} itself \
                 matches",
                quoted(value)
            ),
            faults,
        );
    }
}

/// One `matchName` or `matchPattern`.
pub(crate) fn name_pattern(node: &Node<'_>, faults: &mut Faults) -> Option<NamePattern> {
    let known = ["matchName", "matchPattern"];
    let fields = Fields::strict(node, "a DNS name", &known, faults)?;
    let (read, node) = match (fields.get("matchName"), fields.get("matchPattern")) {
        (Some(name), None) => (NamePattern::name(name.text(faults)?), name),
        (None, Some(pattern)) => (NamePattern::pattern(pattern.text(faults)?), pattern),
        _ => {
            node.fault("one of matchName and matchPattern", faults);
            return None;
        }
    };
    let is_empty = node.is_text("");
    if read.is_none() || is_empty {
        node.fault(
            "at most 255 letters, digits, '-', '_' and '.', and '*' in a pattern",
            faults,
        );
        return None;
    }
    read
}

fn server_names(fields: &Fields<'_>, faults: &mut Faults) -> Vec<String> {
    let mut names = Vec::new();
    for node in fields.list("serverNames", faults) {
        let Some(text) = node.text(faults) else {
            continue;
        };
        let is_name = !text.is_empty() && NamePattern::pattern(text).is_some();
        if is_name {
            names.push(text.to_ascii_lowercase());
        } else {
            node.fault(
                "a server name, `*.` before it for one label, `**.` for more",
                faults,
            );
        }
    }
    names
}

fn secret(node: &Node<'_>, faults: &mut Faults) -> Option<SecretName> {
    let fields = Fields::strict(node, "a secret", &["namespace", "name"], faults)?;
    let name = fields.required("name", "the name of a secret", faults)?;
    let text = name.text(faults)?;
    if text.is_empty() {
        name.fault("the name of a secret", faults);
        return None;
    }
    let namespace = fields.get("namespace").and_then(|node| node.text(faults));
    Some(SecretName {
        namespace: namespace.map(str::to_owned),
        name: text.to_owned(),
    })
}

fn tls(fields: &Fields<'_>, name: &str, faults: &mut Faults) -> Option<TlsContext> {
    let node = fields.get(name)?;
    let known = ["secret", "trustedCA", "certificate", "privateKey"];
    let fields = Fields::strict(&node, name, &known, faults)?;
    let reference = fields.required("secret", "the secret that holds the certificate", faults)?;
    let mut text = |name: &str| Some(fields.get(name)?.text(faults)?.to_owned());
    let (trusted_ca, certificate, private_key) =
        (text("trustedCA"), text("certificate"), text("privateKey"));
    Some(TlsContext {
        secret: secret(&reference, faults)?,
        trusted_ca,
        certificate,
        private_key,
    })
}

fn listener(fields: &Fields<'_>, section: Section, faults: &mut Faults) -> Option<Listener> {
    let node = fields.get("listener")?;
    let fields = Fields::strict(
        &node,
        "a listener",
        &["envoyConfig", "name", "priority"],
        faults,
    )?;
    if section.direction() == Direction::Ingress {
        node.fault("no listener at ingress", faults);
    }
    let name = fields.required("name", "the name of a listener", faults)?;
    let config = fields.required("envoyConfig", "the object that configures it", faults)?;
    let config = Fields::strict(&config, "envoyConfig", &["kind", "name"], faults)?;
    let kind = match config.get("kind") {
        None => "",
        Some(node) => match node.text(faults)? {
            kind @ ("CiliumEnvoyConfig" | "CiliumClusterwideEnvoyConfig") => kind,
            _ => {
                node.fault("CiliumEnvoyConfig or CiliumClusterwideEnvoyConfig", faults);
                return None;
            }
        },
    };
    let of = config.required("name", "the name of that object", faults)?;
    let priority = match fields.get("priority") {
        None => None,
        Some(node) => u8::try_from(node.number(1, 100, "a priority", faults)?).ok(),
    };
    Some(Listener {
        kind: kind.to_owned(),
        config: of.text(faults)?.to_owned(),
        name: name.text(faults)?.to_owned(),
        priority,
    })
}

/// What cannot be asked together. [policy-semantics §13]
fn check_together(
    entry: &Node<'_>,
    inspection: &Inspection,
    place: Place<'_>,
    faults: &mut Faults,
) {
    let has_rules = inspection.filter != Filter::None;
    if has_rules && !inspection.server_names.is_empty() && inspection.terminating_tls.is_none() {
        let expected = "serverNames without rules, or with terminatingTLS: requests inside TLS \
                        cannot be read otherwise";
        entry.fault_found(expected, "both", faults);
    }
    if has_rules && inspection.listener.is_some() {
        entry.fault_found("a listener or rules", "both", faults);
    }
    let is_dns = matches!(inspection.filter, Filter::Dns(_));
    if place.is_about_nodes
        && *inspection != Inspection::default()
        && (place.section.direction() == Direction::Ingress || !is_dns)
    {
        entry.fault_found(
            "only dns rules at egress in a policy for nodes",
            "something else above L4",
            faults,
        );
    }
}
