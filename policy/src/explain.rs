//! Why a verdict is what it is: who decided, who isolates, and which rules nearly matched.

use crate::half::{Candidate, PolicyHalf};
use crate::label::{Label, LabelSource, NAMESPACE_KEY};
use crate::ports::resolve;
use crate::{
    Action, Direction, DocumentOrigin, Groups, Identity, KeySource, NamedPort, Operator, Peer,
    Peers, PolicyIndex, PortProtocol, Protocol, Requirement, RuleId, RuleOrigin, Selector,
    ServiceChoice, Tables, Traffic, Verdict,
};
use std::fmt;

/// Near misses that are told.
const MISSES_MAX: usize = 3;

/// Why a verdict is what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What policy says.
    pub verdict: Verdict,
    /// The rule that decided, where one did.
    pub rule: Option<RuleOrigin>,
    /// The policies that select the subject and deny by default, in document order.
    pub isolating: Vec<DocumentOrigin>,
    /// Where no rule decided: the rules that nearly allowed it, nearest first.
    pub misses: Vec<Miss>,
}

/// A rule that nearly matched.
///
/// Printed as `CiliumNetworkPolicy backend/allow-frontend, ingress[0]: source lacks label
/// app=frontend`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss {
    /// The rule.
    pub rule: RuleOrigin,
    /// What of it did not match.
    pub reasons: Vec<String>,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.reasons.join("; "))
    }
}

/// Who is asked about, in words and labels.
struct Party<'a> {
    /// `source` or `destination`.
    role: &'static str,
    labels: &'a [Label],
}

impl Tables {
    /// Why policy says what it says of one connection. For people: it may be slow.
    #[must_use]
    pub fn explain(
        &self,
        subject: PolicyIndex,
        direction: Direction,
        peer: Identity,
        protocol: Protocol,
        port: u16,
    ) -> Explanation {
        let verdict = self.judge(subject, direction, peer, protocol, port);
        let rule = verdict.rule.and_then(|rule| self.rule(rule)).cloned();
        let mut explanation = Explanation {
            verdict,
            rule,
            isolating: self.isolating(subject, direction).cloned().collect(),
            misses: Vec::new(),
        };
        let slot = self.slots.of(peer);
        if let (None, Some(slot), Some(half)) = (verdict.rule, slot, self.half(subject, direction))
        {
            explanation.misses = self.misses(half, slot, protocol, port);
        }
        explanation
    }

    /// Whether a rule that binds the subject says who the peers are, and which the ports.
    #[must_use]
    pub fn rule_reach(
        &self,
        subject: PolicyIndex,
        direction: Direction,
        rule: RuleId,
    ) -> Option<(bool, bool)> {
        let half = self.half(subject, direction)?;
        let candidate = half.candidates.iter().find(|one| one.id == rule)?;
        let item = candidate.item(direction);
        Some((
            matches!(item.peers, Peers::Of(_)),
            matches!(item.traffic, Traffic::Of(_)),
        ))
    }

    fn misses(&self, half: &PolicyHalf, slot: u32, protocol: Protocol, port: u16) -> Vec<Miss> {
        let names = match half.direction {
            Direction::Ingress => half.named_ports.clone(),
            Direction::Egress => self.named_ports(slot),
        };
        let known = self.known.get(slot as usize).and_then(Option::as_ref);
        let party = Party {
            role: match half.direction {
                Direction::Ingress => "source",
                Direction::Egress => "destination",
            },
            labels: known.map_or(&[], |known| &known.parsed),
        };
        let matching = half.classes.matching(slot);
        let mut misses: Vec<Miss> = (0_u32..)
            .zip(&half.candidates)
            .filter(|(_, candidate)| candidate.item(half.direction).action == Action::Allow)
            .filter_map(|(place, candidate)| {
                let reasons = reasons(
                    candidate,
                    half.direction,
                    (!matching.contains(&place)).then_some(&party),
                    (protocol, port),
                    &names,
                );
                Some(Miss {
                    rule: self.rule(candidate.id)?.clone(),
                    reasons,
                })
            })
            .collect();
        misses.sort_by_key(|miss| miss.reasons.len());
        misses.truncate(MISSES_MAX);
        misses
    }
}

/// What of a rule did not match; `party` is given when its peers did not.
fn reasons(
    candidate: &Candidate,
    direction: Direction,
    party: Option<&Party<'_>>,
    wanted: (Protocol, u16),
    names: &[NamedPort],
) -> Vec<String> {
    let item = candidate.item(direction);
    let mut reasons = Vec::new();
    if let (Some(party), Peers::Of(peers)) = (party, &item.peers) {
        let nearest = peers
            .iter()
            .map(|peer| unmet(peer, party))
            .min_by_key(Vec::len);
        reasons.extend(nearest.unwrap_or_else(|| vec!["it names nobody".to_owned()]));
    }
    reasons.extend(port_reason(&item.traffic, wanted, names));
    reasons
}

