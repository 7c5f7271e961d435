//! Policies that are audited: what they deny passes, and is told.

mod network;

use network::build::{ACK, SYN, v4};
use network::*;
use portcullis_engine::{Drop, Record, RecordKind, RuleHits};
use portcullis_policy::{Decision, RuleId};
use std::sync::Arc;

/// The server takes nothing, and port 22 is forbidden by name.
const AUDITED: &str = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: shut, namespace: backend, annotations: {portcullis.io/enforcement: audit}}
spec:
  endpointSelector: {}
  ingress: [{}]
  ingressDeny: [{fromEntities: [all], toPorts: [{ports: [{port: '22', protocol: TCP}]}]}]
";

fn syn(port: u16) -> Vec<u8> {
    v4(CLIENT, SERVER).tcp((40_000, port), SYN, b"")
}

/// Kind of record, and the decision of each side.
fn told(record: &Record) -> (RecordKind, Option<Decision>, Option<Decision>) {
    let decision = |verdict: Option<portcullis_policy::Verdict>| verdict.map(|v| v.decision);
    (
        record.kind,
        decision(record.egress),
        decision(record.ingress),
    )
}

const OPEN: Option<Decision> = Some(Decision::AllowUnpoliced);

#[test]
fn what_an_audited_policy_denies_passes_and_is_told() {
    let mut node = Node::new(&[AUDITED]);
    node.delivered(CLIENT, SERVER, syn(80));
    node.delivered(CLIENT, SERVER, syn(22));
    let all: Vec<_> = node.records.iter().map(told).collect();
    assert_eq!(
        all,
        [
            (RecordKind::Flow, OPEN, Some(Decision::DenyDefault)),
            (RecordKind::Flow, OPEN, Some(Decision::DenyRule)),
        ]
    );
    assert!(node.records[1].ingress.is_some_and(|v| v.rule.is_some()));
    // Further packets of the flow are told no more.
    node.delivered(
        SERVER,
        CLIENT,
        v4(SERVER, CLIENT).tcp((80, 40_000), SYN | ACK, b""),
    );
    assert_eq!(node.records.len(), 2);
}

#[test]
fn an_enforced_policy_denies_whatever_an_audited_one_says() {
    let mut node = Node::new(&[AUDITED, ALLOW_CLIENT]);
    assert_eq!(node.reason(CLIENT, syn(22)), Drop::PolicyDenied);
    node.delivered(CLIENT, SERVER, syn(80));
    let all: Vec<_> = node.records.iter().map(told).collect();
    assert_eq!(
        all,
        [
            (
                RecordKind::Drop(Drop::PolicyDenied),
                OPEN,
                Some(Decision::DenyDefault)
            ),
            (RecordKind::Flow, OPEN, Some(Decision::Allow)),
        ]
    );
}

#[test]
fn a_flow_that_newly_audited_policy_denies_goes_on_and_is_told_once() {
    let mut node = Node::new(&[]);
    node.delivered(CLIENT, SERVER, syn(80));
    node.delivered(
        SERVER,
        CLIENT,
        v4(SERVER, CLIENT).tcp((80, 40_000), SYN | ACK, b""),
    );
    node.records.clear();
    node.adopt(&[AUDITED], 2);
    for _ in 0..2 {
        node.delivered(
            CLIENT,
            SERVER,
            v4(CLIENT, SERVER).tcp((40_000, 80), ACK, b""),
        );
    }
    let all: Vec<_> = node.records.iter().map(told).collect();
    assert_eq!(all, [(RecordKind::Flow, OPEN, Some(Decision::DenyDefault))]);
}

#[test]
fn an_audited_rule_counts_what_it_would_have_denied() {
    let mut node = Node::new(&[AUDITED]);
    let hits = Arc::new(RuleHits::new(8));
    assert!(node.engine.count_in(Arc::clone(&hits)).is_none());
    node.delivered(CLIENT, SERVER, syn(22));
    let counted: u64 = (0..8).map(|id| hits.of(RuleId(id)).connections).sum();
    assert_eq!(counted, 1);
}
