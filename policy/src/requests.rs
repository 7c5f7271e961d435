//! What the rules say of single HTTP requests and DNS queries, for the proxies.

use crate::half::{Candidate, PolicyHalf};
use crate::ports::resolve;
use crate::{
    Action, Decision, Direction, Filter, HttpMatcher, HttpRequest, Identity, Inspection, NamedPort,
    Order, PolicyIndex, PortMatch, Protocol, Proxy, RuleId, Tables, Traffic, Verdict,
};
use std::sync::Arc;

/// What the rules say of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpVerdict {
    /// It passes, by this rule where one says so.
    Forward(Option<RuleId>),
    /// The proxy answers 403.
    Forbid,
    /// Its connection does not pass, or is another proxy's.
    NotAsked(Verdict),
}

/// What the rules say of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsVerdict {
    /// It passes, by this rule where one says so.
    Forward(Option<RuleId>),
    /// The proxy answers REFUSED.
    Refuse,
    /// It does not pass, or is another proxy's.
    NotAsked(Verdict),
}

/// One direction of a policy, as seen by one peer.
struct View<'a> {
    half: &'a PolicyHalf,
    slot: u32,
    /// Names for ports of the destination.
    names: Vec<NamedPort>,
}

impl Tables {
    /// What the rules say of one request on a TCP connection. [policy-semantics §8.2]
    ///
    /// Compiles the expressions of the rules each time: a proxy should keep them.
    #[must_use]
    pub fn judge_http(
        &self,
        subject: PolicyIndex,
        direction: Direction,
        peer: Identity,
        port: u16,
        request: &HttpRequest<'_>,
    ) -> HttpVerdict {
        let verdict = self.judge(subject, direction, peer, Protocol::Tcp, port);
        match verdict.decision {
            Decision::Redirect(Proxy::Http, _) => {}
            decision if decision.is_allowed() => return HttpVerdict::Forward(verdict.rule),
            _ => return HttpVerdict::NotAsked(verdict),
        }
        let Some(view) = self.view(subject, direction, peer) else {
            return HttpVerdict::Forbid;
        };
        let mut matching: Vec<_> = view
            .matching(Protocol::Tcp, port)
            .map(|(candidate, port)| (view.order(candidate), candidate, port))
            .collect();
        matching.sort_by_key(|(order, candidate, _)| (*order, view.action(candidate)));
        let mut passed = None;
        for (order, candidate, port) in matching {
            if passed == Some(order.tier) {
                continue;
            }
            match view.action(candidate) {
                Action::Deny => return HttpVerdict::Forbid,
                Action::Pass => passed = Some(order.tier),
                Action::Allow if lets_pass(candidate, port, request) => {
                    return HttpVerdict::Forward(Some(candidate.id));
                }
                Action::Allow => {}
            }
        }
        if self.fallback(&view, peer).is_allowed() {
            HttpVerdict::Forward(None)
        } else {
            HttpVerdict::Forbid
        }
    }

    /// What the rules say of one query of the subject. [policy-semantics §8.3]
    #[must_use]
    pub fn judge_dns(
        &self,
        subject: PolicyIndex,
        server: Identity,
        protocol: Protocol,
        port: u16,
        name: &str,
    ) -> DnsVerdict {
        let verdict = self.judge(subject, Direction::Egress, server, protocol, port);
        match verdict.decision {
            Decision::Redirect(Proxy::Dns, _) => {}
            decision if decision.is_allowed() => return DnsVerdict::Forward(verdict.rule),
            _ => return DnsVerdict::NotAsked(verdict),
        }
        let Some(view) = self.view(subject, Direction::Egress, server) else {
            return DnsVerdict::Refuse;
        };
        for (candidate, matched) in view.matching(protocol, port) {
            let Some(matched) = matched.filter(|one| view.is_exactly(one, protocol, port)) else {
                continue;
            };
            if view.action(candidate) != Action::Allow {
                continue;
            }
            let filter = matched
                .inspection
                .as_ref()
                .map(|inspection| &inspection.filter);
            let lets_pass = match filter {
                Some(Filter::Dns(names)) => {
                    !candidate.default_deny || names.iter().any(|pattern| pattern.lets_ask(name))
                }
                _ => true,
            };
            if lets_pass {
                return DnsVerdict::Forward(Some(candidate.id));
            }
        }
        DnsVerdict::Refuse
    }

