//! What a reader asks for: words of the form `[!][from:|to:]key=value`.
//!
//! Of several words with the same side and key one must hold, of those with others each; and none
//! of those that begin with `!`.

use super::row::{Row, RowEnd, TCP_FLAGS};
use portcullis_policy::Cidr;
use std::net::IpAddr;

/// Bytes of a filter.
const TEXT_MAX: usize = 4096;
/// Words of a filter.
const WORDS_MAX: usize = 64;

/// Keys, in the order in which they are offered.
const KEYS: [&str; 15] = [
    "ns",
    "pod",
    "workload",
    "label",
    "ip",
    "identity",
    "port",
    "protocol",
    "verdict",
    "direction",
    "reason",
    "policy",
    "event",
    "dns",
    "tcp-flag",
];

/// Which end a word is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Either,
    From,
    To,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Namespace(String),
    Pod(String),
    Workload(String),
    Label(String),
    Address(IpAddr),
    Block(Cidr),
    Identity(u32),
    Reserved(String),
    Port(u16),
    Protocol(String),
    Verdict(String),
    Direction(String),
    Reason(String),
    Policy(String),
    Event(String),
    Name(String),
    TcpFlag(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    is_not: bool,
    side: Side,
    key: &'static str,
    test: Test,
}

/// A filter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct RowFilter {
    words: Vec<Word>,
}

impl RowFilter {
    /// Reads a filter.
    ///
    /// # Errors
    /// The word that is not understood, and what was expected.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > TEXT_MAX {
            return Err(format!("filter: expected at most {TEXT_MAX} bytes"));
        }
        let words: Result<Vec<_>, _> = text.split_whitespace().map(Word::parse).collect();
        let words = words?;
        if words.len() > WORDS_MAX {
            return Err(format!("filter: expected at most {WORDS_MAX} words"));
        }
        Ok(Self { words })
    }

    /// Whether a line is wanted. Without a word about them, what a connection passed so far and its
    /// end are not.
    pub(super) fn matches(&self, row: &Row) -> bool {
        let asks_event = self.words.iter().any(|word| word.key == "event");
        if !asks_event && matches!(row.event, "update" | "end") {
            return false;
        }
        let is_kin = |one: &Word, other: &Word| {
            !other.is_not && one.side == other.side && one.key == other.key
        };
        self.words.iter().all(|word| {
            if word.is_not {
                return !word.is_met(row);
            }
            let mut kin = self.words.iter().filter(|other| is_kin(word, other));
            kin.any(|other| other.is_met(row))
        })
    }
}

impl Word {
    fn parse(text: &str) -> Result<Self, String> {
        let fault = |expected: &str| format!("filter: expected {expected}, found \"{text}\"");
        let (is_not, rest) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (side, rest) = if let Some(rest) = rest.strip_prefix("from:") {
            (Side::From, rest)
        } else if let Some(rest) = rest.strip_prefix("to:") {
            (Side::To, rest)
        } else {
            (Side::Either, rest)
        };
        let Some((key, value)) = rest.split_once('=').filter(|(_, value)| !value.is_empty()) else {
            return Err(fault("[!][from:|to:]key=value"));
        };
        let Some(key) = KEYS.into_iter().find(|known| *known == key) else {
            return Err(fault(&format!("a key of {}", KEYS.join(" "))));
        };
        let test = Test::parse(key, value).map_err(fault)?;
        let has_side = !matches!(
            key,
            "protocol" | "verdict" | "direction" | "reason" | "policy" | "event" | "tcp-flag"
        );
        if side != Side::Either && !has_side {
            return Err(fault(&format!("{key} without from: or to:")));
        }
        Ok(Self {
            is_not,
            side,
            key,
            test,
        })
    }

    fn is_met(&self, row: &Row) -> bool {
        match &self.test {
            Test::Protocol(name) => {
                row.protocol.eq_ignore_ascii_case(name)
                    || (name.eq_ignore_ascii_case("icmp") && row.protocol.starts_with("ICMP"))
            }
            Test::Verdict(name) => row.verdict.eq_ignore_ascii_case(name),
            Test::Direction(name) => row.direction.eq_ignore_ascii_case(name),
            Test::Reason(name) => row.reason.eq_ignore_ascii_case(name),
            Test::Event(name) => row.event.eq_ignore_ascii_case(name),
            Test::TcpFlag(flag) => row.tcp_flags.contains(flag),
            Test::Policy(name) => row
                .policies
                .iter()
                .any(|policy| match name.split_once('/') {
                    Some((namespace, name)) => policy.namespace == namespace && policy.name == name,
                    None => policy.name == *name,
                }),
            end => {
                (self.side != Side::To && end.is_met_by(&row.source))
                    || (self.side != Side::From && end.is_met_by(&row.destination))
            }
        }
    }
}

