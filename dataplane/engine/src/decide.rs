//! The only place where policy is asked.

use crate::flow::Side;
use crate::{Drop, Endpoint};
use portcullis_policy::{Decision, Direction, Identity, Protocol, Tables, Verdict};

/// One question to policy: may this flow be, seen from its endpoint?
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    /// Who began it: the subject itself (its egress policy is asked) or its peer (ingress).
    pub initiator: Side,
    /// Who is at the other end.
    pub peer: Identity,
    pub protocol: Protocol,
    /// The port that the initiator wants; for ICMP the type.
    pub port: u16,
}

/// A denial, and what policy said, when it was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Denial {
    pub reason: Drop,
    pub verdict: Option<Verdict>,
}

/// What lets a flow pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permission {
    /// What is enforced.
    pub enforced: Verdict,
    /// The denial that there would be if policies that are only reported were enforced.
    pub audited: Option<Verdict>,
}

impl Permission {
    /// What is told: the denial, where there would be one.
    pub fn told(&self) -> Verdict {
        self.audited.unwrap_or(self.enforced)
    }
}

/// Asks the policy of a pod. Doubt ends in a denial.
pub(crate) fn decide(
    tables: &Tables,
    subject: &Endpoint,
    question: &Question,
) -> Result<Permission, Denial> {
    let unasked = |reason| Denial {
        reason,
        verdict: None,
    };
    if question.peer == Identity::UNKNOWN || subject.identity == Identity::UNKNOWN {
        return Err(unasked(Drop::IdentityUnknown));
    }
    // A pod whose labels are not known has no policy yet: nothing passes.
    let policy = subject.policy.ok_or(unasked(Drop::PolicyDenied))?;
    let direction = match question.initiator {
        Side::Local => Direction::Egress,
        Side::Remote => Direction::Ingress,
    };
    let verdict = tables.judge(
        policy,
        direction,
        question.peer,
        question.protocol,
        question.port,
    );
    if verdict.decision.is_allowed() {
        let audited = tables.judge_audit(
            policy,
            direction,
            question.peer,
            question.protocol,
            question.port,
        );
        return Ok(Permission {
            enforced: verdict,
            audited: audited.filter(|audited| !audited.decision.is_allowed()),
        });
    }
    Err(Denial {
        reason: match verdict.decision {
            Decision::DenyRule => Drop::PolicyDeniedByRule,
            Decision::Redirect(..) => Drop::ProxyMissing,
            Decision::Authenticate(_) => Drop::AuthenticationMissing,
            Decision::Conflict => Drop::PolicyConflict,
            _ => Drop::PolicyDenied,
        },
        verdict: Some(verdict),
    })
}