    /// What is to be looked at on a connection: everything that rules which match it ask for.
    #[must_use]
    pub fn inspections(
        &self,
        subject: PolicyIndex,
        direction: Direction,
        peer: Identity,
        protocol: Protocol,
        port: u16,
    ) -> Vec<(RuleId, Arc<Inspection>)> {
        let Some(view) = self.view(subject, direction, peer) else {
            return Vec::new();
        };
        view.matching(protocol, port)
            .filter_map(|(candidate, matched)| {
                Some((candidate.id, Arc::clone(matched?.inspection.as_ref()?)))
            })
            .collect()
    }

    fn view(&self, subject: PolicyIndex, direction: Direction, peer: Identity) -> Option<View<'_>> {
        let half = self.half(subject, direction)?;
        let slot = self.slots.of(peer)?;
        let names = match direction {
            Direction::Ingress => half.named_ports.clone(),
            Direction::Egress => self.named_ports(slot),
        };
        Some(View { half, slot, names })
    }

    const fn fallback(&self, view: &View<'_>, peer: Identity) -> Decision {
        if peer.0 == Identity::HOST.0 {
            view.half.fallback_host
        } else {
            view.half.fallback
        }
    }
}

impl<'a> View<'a> {
    /// The candidates that match the peer and the port, with what of their traffic matches; None
    /// when it is all traffic. One comes more than once when more of its traffic matches.
    fn matching(
        &self,
        protocol: Protocol,
        port: u16,
    ) -> impl Iterator<Item = (&'a Candidate, Option<&'a PortMatch>)> {
        let half = self.half;
        let places = half.classes.matching(self.slot).iter();
        places.flat_map(move |place| {
            let candidate = &half.candidates[*place as usize];
            let found: Vec<_> = match &candidate.item(half.direction).traffic {
                Traffic::All => vec![None],
                Traffic::Of(ports) => ports
                    .iter()
                    .filter(|one| self.has(one, protocol, port))
                    .map(Some)
                    .collect(),
            };
            found.into_iter().map(move |one| (candidate, one))
        })
    }

    fn has(&self, one: &PortMatch, protocol: Protocol, port: u16) -> bool {
        resolve(one, &self.names).any(|span| {
            span.protocol.is_meant_by(protocol) && (span.first..=span.last).contains(&port)
        })
    }

    fn is_exactly(&self, one: &PortMatch, protocol: Protocol, port: u16) -> bool {
        resolve(one, &self.names).any(|span| {
            span.protocol.is_meant_by(protocol) && (span.first, span.last) == (port, port)
        })
    }

    fn action(&self, candidate: &Candidate) -> Action {
        candidate.item(self.half.direction).action
    }

    fn order(&self, candidate: &Candidate) -> Order {
        candidate.item(self.half.direction).order
    }
}

/// Whether a rule lets a request pass: also one that asks nothing of requests, and one that does
/// not deny by default. [policy-semantics §4.3, §8.2]
fn lets_pass(
    candidate: &Candidate,
    matched: Option<&PortMatch>,
    request: &HttpRequest<'_>,
) -> bool {
    let filter = matched
        .and_then(|one| one.inspection.as_ref())
        .map(|one| &one.filter);
    match filter {
        Some(Filter::Http(rules)) => {
            let fits = |rule| HttpMatcher::new(rule).is_ok_and(|matcher| matcher.matches(request));
            !candidate.default_deny || rules.iter().any(fits)
        }
        _ => true,
    }
}
