//! What the servers read; the daemon makes it.

use crate::metrics::Figures;
use jiff::Timestamp;
use portcullis_observe::{History, Names};
use std::sync::Arc;

/// The running daemon, as its servers see it.
pub trait Agent: Send + Sync + 'static {
    /// Policy, pods and services that are in force now.
    fn names(&self) -> Arc<Names>;

    /// The daemon in numbers.
    fn figures(&self) -> Figures;
}

/// The node that speaks.
#[derive(Debug, Clone)]
pub struct NodeName {
    /// Its name.
    pub name: String,
    /// The cluster's.
    pub cluster: String,
    /// When the daemon started.
    pub started: Timestamp,
}

/// All that the servers share.
#[derive(Clone)]
pub struct Sources {
    /// What was seen.
    pub history: Arc<History>,
    /// The daemon.
    pub agent: Arc<dyn Agent>,
    /// The node.
    pub node: NodeName,
}
