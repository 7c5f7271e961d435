//! What a pod's name tells of the workload that made it.

use serde::{Deserialize, Serialize};

/// A workload as somebody has written it down.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// `Deployment` and so on.
    pub kind: String,
}

/// Letters that Kubernetes makes names from: no vowels, and nothing that looks like another.
const ALPHABET: &str = "bcdfghjklmnpqrstvwxz2456789";

/// Kind and name of the workload; None for an empty name.
#[must_use]
pub fn of(pod: &str) -> Option<(&'static str, &str)> {
    if pod.is_empty() {
        return None;
    }
    let Some((front, last)) = pod.rsplit_once('-') else {
        return Some(("Pod", pod));
    };
    let is_random = |part: &str| part.chars().all(|letter| ALPHABET.contains(letter));
    if last.len() == 5 && is_random(last) {
        if let Some((name, hash)) = front.rsplit_once('-')
            && (8..=10).contains(&hash.len())
            && is_random(hash)
        {
            return Some(("Deployment", name));
        }
        return Some(("DaemonSet", front));
    }
    let is_number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && last.len() <= 4 && (last == "0" || !last.starts_with('0')) {
        return Some(("StatefulSet", front));
    }
    Some(("Pod", pod))
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn a_name_tells_who_made_the_pod() {
        for (pod, workload) in [
            ("", None),
            ("web", Some(("Pod", "web"))),
            ("my-web", Some(("Pod", "my-web"))),
            ("web-5d4f8c7b9d-x2x4z", Some(("Deployment", "web"))),
            (
                "web-front-5d4f8c7b9d-x2x4z",
                Some(("Deployment", "web-front")),
            ),
            ("agent-x2x4z", Some(("DaemonSet", "agent"))),
            ("db-0", Some(("StatefulSet", "db"))),
            ("db-12", Some(("StatefulSet", "db"))),
            ("db-007", Some(("Pod", "db-007"))),
        ] {
            assert_eq!(of(pod), workload, "{pod}");
        }
    }
}
