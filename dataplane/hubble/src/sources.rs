//! What the servers read; the daemon makes it.

use crate::agent_log::AgentLog;
use crate::metrics::{Figures, MetricsSettings};
use jiff::Timestamp;
use portcullis_observe::{History, Home, Names};
use std::sync::Arc;

/// The running daemon, as its servers see it.
pub trait Agent: Send + Sync + 'static {
    /// Policy, pods and services that are in force now.
    fn names(&self) -> Arc<Names>;

    /// What is to be counted now; none unless that may change.
    fn metrics_settings(&self) -> Option<Arc<MetricsSettings>> {
        None
    }

    /// The daemon in numbers; none unless it knows some.
    fn figures(&self) -> Figures {
        Figures::default()
    }
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

impl NodeName {
    /// `cluster/node`.
    #[must_use]
    pub fn absolute(&self) -> String {
        format!("{}/{}", self.cluster, self.name)
    }

    /// The node as filters know it.
    #[must_use]
    pub fn home(&self) -> Home {
        Home {
            node: self.name.clone(),
            cluster: self.cluster.clone(),
        }
    }
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
    /// What the daemon did.
    pub log: Arc<AgentLog>,
}
