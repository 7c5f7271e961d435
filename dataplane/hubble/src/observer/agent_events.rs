//! GetAgentEvents: what the daemon did.

use super::window::{From, Window};
use crate::agent_log::{AddressChange, AgentEntry, AgentEvent, AgentLog, PodChange, PolicyChange};
use crate::flow::timestamp;
use crate::wire::flow::agent_event::Notification;
use crate::wire::flow::{
    self as wire, AgentEventType, EndpointUpdateNotification, IpCacheNotification,
    PolicyUpdateNotification, TimeNotification,
};
use crate::wire::observer::GetAgentEventsResponse;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tonic::Status;

/// These are few, and nobody waits for them.
const PERIOD: Duration = Duration::from_millis(250);

/// Tells events. Ends with the last, or when the client goes.
pub(crate) async fn run(
    log: Arc<AgentLog>,
    node: String,
    window: Window,
    client: Sender<Result<GetAgentEventsResponse, Status>>,
) {
    let (kept, mut next) = log.since(0);
    let mut entries = match window.from {
        From::Now => Vec::new(),
        From::Oldest => kept,
        From::Since(time) => kept
            .into_iter()
            .filter(|entry| entry.time >= time)
            .collect(),
        From::Last(number) => {
            let skip = kept
                .len()
                .saturating_sub(usize::try_from(number).unwrap_or(usize::MAX));
            kept.into_iter().skip(skip).collect()
        }
    };
    let mut left = window.number.unwrap_or(u64::MAX);
    loop {
        for entry in entries {
            if left == 0 || window.is_past(entry.time) {
                return;
            }
            left -= 1;
            let answer = GetAgentEventsResponse {
                time: Some(timestamp(entry.time)),
                agent_event: Some(event(entry)),
                node_name: node.clone(),
            };
            if client.send(Ok(answer)).await.is_err() {
                return;
            }
        }
        if !window.follow || window.is_past(Timestamp::now()) {
            return;
        }
        tokio::select! {
            () = client.closed() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        (entries, next) = log.since(next);
    }
}

fn event(entry: AgentEntry) -> wire::AgentEvent {
    let (kind, notification) = match entry.event {
        AgentEvent::Started => (
            AgentEventType::AgentStarted,
            Notification::AgentStart(TimeNotification {
                time: Some(timestamp(entry.time)),
            }),
        ),
        AgentEvent::PolicyUpdated(change) => (AgentEventType::PolicyUpdated, policy(&change)),
        AgentEvent::PolicyDeleted(change) => (AgentEventType::PolicyDeleted, policy(&change)),
        AgentEvent::EndpointCreated(change) => (AgentEventType::EndpointCreated, pod(change)),
        AgentEvent::EndpointDeleted(change) => (AgentEventType::EndpointDeleted, pod(change)),
        AgentEvent::IdentityGiven(change) => (AgentEventType::IpcacheUpserted, address(change)),
        AgentEvent::IdentityTaken(change) => (AgentEventType::IpcacheDeleted, address(change)),
    };
    wire::AgentEvent {
        r#type: kind as i32,
        notification: Some(notification),
    }
}

fn policy(change: &PolicyChange) -> Notification {
    let of = |key: &str, value: &str| format!("k8s:io.cilium.k8s.policy.{key}={value}");
    let mut labels = vec![of("derived-from", &change.kind), of("name", &change.name)];
    if !change.namespace.is_empty() {
        labels.push(of("namespace", &change.namespace));
    }
    Notification::PolicyUpdate(PolicyUpdateNotification {
        labels,
        revision: change.generation,
        rule_count: i64::try_from(change.rules).unwrap_or(i64::MAX),
    })
}

fn pod(change: PodChange) -> Notification {
    Notification::EndpointUpdate(EndpointUpdateNotification {
        id: change.id,
        labels: change.labels,
        error: String::new(),
        pod_name: change.name,
        namespace: change.namespace,
    })
}

fn address(change: AddressChange) -> Notification {
    let length = if change.address.is_ipv4() { 32 } else { 128 };
    Notification::IpcacheUpdate(IpCacheNotification {
        cidr: format!("{}/{length}", change.address),
        identity: change.identity,
        old_identity: change.before,
        namespace: change.pod.0,
        pod_name: change.pod.1,
        ..IpCacheNotification::default()
    })
}
