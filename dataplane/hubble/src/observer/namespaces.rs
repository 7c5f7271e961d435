//! GetNamespaces: those that were seen within the last hour.

use crate::wire::observer::Namespace;
use jiff::{SignedDuration, Timestamp};
use portcullis_observe::{History, Names};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// How far back it looks.
const SPAN: SignedDuration = SignedDuration::from_hours(1);
/// Events that are looked at in one go.
const BLOCK: usize = 1024;

/// The namespaces at either end of what was seen, as far back as history goes.
pub(crate) async fn seen(history: &Arc<History>, cluster: &str, now: Timestamp) -> Vec<Namespace> {
    let start = now.checked_sub(SPAN).unwrap_or(Timestamp::MIN);
    let mut found = BTreeSet::new();
    let mut looked_at = HashSet::new();
    let mut before = u64::MAX;
    loop {
        let events = history.events_before(before, BLOCK);
        let recent = events.iter().take_while(|event| event.time >= start);
        for event in recent {
            let (record, names) = (&event.record, &event.names);
            let addresses = record.addresses;
            for (endpoint, address) in [
                (record.from, addresses.map(|both| both.0)),
                (record.to, addresses.map(|both| both.1)),
            ] {
                if looked_at.insert((record.generation, endpoint, address)) {
                    found.extend(namespace(names, endpoint, address));
                }
            }
        }
        let is_done = match events.last() {
            None => true,
            Some(oldest) => {
                before = oldest.number;
                oldest.time < start
            }
        };
        if is_done {
            return found
                .into_iter()
                .map(|namespace| Namespace {
                    cluster: cluster.to_owned(),
                    namespace,
                })
                .collect();
        }
        tokio::task::yield_now().await;
    }
}

fn namespace(
    names: &Names,
    endpoint: Option<portcullis_engine::EndpointId>,
    address: Option<std::net::IpAddr>,
) -> Option<String> {
    let by_endpoint = endpoint.and_then(|id| names.endpoints.get(&id));
    let by_address = || names.pods.get(&address?);
    match by_endpoint {
        Some((namespace, ..)) => Some(namespace.clone()),
        None => by_address().map(|(namespace, _)| namespace.clone()),
    }
}
