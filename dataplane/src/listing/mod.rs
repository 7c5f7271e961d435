//! Flows, translations and services as they are now: read from the workers page by page, named, and
//! joined where they are shown.

mod flow_entry;
mod live_flow;
mod service;
mod session;
mod table;

pub use flow_entry::FlowEntry;
pub use live_flow::{FLOW_STATES, Joined, LiveFlow, flows_table};
pub use service::{BackendView, FrontendView, ServiceView, services_table};
pub use session::{Ends, NatSession, PortUse, sessions_table, usage_table};

use crate::observe::{FlowEnd, Names};
use crate::worker::{Desk, Page};
use portcullis_policy::Generation;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// A worker that has not answered by then is reported.
const WORKER_PATIENCE: Duration = Duration::from_secs(2);

/// Packets and bytes of IP, one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes, IP headers included.
    pub bytes: u64,
}

/// Which flows and translations a reader wants: all that are given must hold; of several values of
/// one kind, one. Both entries of a flow match, or neither.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ListFilter {
    /// `namespace/name`, `namespace/` for all of it, or a name in any namespace; either end.
    pub pods: Vec<String>,
    /// Namespaces, either end.
    pub namespaces: Vec<String>,
    /// Protocols, in any case.
    pub protocols: Vec<String>,
}

impl ListFilter {
    fn matches(&self, protocol: &str, ends: [&FlowEnd; 2]) -> bool {
        let any =
            |list: &[String], is: &dyn Fn(&String) -> bool| list.is_empty() || list.iter().any(is);
        any(&self.pods, &|pod| ends.iter().any(|end| end.is_pod(pod)))
            && any(&self.namespaces, &|namespace| {
                ends.iter().any(|end| end.namespace == **namespace)
            })
            && any(&self.protocols, &|wanted| {
                wanted.eq_ignore_ascii_case(protocol)
                    || (wanted.eq_ignore_ascii_case("icmp") && protocol.starts_with("ICMP"))
            })
    }
}

/// What is asked of the workers, and who is who.
pub struct Listing {
    /// Of each worker.
    pub desks: Vec<Desk>,
    /// The names of a generation; of the one in force without one.
    pub names: Box<dyn Fn(Option<Generation>) -> Arc<Names> + Send + Sync>,
}

impl Listing {
    /// Gives the pages of every worker, one at a time. Returns what the reader has to know of
    /// workers that did not answer.
    ///
    /// # Errors
    /// Those of `take`, which ends it.
    pub fn read<E>(
        &self,
        room: fn() -> Page,
        mut take: impl FnMut(&Page) -> Result<(), E>,
    ) -> Result<Vec<String>, E> {
        let mut silent = Vec::new();
        for desk in &self.desks {
            let (mut page, mut cursor) = (room(), Some(0));
            while let Some(from) = cursor {
                match desk.ask(page, from, WORKER_PATIENCE) {
                    Ok((filled, next)) => {
                        take(&filled)?;
                        (page, cursor) = (filled, next);
                    }
                    Err(_) => {
                        silent.push(format!(
                            "worker {} does not answer: what it holds is missing here",
                            desk.worker
                        ));
                        break;
                    }
                }
            }
        }
        Ok(silent)
    }

    /// Every service, and its connections now.
    #[must_use]
    pub fn services(&self) -> (Vec<ServiceView>, Vec<String>) {
        let names = (self.names)(None);
        let mut census = service::Census::default();
        let silent = self.read(Page::of_sessions, |page| {
            if let Page::Sessions(sessions) = page {
                census.count(&names.services, sessions);
            }
            Ok::<_, std::convert::Infallible>(())
        });
        let silent = silent.unwrap_or_default();
        (census.views(&names), silent)
    }
}

/// Milliseconds between two times; none when a clock was read later than the table.
fn milliseconds(now: portcullis_engine::Now, then: portcullis_engine::Now) -> u64 {
    now.0.saturating_sub(then.0) / 1_000_000
}