fn port_reason(traffic: &Traffic, wanted: (Protocol, u16), names: &[NamedPort]) -> Option<String> {
    let Traffic::Of(list) = traffic else {
        return None;
    };
    let (protocol, port) = wanted;
    let spans: Vec<_> = list.iter().flat_map(|one| resolve(one, names)).collect();
    let is_hit = spans.iter().any(|span| {
        span.protocol.is_meant_by(protocol) && (span.first..=span.last).contains(&port)
    });
    if is_hit {
        return None;
    }
    let texts: Vec<_> = spans
        .iter()
        .take(8)
        .map(|span| {
            let name = protocol_name(span.protocol);
            if span.first == span.last {
                format!("{}/{name}", span.first)
            } else {
                format!("{}-{}/{name}", span.first, span.last)
            }
        })
        .collect();
    let found = match protocol {
        Protocol::Tcp => format!("{port}/TCP"),
        Protocol::Udp => format!("{port}/UDP"),
        Protocol::Sctp => format!("{port}/SCTP"),
        Protocol::Icmp => format!("type {port}/ICMP"),
        Protocol::Icmpv6 => format!("type {port}/ICMPv6"),
        Protocol::Other(number) => format!("protocol {number}"),
    };
    Some(if texts.is_empty() {
        "no port that the destination has is named".to_owned()
    } else {
        format!("{found} is not {}", texts.join(", "))
    })
}

const fn protocol_name(protocol: PortProtocol) -> &'static str {
    match protocol {
        PortProtocol::Any => "ANY",
        PortProtocol::Tcp => "TCP",
        PortProtocol::Udp => "UDP",
        PortProtocol::Sctp => "SCTP",
        PortProtocol::Icmp => "ICMP",
        PortProtocol::Icmpv6 => "ICMPv6",
    }
}

/// What keeps a description of peers from meaning the party.
fn unmet(peer: &Peer, party: &Party<'_>) -> Vec<String> {
    let is_pod = party.labels.iter().any(|label| label.key == NAMESPACE_KEY);
    let role = party.role;
    match peer {
        Peer::Labels(selector) => unmet_requirements(selector, party),
        Peer::Block { cidr, .. } if is_pod => {
            vec![format!(
                "{role} is a pod, which the block {cidr} does not mean"
            )]
        }
        Peer::Block { cidr, except } if except.is_empty() => {
            vec![format!("{role} is not in {cidr}")]
        }
        Peer::Block { cidr, .. } => {
            vec![format!("{role} is not in {cidr}, or among its exceptions")]
        }
        Peer::Entity(entity) => vec![format!("{role} is not {}", entity.name())],
        Peer::Group { groups, .. } => vec![match groups {
            Groups::Named(name) => format!("{role} is not in the group {name}"),
            Groups::Labelled(_) => format!("{role} is in no group with these labels"),
        }],
        Peer::Service(services) => vec![match &services.which {
            ServiceChoice::Named(name) => format!("{role} is not behind the service {name}"),
            ServiceChoice::Labelled(_) => format!("{role} is behind no service with these labels"),
        }],
        Peer::Name(pattern) => vec![format!(
            "{role} has no address that {pattern} is known to have"
        )],
    }
}

fn unmet_requirements(selector: &Selector, party: &Party<'_>) -> Vec<String> {
    selector
        .requirements
        .iter()
        .filter(|requirement| !requirement.is_met_by(party.labels))
        .map(|requirement| unmet_requirement(requirement, party))
        .collect()
}

fn unmet_requirement(requirement: &Requirement, party: &Party<'_>) -> String {
    let (role, key) = (party.role, requirement.key.as_str());
    let shown = match requirement.source {
        KeySource::Reserved => format!("reserved:{key}"),
        _ => key.to_owned(),
    };
    let has = party
        .labels
        .iter()
        .find(|label| label.key == key && label.source != LabelSource::Generated);
    match (&requirement.operator, has) {
        (Operator::In(wanted), Some(has)) if key == NAMESPACE_KEY => {
            format!(
                "{role} is in namespace {}, not {}",
                has.value,
                wanted.join(" or ")
            )
        }
        (Operator::In(wanted), Some(has)) => {
            format!(
                "{role} has label {shown}={}, not {}",
                has.value,
                wanted.join(" or ")
            )
        }
        (Operator::In(_) | Operator::Exists, None) if key == NAMESPACE_KEY => {
            format!("{role} is no pod")
        }
        (Operator::In(wanted), None) => {
            format!("{role} lacks label {shown}={}", wanted.join(" or "))
        }
        (Operator::Exists, _) => format!("{role} lacks label {shown}"),
        (Operator::NotIn(_), Some(has)) => format!("{role} has label {shown}={}", has.value),
        (Operator::NotIn(_) | Operator::DoesNotExist, _) => format!("{role} has label {shown}"),
    }
}