impl Test {
    fn parse(key: &str, value: &str) -> Result<Self, &'static str> {
        let text = value.to_owned();
        Ok(match key {
            "ns" => Self::Namespace(text),
            "pod" => Self::Pod(text),
            "workload" => Self::Workload(text),
            "label" => Self::Label(text),
            "ip" => match (value.parse(), value.parse()) {
                (Ok(address), _) => Self::Address(address),
                (_, Ok(block)) => Self::Block(block),
                _ => return Err("an address, or a block such as 10.0.0.0/8"),
            },
            "identity" => match value.parse() {
                Ok(number) => Self::Identity(number),
                Err(_) => Self::Reserved(text),
            },
            "port" => Self::Port(value.parse().map_err(|_| "a port, 0 to 65535")?),
            "protocol" => Self::Protocol(text),
            "verdict" => Self::Verdict(text),
            "direction" => Self::Direction(text),
            "reason" => Self::Reason(text),
            "policy" => Self::Policy(text),
            "dns" => Self::Name(text),
            "tcp-flag" => {
                let found = TCP_FLAGS
                    .iter()
                    .find(|(name, _)| name.eq_ignore_ascii_case(value));
                Self::TcpFlag(found.ok_or("a flag of SYN ACK FIN RST PSH")?.0)
            }
            _ => Self::Event(text),
        })
    }

    /// Of the tests that are about one end.
    fn is_met_by(&self, end: &RowEnd) -> bool {
        match self {
            Self::Namespace(name) => end.namespace == *name,
            Self::Pod(name) => named(name, &end.namespace, &end.pod),
            Self::Workload(name) => named(name, &end.namespace, &end.workload),
            Self::Label(label) => end.labels.iter().any(|have| has_label(have, label)),
            Self::Address(address) => end.ip == Some(*address),
            Self::Block(block) => end.ip.is_some_and(|ip| block.has_address(ip)),
            Self::Identity(number) => end.identity == *number,
            Self::Reserved(name) => end.labels.iter().any(|label| {
                ["reserved:", "cidr:"]
                    .iter()
                    .any(|source| label.strip_prefix(source) == Some(name))
            }),
            Self::Port(port) => end.port == Some(*port),
            Self::Name(name) => end.names.iter().any(|have| is_name(have, name)),
            _ => false,
        }
    }
}

/// `namespace/name`, `namespace/` for all of it, or a name in any.
fn named(wanted: &str, namespace: &str, name: &str) -> bool {
    match wanted.split_once('/') {
        Some((wanted, "")) => namespace == wanted,
        Some((wanted, rest)) => namespace == wanted && name == rest,
        None => name == wanted && !name.is_empty(),
    }
}

/// `k8s:app=web`, `app=web`, or a key alone.
fn has_label(have: &str, wanted: &str) -> bool {
    let bare = have.split_once(':').map_or(have, |(_, rest)| rest);
    [have, bare]
        .iter()
        .any(|have| *have == wanted || have.split('=').next() == Some(wanted))
}

/// `*.example.com` for all names below it, with or without the dot at its end.
fn is_name(have: &str, wanted: &str) -> bool {
    let have = have.strip_suffix('.').unwrap_or(have);
    let wanted = wanted.strip_suffix('.').unwrap_or(wanted);
    match wanted.strip_prefix('*') {
        Some(below) => {
            let place = have.len().checked_sub(below.len());
            let end = place.and_then(|place| have.get(place..));
            end.is_some_and(|end| end.eq_ignore_ascii_case(below))
        }
        None => have.eq_ignore_ascii_case(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let end = |namespace: &str, pod: &str, ip: &str, port| RowEnd {
            name: format!("{namespace}/{pod}"),
            namespace: namespace.into(),
            pod: pod.into(),
            workload: pod.into(),
            identity: 300,
            labels: vec![format!("k8s:app={pod}")],
            names: vec![format!("{pod}.Example.com.")],
            ip: ip.parse().ok(),
            port: Some(port),
        };
        Row {
            number: 1,
            time: jiff::Timestamp::UNIX_EPOCH,
            event: "drop",
            ending: None,
            verdict: "DROPPED".into(),
            source: end("frontend", "web", "10.0.1.11", 40000),
            destination: end("backend", "api", "10.0.1.10", 80),
            protocol: "TCP".into(),
            direction: "ingress".into(),
            reason: "policy_denied".into(),
            tcp_flags: vec!["SYN"],
            policies: Vec::new(),
            text: String::new(),
            length: 60,
            packets: [0; 2],
            bytes: [0; 2],
            generation: 1,
        }
    }

    #[test]
    fn words_with_one_key_are_any_and_the_others_are_all() {
        for wanted in [
            "",
            "ns=backend",
            "from:ns=frontend to:ns=backend",
            "pod=web pod=nobody",
            "pod=frontend/web to:pod=backend/",
            "label=app=web",
            "label=k8s:app=api to:port=80",
            "label=app",
            "ip=10.0.0.0/8 from:ip=10.0.1.11",
            "identity=300",
            "verdict=dropped protocol=tcp",
            "!ns=other !from:ns=backend",
            "reason=policy_denied direction=INGRESS event=drop",
            "tcp-flag=syn !tcp-flag=ACK",
            "from:dns=web.example.com to:dns=*.EXAMPLE.com",
        ] {
            assert!(
                RowFilter::parse(wanted).unwrap().matches(&row()),
                "{wanted}"
            );
        }
        for unwanted in [
            "ns=other",
            "to:ns=frontend",
            "from:port=80",
            "pod=we",
            "!verdict=DROPPED",
            "ns=backend protocol=udp",
            "ip=10.0.2.0/24",
            "event=flow",
            "policy=any",
            "tcp-flag=RST",
            "dns=example.com",
            "to:dns=web.example.com",
        ] {
            assert!(
                !RowFilter::parse(unwanted).unwrap().matches(&row()),
                "{unwanted}"
            );
        }
    }

    #[test]
    fn a_word_that_is_not_understood_is_named() {
        for (text, part) in [
            ("ns", "[!][from:|to:]key=value, found \"ns\""),
            ("ns=", "key=value"),
            ("color=red", "a key of ns pod"),
            ("port=http", "a port, 0 to 65535, found \"port=http\""),
            ("ip=10.0.0", "an address"),
            ("tcp-flag=X", "a flag of SYN ACK FIN RST PSH, found"),
            ("from:verdict=DROPPED", "verdict without from: or to:"),
        ] {
            let fault = RowFilter::parse(text).unwrap_err();
            assert!(fault.contains(part), "{fault}");
        }
    }
}
