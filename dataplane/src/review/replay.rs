//! What candidate documents would have said of the connections that were recorded.

use super::allowed::judge;
use super::recorded::{RecordedConnection, RecordedEnd};
use super::{End, Reading, Traffic};
use portcullis_policy::{Identity, Pod};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;

const NAMESPACE_KEY: &str = "io.kubernetes.pod.namespace";
const SERVICE_ACCOUNT_KEY: &str = "io.cilium.k8s.policy.serviceaccount";
/// Labels that nobody gave the pod itself.
const NOT_OWN: &str = "io.cilium.k8s.";

/// Documents that may come into force, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Candidate {
    /// Names and texts of files.
    pub files: Vec<(String, String)>,
    /// Name and text of `config.yaml`, where there is one.
    pub config: Option<(String, String)>,
    /// Whether no policy in force stays, unless it is among the files.
    pub replaces: bool,
    /// `default`, `always` or `never`, instead of what is in force.
    pub enforcement_mode: Option<String>,
}

/// What changes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Replay {
    /// Connections whose verdict changes: first those that would be denied.
    pub changes: Vec<ReplayChange>,
    /// Connections that were judged.
    pub connections: u64,
    /// Of them, those that would be denied and were not.
    pub newly_denied: u64,
    /// Of them, those that would pass and did not.
    pub newly_allowed: u64,
    /// What was not judged, and why.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notes: Vec<String>,
}

/// Connections that are alike and whose verdict changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReplayChange {
    /// What was recorded: `FORWARDED`, `AUDIT` or `DROPPED`.
    pub before: String,
    /// What it would be.
    pub after: String,
    /// Who began.
    pub from: String,
    /// Who was meant.
    pub to: String,
    /// `80/TCP`.
    pub traffic: String,
    /// How many there were.
    pub count: u64,
    /// What would decide.
    pub reason: String,
}

/// Judges recorded connections by a candidate together with what stays in force.
///
/// # Errors
/// Every fault of the candidate.
pub fn replay(
    in_force: &Reading,
    candidate: &Candidate,
    connections: &[RecordedConnection],
) -> Result<Replay, String> {
    let reading = in_force.with_candidate(candidate)?;
    let reading = with_recorded_pods(reading, connections)?;
    let pods: HashMap<(&str, &str), &Pod> = reading
        .pods()
        .map(|pod| ((pod.namespace.as_str(), pod.name.as_str()), pod))
        .collect();
    let mut replay = Replay::default();
    let mut changes: BTreeMap<[String; 6], u64> = BTreeMap::new();
    for connection in connections {
        let from = find(&reading, &pods, &connection.source);
        let to = find(&reading, &pods, &connection.destination);
        let traffic = Traffic {
            protocol: connection.protocol,
            port: connection.port,
        };
        let mut judgement = judge(&reading.tables, &from, &to, traffic);
        // What passed here was judged at the other node, too, if its other end is there.
        if connection.outcome.is_passed() {
            judgement.keep(connection.is_egress_asked, connection.is_ingress_asked);
        }
        let before = connection.outcome.verdict();
        let after = judgement.verdict();
        replay.connections += connection.count;
        if before == after {
            continue;
        }
        match (connection.outcome.is_passed(), judgement.is_allowed()) {
            (true, false) => replay.newly_denied += connection.count,
            (false, true) => replay.newly_allowed += connection.count,
            _ => {}
        }
        let reason = judgement.words(&reading.tables, &from, &to);
        let texts = [after, before].map(str::to_owned);
        let [after, before] = texts;
        let key = [
            after,
            before,
            from.name,
            to.name,
            traffic.to_string(),
            reason,
        ];
        *changes.entry(key).or_default() += connection.count;
    }
    // "DROPPED" comes before "FORWARDED"; "AUDIT" passes.
    replay.changes = changes
        .into_iter()
        .map(|(key, count)| change(key, count))
        .collect();
    replay
        .changes
        .sort_by_key(|change| change.after != "DROPPED");
    Ok(replay)
}

