//! What policy says of one connection, and which rule said it.

use crate::Proxy;

/// The number of a set of tables; a later set has a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

/// Where the policy of an endpoint lies in the tables of one generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyIndex(pub u32);

/// The half of policy that is asked, seen from the subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Towards the subject.
    Ingress,
    /// From the subject.
    Egress,
}

/// The protocol as policy knows it. `Other` is anything that no port rule can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// [RFC 9293]
    Tcp,
    /// [RFC 768]
    Udp,
    /// [RFC 9260]
    Sctp,
    /// [RFC 792]; the "port" is the ICMP type.
    Icmp,
    /// [RFC 4443]; the "port" is the ICMP type.
    Icmpv6,
    /// Any other protocol, by its IP number.
    Other(u8),
}

impl Protocol {
    /// The protocol with this number. [IANA protocol numbers]
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Icmp,
            6 => Self::Tcp,
            17 => Self::Udp,
            58 => Self::Icmpv6,
            132 => Self::Sctp,
            other => Self::Other(other),
        }
    }

    /// Its IP protocol number. [IANA protocol numbers]
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Icmp => 1,
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Icmpv6 => 58,
            Self::Sctp => 132,
            Self::Other(number) => number,
        }
    }
}

/// A rule of one generation of tables; `Tables::rule` tells where it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

/// What policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decision {
    /// A rule allows it.
    Allow,
    /// No policy of this direction selects the subject, so nothing is asked of the peer.
    AllowUnpoliced,
    /// The local host reaches its own pods (kubelet probes) unless a rule denies it.
    AllowLocalHost,
    /// Policies select the subject, but all of them leave default deny off.
    AllowDefault,
    /// A deny rule forbids it.
    DenyRule,
    /// Policies select the subject and none allows it.
    DenyDefault,
    /// A rule allows it once both ends have proved who they are; until then it is dropped.
    Authenticate(Proof),
    /// A rule allows it through a proxy, and only what the proxy lets pass; with a proof, once
    /// both ends have proved who they are.
    Redirect(Proxy, Option<Proof>),
    /// Rules ask for things that cannot be done together: nothing passes.
    Conflict,
}

/// What both ends must prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proof {
    /// Who they are, by mutual authentication.
    Mutual,
    /// What nobody can prove: for tests.
    Impossible,
}

impl Decision {
    /// Whether traffic passes as it is. What a proxy or an authentication must see first does not:
    /// without them it would pass unchecked.
    #[must_use]
    pub const fn is_allowed(self) -> bool {
        matches!(
            self,
            Self::Allow | Self::AllowUnpoliced | Self::AllowLocalHost | Self::AllowDefault
        )
    }
}

/// A decision and the rule that gave it, where one did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// What policy says.
    pub decision: Decision,
    /// The rule that decided; None for the decisions that no single rule gives.
    pub rule: Option<RuleId>,
}
