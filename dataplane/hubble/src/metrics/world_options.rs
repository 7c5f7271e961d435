//! What `flows-to-world` counts: what leaves for addresses outside the cluster.

use portcullis_engine::{Record, TcpFlags};
use portcullis_observe::Sighting;
use portcullis_policy::Protocol;
use std::fmt;

/// Its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WorldOptions {
    /// Drops count whatever their reason, not only those of policy.
    pub any_drop: bool,
    /// The destination's port is a label.
    pub port: bool,
    /// Only packets that open a TCP connection count.
    pub syn_only: bool,
}

impl WorldOptions {
    /// None of them.
    pub const NONE: Self = Self {
        any_drop: false,
        port: false,
        syn_only: false,
    };

    /// Whether this is on its way to the world, and one of those that are asked for.
    pub fn counts(self, seen: &Sighting<'_>) -> bool {
        let record = &seen.event.record;
        // With two families Hubble's own looks for a label that no address has any more.
        let is_world = |label: &String| {
            let name = label.strip_prefix("reserved:").unwrap_or_default();
            matches!(name, "world" | "world-ipv4" | "world-ipv6")
        };
        let is_read = !matches!(record.protocol, Some(Protocol::Other(_)) | None);
        if !is_read || !seen.destination.labels.iter().any(is_world) {
            return false;
        }
        let is_wanted = match seen.drop() {
            Some(reason) => self.any_drop || reason.is_denial(),
            // A port of a reply is one of thousands that a client chose.
            None => record.is_reply != Some(true),
        };
        let flags = record.tcp_flags;
        let is_opening = record.protocol == Some(Protocol::Tcp)
            && flags.has(TcpFlags::SYN)
            && record.is_reply != Some(true);
        is_wanted && (!self.syn_only || is_opening)
    }
}

/// The destination's port; nothing for what has none.
pub(super) struct Port<'a>(pub &'a Record);

impl fmt::Display for Port<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.protocol {
            Some(Protocol::Tcp | Protocol::Udp | Protocol::Sctp) => self.0.ports.1.fmt(f),
            _ => Ok(()),
        }
    }
}
