//! The workload of a pod, read off the pod's name: documents do not say who owns a pod.

/// What made a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Workload<'a> {
    /// Its name.
    pub name: &'a str,
    /// `Deployment`, `StatefulSet`, `ReplicaSet`, or `Pod` for one that stands alone.
    pub kind: &'static str,
}

/// Letters of the suffixes that Kubernetes makes up, which leave out vowels and look-alikes.
/// [k8s.io/apimachinery/pkg/util/rand]
const SUFFIX_LETTERS: &str = "bcdfghjklmnpqrstvwxz2456789";

/// The workload behind a pod's name.
pub(super) fn of_pod(pod: &str) -> Workload<'_> {
    let Some((owner, suffix)) = pod.rsplit_once('-') else {
        return Workload {
            name: pod,
            kind: "Pod",
        };
    };
    if is_made_up(suffix, 5..=5) {
        return match owner.rsplit_once('-') {
            Some((name, hash)) if is_made_up(hash, 8..=10) => Workload {
                name,
                kind: "Deployment",
            },
            _ => Workload {
                name: owner,
                kind: "ReplicaSet",
            },
        };
    }
    if !suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_digit()) {
        return Workload {
            name: owner,
            kind: "StatefulSet",
        };
    }
    Workload {
        name: pod,
        kind: "Pod",
    }
}

fn is_made_up(text: &str, lengths: std::ops::RangeInclusive<usize>) -> bool {
    lengths.contains(&text.len()) && text.chars().all(|letter| SUFFIX_LETTERS.contains(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_name_tells_its_workload() {
        for (pod, name, kind) in [
            ("web-7c5ddbdf54-x2x9k", "web", "Deployment"),
            ("api-server-5d59d67564-bbbbb", "api-server", "Deployment"),
            ("agent-x2x9k", "agent", "ReplicaSet"),
            ("db-0", "db", "StatefulSet"),
            ("my-db-12", "my-db", "StatefulSet"),
            ("web", "web", "Pod"),
            ("load-generator", "load-generator", "Pod"),
            ("trailing-", "trailing-", "Pod"),
        ] {
            assert_eq!(of_pod(pod), Workload { name, kind }, "{pod}");
        }
    }
}
