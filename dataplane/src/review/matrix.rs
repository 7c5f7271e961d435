//! Who may talk to whom.

use super::allowed::Boundaries;
use super::{Allowed, End, EndView, Reading};
use portcullis_policy::{Identity, PolicyIndex};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Groups of ends that are compared with each other: their pairs grow with the square.
const GROUPS_MAX: usize = 4096;

/// Who may talk to whom.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Matrix {
    /// Pods that are alike share a line; the node, the world and the blocks that policies speak of.
    pub ends: Vec<MatrixEnd>,
    /// Pairs between which anything may pass.
    pub pairs: Vec<Pair>,
    /// How many pairs there are between which nothing may.
    pub silent_pairs: usize,
}

/// Ends that are alike.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MatrixEnd {
    /// The first of them.
    #[serde(flatten)]
    pub end: EndView,
    /// All pods among them, `namespace/name`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub pods: Vec<String>,
}

/// What may pass between two ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Who begins.
    pub from: String,
    /// Who is meant.
    pub to: String,
    /// What may pass.
    pub allowed: Allowed,
}

/// Ends that are alike: same identity, same policy.
pub(super) struct Group {
    pub end: End,
    pub pods: Vec<String>,
}

impl Group {
    /// The name of the first, and how many there are beside it.
    pub fn name(&self) -> String {
        match self.pods.len() {
            0 | 1 => self.end.name.clone(),
            count => format!("{} (+{})", self.end.name, count - 1),
        }
    }
}

/// The pods of a reading, those that are alike together, and everyone else that rules speak of.
pub(super) fn groups(reading: &Reading) -> Vec<Group> {
    let tables = &reading.tables;
    let mut alike: BTreeMap<(Identity, Option<PolicyIndex>), Group> = BTreeMap::new();
    let mut pods: Vec<_> = reading.pods().collect();
    pods.sort_by_key(|pod| (&pod.namespace, &pod.name));
    for pod in pods {
        let end = End::of_pod(tables, pod);
        let name = end.name.clone();
        let group = alike
            .entry((end.identity, end.policy))
            .or_insert_with(|| Group {
                end,
                pods: Vec::new(),
            });
        group.pods.push(name);
    }
    let mut groups: Vec<Group> = alike.into_values().collect();
    groups.sort_by(|one, other| one.end.name.cmp(&other.end.name));
    groups.extend(outsiders(reading).map(|end| Group {
        end,
        pods: Vec::new(),
    }));
    groups
}

/// Who is no pod, and can be the peer of one.
fn outsiders(reading: &Reading) -> impl Iterator<Item = End> + '_ {
    const NEVER_SEEN: [Identity; 5] = [
        Identity::UNKNOWN,
        Identity::UNMANAGED,
        Identity::HEALTH,
        Identity::INIT,
        Identity::INGRESS,
    ];
    let tables = &reading.tables;
    tables
        .identities()
        .filter(|(identity, _)| {
            let is_block = identity.0 >= Identity::LOCAL_CIDR;
            (identity.is_reserved() || is_block) && !NEVER_SEEN.contains(identity)
        })
        .map(|(identity, _)| End::of_identity(tables, identity))
}

/// Works out who may talk to whom.
///
/// # Errors
/// When there are too many different ends.
pub fn matrix(reading: &Reading) -> Result<Matrix, String> {
    let tables = &reading.tables;
    let boundaries = Boundaries::of(&reading.documents);
    let groups = groups(reading);
    if groups.len() > GROUPS_MAX {
        return Err(format!(
            "expected at most {GROUPS_MAX} different ends, found {}",
            groups.len()
        ));
    }
    let mut matrix = Matrix::default();
    for (row, from) in groups.iter().enumerate() {
        for (column, to) in groups.iter().enumerate() {
            // A pod reaches itself without the node, and who are no pods each other as well.
            let is_alone = row == column && from.pods.len() < 2;
            let has_pod = !from.pods.is_empty() || !to.pods.is_empty();
            if is_alone || !has_pod {
                continue;
            }
            let allowed = Allowed::between(tables, &from.end, &to.end, &boundaries);
            if allowed.is_nothing() {
                matrix.silent_pairs += 1;
                continue;
            }
            matrix.pairs.push(Pair {
                from: from.name(),
                to: to.name(),
                allowed,
            });
        }
    }
    matrix.ends = groups
        .into_iter()
        .map(|group| MatrixEnd {
            end: group.end.view(tables),
            pods: group.pods,
        })
        .collect();
    Ok(matrix)
}

impl Matrix {
    /// For people: one line for each pair between which anything may pass.
    #[must_use]
    pub fn text(&self) -> String {
        let width = |of: fn(&Pair) -> &str, title: &str| {
            let longest = self.pairs.iter().map(|pair| of(pair).chars().count()).max();
            longest.unwrap_or(0).max(title.len())
        };
        let from = width(|pair| &pair.from, "FROM");
        let to = width(|pair| &pair.to, "TO");
        let mut out = format!("{:<from$}  {:<to$}  MAY PASS\n", "FROM", "TO");
        for pair in &self.pairs {
            let _ = writeln!(
                out,
                "{:<from$}  {:<to$}  {}",
                pair.from, pair.to, pair.allowed
            );
        }
        let _ = writeln!(
            out,
            "Between the other {} pairs nothing may pass.",
            self.silent_pairs
        );
        out
    }
}
