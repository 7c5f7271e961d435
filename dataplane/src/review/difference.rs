//! What a change of documents changes: between whom, and on which ports.

use super::allowed::{Boundaries, judge, push};
use super::traffic::{PROTOCOLS, Traffic};
use super::{Allowed, End, PortSpan, Reading};
use portcullis_policy::{Cidr, Identity, PolicyIndex, Tables};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

/// What changes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Difference {
    /// Pairs whose verdict changes.
    pub changes: Vec<Change>,
    /// Pods that only the new documents have.
    pub pods_added: Vec<String>,
    /// Pods that only the old ones have.
    pub pods_removed: Vec<String>,
}

/// What changes between two ends for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Who begins.
    pub from: String,
    /// Who is meant.
    pub to: String,
    /// Whether it is allowed now, and was not before; else the other way round.
    pub is_allowed: bool,
    /// The ports.
    pub ports: Allowed,
    /// What decides now, in words.
    pub reason: String,
}

/// One end in both readings.
struct Both {
    name: String,
    count: usize,
    old: End,
    new: End,
    is_pod: bool,
}

/// Compares two readings.
#[must_use]
pub fn compare(old: &Reading, new: &Reading) -> Difference {
    let names = |reading: &Reading| -> BTreeSet<String> {
        reading
            .pods()
            .map(|pod| format!("{}/{}", pod.namespace, pod.name))
            .collect()
    };
    let (before, after) = (names(old), names(new));
    let mut difference = Difference {
        pods_added: after.difference(&before).cloned().collect(),
        pods_removed: before.difference(&after).cloned().collect(),
        changes: Vec::new(),
    };
    let boundaries = Boundaries::of(&old.documents).and(&Boundaries::of(&new.documents));
    let ends = ends(old, new);
    for (row, from) in ends.iter().enumerate() {
        for (column, to) in ends.iter().enumerate() {
            let is_alone = row == column && from.count < 2;
            if is_alone || !(from.is_pod || to.is_pod) {
                continue;
            }
            let changes = changes(&old.tables, &new.tables, from, to, &boundaries);
            difference.changes.extend(changes);
        }
    }
    difference
}

fn changes(
    old: &Tables,
    new: &Tables,
    from: &Both,
    to: &Both,
    boundaries: &Boundaries,
) -> Vec<Change> {
    let mut found: BTreeMap<(bool, String), Vec<PortSpan>> = BTreeMap::new();
    for (protocol, name) in PROTOCOLS {
        for (first, last) in boundaries.spans(protocol) {
            let traffic = Traffic {
                protocol,
                port: first,
            };
            let before = judge(old, &from.old, &to.old, traffic).is_allowed();
            let after = judge(new, &from.new, &to.new, traffic);
            if before != after.is_allowed() {
                let key = (after.is_allowed(), after.words(new, &from.new, &to.new));
                push(found.entry(key).or_default(), name, first, last);
            }
        }
    }
    found
        .into_iter()
        .map(|((is_allowed, reason), spans)| Change {
            from: from.name.clone(),
            to: to.name.clone(),
            is_allowed,
            ports: Allowed(spans),
            reason,
        })
        .collect()
}

/// The ends that both readings have, those that are alike in both together.
fn ends(old: &Reading, new: &Reading) -> Vec<Both> {
    type Key = (Identity, Option<PolicyIndex>);
    let new_pods: BTreeMap<_, _> = new
        .pods()
        .map(|pod| ((&pod.namespace, &pod.name), pod))
        .collect();
    let mut alike: BTreeMap<(Key, Key), Both> = BTreeMap::new();
    let mut old_pods: Vec<_> = old.pods().collect();
    old_pods.sort_by_key(|pod| (&pod.namespace, &pod.name));
    for pod in old_pods {
        let Some(successor) = new_pods.get(&(&pod.namespace, &pod.name)) else {
            continue;
        };
        let before = End::of_pod(&old.tables, pod);
        let after = End::of_pod(&new.tables, successor);
        let key = (
            (before.identity, before.policy),
            (after.identity, after.policy),
        );
        let both = alike.entry(key).or_insert_with(|| Both {
            name: before.name.clone(),
            count: 0,
            old: before,
            new: after,
            is_pod: true,
        });
        both.count += 1;
    }
    let mut ends: Vec<Both> = alike.into_values().collect();
    for both in ends.iter_mut().filter(|both| both.count > 1) {
        both.name = format!("{} (+{})", both.name, both.count - 1);
    }
    ends.sort_by(|one, other| one.name.cmp(&other.name));
    ends.extend(outsiders(old, new));
    ends
}

