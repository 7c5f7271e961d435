//! The labels that select one workload and no other.

use super::workload::Labels;

/// Labels that say what a workload is, those that say it best first. Others follow in their order.
const PREFERRED: [&str; 10] = [
    "app.kubernetes.io/name",
    "k8s-app",
    "app",
    "name",
    "app.kubernetes.io/component",
    "app.kubernetes.io/instance",
    "component",
    "tier",
    "role",
    "run",
];

/// Longest name that is made of labels: a policy's name has room for more.
const NAME_MAX: usize = 40;

/// What selects a workload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Labels that it has.
    pub equals: Vec<(String, String)>,
    /// Labels that it has not, and others have that have all of its own.
    pub absent: Vec<String>,
}

impl Selection {
    /// The fewest labels that tell a workload from the others of its namespace: the one that says
    /// best what it is, and of the rest those that tell it from somebody.
    pub fn of(labels: &Labels, others: &[&Labels]) -> Self {
        let mut selection = Self::default();
        let mut confused: Vec<&Labels> = others.to_vec();
        for key in ordered(labels) {
            let value = &labels[key];
            let rest: Vec<&Labels> = confused
                .iter()
                .copied()
                .filter(|other| other.get(key) == Some(value))
                .collect();
            if selection.equals.is_empty() || rest.len() < confused.len() {
                selection.equals.push((key.to_owned(), value.clone()));
                confused = rest;
            }
        }
        // What is left has all of its labels, and more.
        while let Some(other) = confused.first() {
            let Some(more) = other.keys().find(|key| !labels.contains_key(*key)) else {
                break;
            };
            let more = more.clone();
            confused.retain(|other| !other.contains_key(&more));
            selection.absent.push(more);
        }
        selection
    }

    /// A name made of what says best what it is: letters, digits and dashes.
    pub fn name(&self) -> String {
        let Some((_, value)) = self.equals.first() else {
            return "unlabelled".into();
        };
        let mut name: String = value
            .to_ascii_lowercase()
            .chars()
            .map(|letter| {
                if letter.is_ascii_alphanumeric() {
                    letter
                } else {
                    '-'
                }
            })
            .take(NAME_MAX)
            .collect();
        name = name.trim_matches('-').to_owned();
        if name.is_empty() {
            "workload".into()
        } else {
            name
        }
    }
}

fn ordered(labels: &Labels) -> impl Iterator<Item = &str> {
    let preferred = PREFERRED
        .iter()
        .copied()
        .filter(|key| labels.contains_key(*key));
    let rest = labels
        .keys()
        .map(String::as_str)
        .filter(|key| !PREFERRED.contains(key));
    preferred.chain(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pairs = pairs.iter();
        pairs
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn selected(of: &[(&str, &str)], others: &[&[(&str, &str)]]) -> (Vec<String>, Vec<String>) {
        let others: Vec<Labels> = others.iter().map(|other| labels(other)).collect();
        let found = Selection::of(&labels(of), &others.iter().collect::<Vec<_>>());
        let equals = found.equals.iter().map(|(k, v)| format!("{k}={v}"));
        (equals.collect(), found.absent)
    }

    #[test]
    fn a_workload_is_selected_by_what_says_best_what_it_is() {
        let web = [("app", "web"), ("env", "prod"), ("version", "3")];
        let texts = |of: &[&str]| of.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        assert_eq!(selected(&web, &[]), (texts(&["app=web"]), vec![]));
        let canary = [("app", "web"), ("env", "prod"), ("version", "4")];
        assert_eq!(
            selected(&web, &[&canary]),
            (texts(&["app=web", "version=3"]), vec![])
        );
        let debug = [
            ("app", "web"),
            ("debug", "yes"),
            ("env", "prod"),
            ("version", "3"),
        ];
        assert_eq!(
            selected(&web, &[&debug]),
            (texts(&["app=web"]), texts(&["debug"]))
        );
        assert_eq!(selected(&[], &[&web]), (vec![], texts(&["app"])));
    }
}
