//! Any record at all.

use jiff::Timestamp;
use portcullis_engine::{Drop, Ending, EndpointId, Now, Record, RecordKind, TcpFlags, Totals};
use portcullis_policy::{Decision, Generation, Identity, Proof, Protocol, Proxy, RuleId, Verdict};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use std::net::IpAddr;

/// Any time with nanoseconds of its own.
pub fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(|time| Timestamp::from_nanosecond(i128::from(time)).unwrap())
}

fn kind() -> impl Strategy<Value = RecordKind> {
    let drop = || select(Drop::ALL);
    let ending = select(vec![
        Ending::Finished,
        Ending::Reset,
        Ending::Idle,
        Ending::Unanswered,
        Ending::Evicted,
        Ending::Replaced,
    ]);
    prop_oneof![
        Just(RecordKind::Flow),
        Just(RecordKind::Update),
        ending.prop_map(RecordKind::End),
        drop().prop_map(RecordKind::Revoked),
        drop().prop_map(RecordKind::Drop),
    ]
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let proof = || select(vec![Proof::Mutual, Proof::Impossible]);
    let proxy = select(vec![Proxy::Http, Proxy::Tls, Proxy::Dns, Proxy::Listener]);
    let decision = prop_oneof![
        select(vec![
            Decision::Allow,
            Decision::AllowUnpoliced,
            Decision::AllowLocalHost,
            Decision::AllowDefault,
            Decision::DenyRule,
            Decision::DenyDefault,
            Decision::Conflict,
        ]),
        proof().prop_map(Decision::Authenticate),
        (proxy, of(proof())).prop_map(|(proxy, proof)| Decision::Redirect(proxy, proof)),
    ];
    let rule = of(any::<u32>().prop_map(RuleId));
    (decision, rule).prop_map(|(decision, rule)| Verdict { decision, rule })
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![
        select(vec![
            Protocol::Tcp,
            Protocol::Udp,
            Protocol::Sctp,
            Protocol::Icmp,
            Protocol::Icmpv6
        ]),
        // Also those that have a name: packing does not tidy up.
        any::<u8>().prop_map(Protocol::Other),
    ]
}

fn totals() -> impl Strategy<Value = Totals> {
    (
        any::<[u32; 2]>(),
        any::<[u64; 2]>(),
        any::<u64>(),
        any::<u32>(),
    )
        .prop_map(|(packets, bytes, opened, round_trip_us)| Totals {
            packets,
            bytes,
            opened: Now(opened),
            round_trip_us,
        })
}

/// A record with any values in it.
pub fn record() -> impl Strategy<Value = Record> {
    let ends = || of(any::<u32>().prop_map(EndpointId));
    let who = (
        any::<u64>(),
        ends(),
        ends(),
        any::<(u32, u32)>(),
        of(any::<(IpAddr, IpAddr)>()),
        of(protocol()),
    );
    let what = (
        kind(),
        any::<(u16, u16)>(),
        of(verdict()),
        of(verdict()),
        any::<(u32, u8)>(),
        of(any::<bool>()),
        totals(),
    );
    (who, what).prop_map(|(who, what)| {
        let (generation, from, to, identities, addresses, protocol) = who;
        let (kind, ports, egress, ingress, (length, flags), is_reply, totals) = what;
        // No packet has both.
        let (tcp_flags, icmp_code) = match protocol {
            Some(Protocol::Icmp | Protocol::Icmpv6) => (0, flags),
            _ => (flags, 0),
        };
        Record {
            kind,
            generation: Generation(generation),
            from,
            to,
            source_identity: Identity(identities.0),
            destination_identity: Identity(identities.1),
            addresses,
            protocol,
            ports,
            egress,
            ingress,
            length,
            tcp_flags: TcpFlags(tcp_flags),
            icmp_code,
            is_reply,
            totals,
        }
    })
}
