//! What is allowed but probably not meant, as only all documents together can show.

use crate::label::LabelSource;
use crate::ports::spans;
use crate::{Action, Document, Object, RuleId, Selector, Tables, Warning};
use hashbrown::HashMap;

impl Tables {
    /// Policies that select no pod, and rules that a deny covers, with the documents that these
    /// tables were made from. Both may be meant: a pod may come later.
    #[must_use]
    pub fn lint(&self, documents: &[Document]) -> Vec<Warning> {
        let mut warnings: Vec<Warning> = documents
            .iter()
            .flat_map(|document| self.without_pods(document))
            .collect();
        for (rule, deny) in self.shadowed() {
            let (Some(rule), Some(deny)) = (self.rule(rule), self.rule(deny)) else {
                continue;
            };
            warnings.push(Warning {
                file: rule.document.file.clone(),
                document: rule.document.document,
                field: format!("{}.{}[{}]", spec(rule.spec), rule.section, rule.index),
                message: format!("allows nothing: {deny} denies all of it"),
            });
        }
        warnings
    }

    /// Allow rules whose traffic is all denied, each with a rule that denies some of it.
    #[must_use]
    pub fn shadowed(&self) -> Vec<(RuleId, RuleId)> {
        let mut denied_by: HashMap<RuleId, Option<RuleId>> = HashMap::new();
        for half in self.halves.iter().flatten() {
            for (class, matching) in half.classes.all() {
                for place in matching {
                    let candidate = &half.candidates[*place as usize];
                    let item = candidate.item(half.direction);
                    if item.action != Action::Allow {
                        continue;
                    }
                    // Names are the subject's here; those of peers can only add traffic.
                    let denied = match spans(&item.traffic, &half.named_ports) {
                        None => class.denied_everywhere(),
                        Some(spans) => class.denied_over(&spans),
                    };
                    let entry = denied_by.entry(candidate.id).or_insert(denied);
                    *entry = entry.and(denied);
                }
            }
        }
        let mut shadowed: Vec<_> = denied_by
            .into_iter()
            .filter_map(|(rule, deny)| Some((rule, deny?)))
            .collect();
        shadowed.sort_unstable();
        shadowed
    }

    fn without_pods(&self, document: &Document) -> Vec<Warning> {
        let selects_any = |selector: &Selector| {
            self.known.iter().flatten().any(|known| {
                let is_endpoint = known.parsed.iter().any(|label| {
                    label.source == LabelSource::K8s || label.source == LabelSource::Reserved
                });
                is_endpoint && selector.selects(&known.parsed)
            })
        };
        let warning = |field: String| Warning {
            file: document.origin.file.clone(),
            document: document.origin.document,
            field,
            message: "selects no pod that there is now".to_owned(),
        };
        match &document.object {
            Object::EgressGatewayPolicy(policy) => {
                let is_idle = !policy
                    .subjects
                    .iter()
                    .any(|subject| selects_any(&subject.pods));
                is_idle
                    .then(|| warning("spec.selectors".to_owned()))
                    .into_iter()
                    .collect()
            }
            object => object
                .policy()
                .into_iter()
                .flat_map(|policy| &policy.rules)
                .filter(|rule| !rule.is_about_nodes && !selects_any(&rule.subject))
                .map(|rule| warning(spec(rule.spec)))
                .collect(),
        }
    }
}

/// The path of a spec.
fn spec(place: Option<usize>) -> String {
    place.map_or_else(|| "spec".to_owned(), |place| format!("specs[{place}]"))
}