/// The node, the world, and each block that either reading speaks of, by an address that lies in
/// no smaller one.
fn outsiders(old: &Reading, new: &Reading) -> Vec<Both> {
    let mut found = Vec::new();
    let mut add = |name: String, before: Identity, after: Identity| {
        found.push(Both {
            name,
            count: 1,
            old: End::of_identity(&old.tables, before),
            new: End::of_identity(&new.tables, after),
            is_pod: false,
        });
    };
    for identity in [
        Identity::HOST,
        Identity::REMOTE_NODE,
        Identity::KUBE_APISERVER,
        Identity::WORLD,
        Identity::WORLD_IPV4,
        Identity::WORLD_IPV6,
    ] {
        if !old.tables.labels(identity).is_empty() && !new.tables.labels(identity).is_empty() {
            let name = End::of_identity(&new.tables, identity).name;
            add(name, identity, identity);
        }
    }
    let blocks: BTreeSet<Cidr> = blocks(&old.tables).chain(blocks(&new.tables)).collect();
    for block in &blocks {
        if let Some(address) = address_of(*block, &blocks) {
            let before = old.tables.identity_of(address);
            let after = new.tables.identity_of(address);
            let name = format!("{}/{}", block.network(), block.length());
            add(name, before, after);
        }
    }
    found
}

fn blocks(tables: &Tables) -> impl Iterator<Item = Cidr> + '_ {
    tables
        .identities()
        .filter(|(identity, _)| identity.0 >= Identity::LOCAL_CIDR)
        .filter_map(|(_, labels)| {
            let text = labels
                .iter()
                .find_map(|label| label.strip_prefix("cidr:"))?;
            let (address, length) = text.split_once('/')?;
            Cidr::new(address.parse().ok()?, length.parse().ok()?)
        })
}

/// An address of the block that lies in no smaller block; None when smaller ones cover it.
fn address_of(block: Cidr, blocks: &BTreeSet<Cidr>) -> Option<IpAddr> {
    let mut address = block.network();
    loop {
        let smaller = blocks
            .iter()
            .filter(|other| **other != block && other.length() > block.length())
            .find(|other| other.has_address(address));
        let Some(smaller) = smaller else {
            return Some(address);
        };
        address = behind(*smaller)?;
        if !block.has_address(address) {
            return None;
        }
    }
}

/// The first address behind a block.
fn behind(block: Cidr) -> Option<IpAddr> {
    match block.network() {
        IpAddr::V4(network) => {
            let size = 1_u32.checked_shl(32 - u32::from(block.length()))?;
            Some(IpAddr::V4(network.to_bits().checked_add(size)?.into()))
        }
        IpAddr::V6(network) => {
            let size = 1_u128.checked_shl(128 - u32::from(block.length()))?;
            Some(IpAddr::V6(network.to_bits().checked_add(size)?.into()))
        }
    }
}

impl Difference {
    /// Whether any verdict changes.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for change in &self.changes {
            let sign = if change.is_allowed { '+' } else { '-' };
            let _ = writeln!(
                out,
                "{sign} {} -> {}  {}  ({})",
                change.from, change.to, change.ports, change.reason
            );
        }
        if !self.has_changes() {
            out.push_str("No verdict changes.\n");
        }
        for (title, pods) in [
            ("Only in the new documents", &self.pods_added),
            ("Only in the old documents", &self.pods_removed),
        ] {
            if !pods.is_empty() {
                let _ = writeln!(out, "{title}: {}", pods.join(", "));
            }
        }
        out
    }
}
