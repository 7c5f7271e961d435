//! What must be looked at above L4: carried from the rules to the verdict for the proxies.

use crate::NamePattern;

/// What one entry of `toPorts` asks to be looked at.
///
/// [policy-semantics §8]
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Inspection {
    /// Requests or queries that may pass.
    pub filter: Filter,
    /// Server names of TLS that may pass; every one when there are none.
    pub server_names: Vec<String>,
    /// How TLS of the client is ended.
    pub terminating_tls: Option<TlsContext>,
    /// How TLS to the server is begun.
    pub originating_tls: Option<TlsContext>,
    /// The listener that takes the traffic.
    pub listener: Option<Listener>,
}

/// Requests or queries that may pass.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Filter {
    /// Whatever they are.
    #[default]
    None,
    /// HTTP requests that one of these matches.
    Http(Vec<HttpRule>),
    /// DNS queries for names that one of these matches.
    Dns(Vec<NamePattern>),
}

/// A description of HTTP requests; all that is given must match.
///
/// Method, path and host are regular expressions over the whole of the field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HttpRule {
    /// The method.
    pub method: Option<String>,
    /// The path with the query.
    pub path: Option<String>,
    /// The authority.
    pub host: Option<String>,
    /// Headers, as the rules write them.
    pub headers: Vec<HeaderMatch>,
}

/// A header that a request must have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderMatch {
    /// Its name; upper and lower case are the same.
    pub name: String,
    /// Its value; empty for any.
    pub value: String,
    /// The secret that holds the value.
    pub secret: Option<SecretName>,
    /// What is done instead of a refusal when it does not match.
    pub mismatch: Option<Mismatch>,
}

/// What a proxy does with a header that does not match; the request passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mismatch {
    /// It is logged.
    Log,
    /// The header is added.
    Add,
    /// The header is removed.
    Delete,
    /// The header is replaced.
    Replace,
}

/// The name of a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName {
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// A TLS certificate and trust, by reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TlsContext {
    /// The secret that holds them.
    pub secret: SecretName,
    /// The entries of the secret, where they do not have their usual names.
    pub trusted_ca: Option<String>,
    /// As above.
    pub certificate: Option<String>,
    /// As above.
    pub private_key: Option<String>,
}

/// A listener of a proxy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listener {
    /// The kind of the object that configures it.
    pub kind: String,
    /// The name of that object; empty for the policy's own.
    pub config: String,
    /// Its name there.
    pub name: String,
    /// Its precedence among proxies, 1 (first) to 100; None comes last.
    pub priority: Option<u8>,
}

/// Who takes traffic that must be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proxy {
    /// Looks at HTTP requests.
    Http,
    /// Looks at the server name of TLS.
    Tls,
    /// Looks at DNS queries.
    Dns,
    /// A listener that the rule names.
    Listener,
}

impl Inspection {
    /// Who takes the traffic.
    #[must_use]
    pub const fn proxy(&self) -> Proxy {
        match self.filter {
            _ if self.listener.is_some() => Proxy::Listener,
            Filter::Http(_) => Proxy::Http,
            Filter::Dns(_) => Proxy::Dns,
            Filter::None => Proxy::Tls,
        }
    }

    /// Its precedence where several rules want the traffic: the lowest takes it.
    ///
    /// [policy-semantics §7.2]
    #[must_use]
    pub(crate) fn precedence(&self) -> u8 {
        match (self.proxy(), &self.listener) {
            (Proxy::Listener, Some(listener)) => listener.priority.unwrap_or(126),
            (Proxy::Http, _) => 101,
            (Proxy::Tls, _) => 116,
            (Proxy::Dns, _) => 121,
            (Proxy::Listener, None) => 126,
        }
    }

    /// Whether both can be done to the same traffic. [policy-semantics §7.3]
    #[must_use]
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        let tls = |left: &Option<TlsContext>, right: &Option<TlsContext>| {
            left.is_none() || right.is_none() || left == right
        };
        let proxies = match (self.proxy(), other.proxy()) {
            (Proxy::Listener, Proxy::Listener) => self.listener == other.listener,
            (Proxy::Http, Proxy::Tls) | (Proxy::Tls, Proxy::Http) => true,
            (left, right) => left == right,
        };
        proxies
            && tls(&self.terminating_tls, &other.terminating_tls)
            && tls(&self.originating_tls, &other.originating_tls)
    }
}
