//! The agent's metrics that Cilium's dashboards and alerts ask for, as far as we know the facts.

use super::family::{Families, Labels, label};
use super::figures::{EndpointFigures, Figures};
use std::collections::BTreeMap;
use std::fmt;

/// Writes them.
pub(super) fn write(families: &mut Families<'_>, figures: &Figures) -> fmt::Result {
    families.gauge(
        "cilium_version",
        "The daemon that answers, always 1: its version is in the labels.",
        [(version(figures), 1.0)],
    )?;
    write_forwarded(families, figures)?;
    write_endpoints(families, &figures.endpoints)?;
    write_policy(families, figures)?;
    families.gauge(
        "cilium_identity",
        "Identities that policy knows, the reserved ones left out.",
        [(label("type", "cluster_local"), figures.identities as f64)],
    )?;
    families.gauge(
        "cilium_nodes_all_num",
        "Nodes that this daemon knows: itself.",
        [(Labels::new(), 1.0)],
    )?;
    families.number(
        "cilium_unreachable_nodes",
        "Nodes that cannot be reached: none, for no others are known.",
        0,
    )?;
    families.gauge(
        "cilium_bpf_map_pressure",
        "How full each bounded table is, from 0 to 1: the fullest of all workers. There are no BPF maps behind it; the name lets alerts on map pressure work.",
        pressures(figures)
            .into_iter()
            .map(|(name, pressure)| (label("map_name", name), pressure)),
    )?;
    families.counter(
        "cilium_errors_warnings",
        "Faults and warnings since the start, as in the log.",
        figures.messages.iter().map(|(subsystem, level, count)| {
            let mut labels = label("level", level);
            labels.push(("subsystem", (*subsystem).to_owned()));
            (labels, *count)
        }),
    )
}

fn version(figures: &Figures) -> Labels<'static> {
    vec![
        ("version", figures.version.clone()),
        ("revision", String::new()),
        ("arch", std::env::consts::ARCH.to_owned()),
    ]
}

fn write_forwarded(families: &mut Families<'_>, figures: &Figures) -> fmt::Result {
    let both = |egress: u64, ingress: u64| {
        [("EGRESS", egress), ("INGRESS", ingress)]
            .map(|(direction, count)| (label("direction", direction), count))
    };
    let sum = |of: fn(&super::figures::WorkerFigures) -> u64| -> u64 {
        figures.workers.iter().map(of).sum()
    };
    families.counter(
        "cilium_forward_count",
        "Packets by direction. EGRESS: taken from an interface, those that were dropped afterwards included. INGRESS: given to an interface.",
        both(sum(|w| w.received), sum(|w| w.transmitted)),
    )?;
    families.counter(
        "cilium_forward_bytes",
        "Bytes of the packets in cilium_forward_count_total.",
        both(sum(|w| w.received_bytes), sum(|w| w.transmitted_bytes)),
    )
}

fn write_endpoints(families: &mut Families<'_>, all: &[EndpointFigures]) -> fmt::Result {
    let pods = || all.iter().filter(|endpoint| endpoint.kind == "pod");
    families.number(
        "cilium_endpoint",
        "Pods of this node.",
        pods().count() as u64,
    )?;
    let ready = pods().filter(|endpoint| endpoint.is_ready).count();
    families.gauge(
        "cilium_endpoint_state",
        "Pods of this node by state.",
        [
            ("ready", ready),
            ("waiting-to-regenerate", pods().count() - ready),
        ]
        .map(|(state, count)| (label("endpoint_state", state), count as f64)),
    )?;
    let enforced = [
        ("none", false, false),
        ("ingress", true, false),
        ("egress", false, true),
        ("both", true, true),
    ];
    families.gauge(
        "cilium_policy_endpoint_enforcement_status",
        "Pods of this node by the directions in which a policy isolates them.",
        enforced.map(|(name, ingress, egress)| {
            let count = pods().filter(|endpoint| {
                endpoint.ingress_enforced == ingress && endpoint.egress_enforced == egress
            });
            (label("enforcement", name), count.count() as f64)
        }),
    )?;
    families.gauge(
        "cilium_ip_addresses",
        "Addresses of the pods of this node.",
        [("ipv4", 0), ("ipv6", 1)].map(|(family, place)| {
            let count: u64 = pods().map(|endpoint| endpoint.addresses[place]).sum();
            (label("family", family), count as f64)
        }),
    )
}

fn write_policy(families: &mut Families<'_>, figures: &Figures) -> fmt::Result {
    families.number("cilium_policy", "Policies in force.", figures.policies)?;
    families.number(
        "cilium_policy_max_revision",
        "The generation of policy that was published last.",
        figures.generation,
    )?;
    let (buckets, seconds) = figures.delays.told();
    families.histogram(
        "cilium_policy_implementation_delay",
        "Seconds from when documents were read until every worker and endpoint applied them.",
        [(label("source", "directory"), buckets, seconds)],
    )?;
    families.counter(
        "cilium_policy_change",
        "Changes of the documents: put into force, or refused as a whole.",
        [
            ("success", figures.changes_accepted),
            ("fail", figures.changes_refused),
        ]
        .map(|(outcome, count)| (label("outcome", outcome), count)),
    )
}

/// The fullest of each kind of table, and the packet memory that is not free.
fn pressures(figures: &Figures) -> BTreeMap<String, f64> {
    let mut pressures = BTreeMap::new();
    let mut note = |name: String, now: u64, max: u64| {
        let pressure = now as f64 / max.max(1) as f64;
        let fullest: &mut f64 = pressures.entry(name).or_default();
        *fullest = fullest.max(pressure);
    };
    for limit in &figures.limits {
        note(limit.name.clone(), limit.now, limit.max);
    }
    let memory = &figures.memory;
    let held = memory.total.saturating_sub(memory.free + memory.in_rings);
    note("packet_memory".into(), held, memory.total);
    pressures
}