fn change([after, before, from, to, traffic, reason]: [String; 6], count: u64) -> ReplayChange {
    ReplayChange {
        before,
        after,
        from,
        to,
        traffic,
        count,
        reason,
    }
}

/// An end among the documents that are asked.
fn find(reading: &Reading, pods: &HashMap<(&str, &str), &Pod>, end: &RecordedEnd) -> End {
    let tables = &reading.tables;
    if let Some((namespace, name)) = pod_name(end)
        && let Some(pod) = pods.get(&(namespace.as_str(), name.as_str()))
    {
        return End::of_pod(tables, pod);
    }
    // An address may be nobody's now; the node is the node whatever address it used.
    let identity = match tables.identity_of(end.address) {
        _ if end.identity == Identity::HOST => Identity::HOST,
        Identity::UNKNOWN if end.identity.is_reserved() => end.identity,
        identity => identity,
    };
    let mut found = End::of_identity(tables, identity);
    found.name = format!("{} ({})", end.address, found.name);
    found
}

/// Namespace and name of a pod, made up where only its labels are known; None for what is no pod.
fn pod_name(end: &RecordedEnd) -> Option<(String, String)> {
    end.pod.clone().or_else(|| {
        let namespace = label(&end.labels, NAMESPACE_KEY)?;
        // No Kubernetes name: it is never taken for a pod of the documents.
        Some((namespace.to_owned(), format!("({})", end.address)))
    })
}

fn label<'a>(labels: &'a [String], key: &str) -> Option<&'a str> {
    labels.iter().find_map(|label| {
        label
            .strip_prefix("k8s:")?
            .strip_prefix(key)?
            .strip_prefix('=')
    })
}

/// Pods that have gone since are judged by the labels that they had.
fn with_recorded_pods(
    reading: Reading,
    connections: &[RecordedConnection],
) -> Result<Reading, String> {
    let known: BTreeSet<(String, String)> = reading
        .pods()
        .map(|pod| (pod.namespace.clone(), pod.name.clone()))
        .collect();
    let mut gone: BTreeMap<(String, String), Pod> = BTreeMap::new();
    let ends = connections
        .iter()
        .flat_map(|connection| [&connection.source, &connection.destination]);
    for end in ends {
        let Some(key) = pod_name(end).filter(|key| !known.contains(key)) else {
            continue;
        };
        let own = end.labels.iter().filter_map(|label| {
            let label = label.strip_prefix("k8s:")?;
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            let is_own = !key.starts_with(NOT_OWN) && key != NAMESPACE_KEY;
            is_own.then(|| (key.to_owned(), value.to_owned()))
        });
        let pod = Pod {
            namespace: key.0.clone(),
            name: key.1.clone(),
            labels: own.collect(),
            service_account: label(&end.labels, SERVICE_ACCOUNT_KEY).map(str::to_owned),
            ..Pod::default()
        };
        gone.insert(key, pod);
    }
    if gone.is_empty() {
        return Ok(reading);
    }
    reading.with_pods(&gone.into_values().collect::<Vec<_>>())
}

impl Replay {
    /// For people: before and after.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        if !self.changes.is_empty() {
            let _ = writeln!(
                out,
                "{:<10} {:<10} {:>7}  CONNECTION",
                "BEFORE", "AFTER", "COUNT"
            );
        }
        for change in &self.changes {
            let _ = writeln!(
                out,
                "{:<10} {:<10} {:>7}  {} -> {}  {}  ({})",
                change.before,
                change.after,
                change.count,
                change.from,
                change.to,
                change.traffic,
                change.reason
            );
        }
        let _ = writeln!(
            out,
            "{} recorded connections: {} would newly be denied, {} newly allowed.",
            self.connections, self.newly_denied, self.newly_allowed
        );
        for note in &self.notes {
            let _ = writeln!(out, "note: {note}");
        }
        out
    }
}
