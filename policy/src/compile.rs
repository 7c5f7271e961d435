//! Compiles documents into tables: checks what only all of them together can show, assigns
//! identities, and puts together what the compiler worked out.

use crate::compiler::{Compiled, Compiler};
use crate::population::{self, Population, assign_identities};
use crate::tables::{KnownIdentity, PodPlace, Slots};
use crate::{
    Document, DocumentError, Generation, Identity, IdentityAllocator, NodeFacts, Settings, Tables,
};
use hashbrown::HashMap;

/// Items of all policies together. Bounds the numbers of rules.
const ITEMS_MAX: usize = 1_000_000;

/// Compiles the documents of one moment, all of them or none.
///
/// # Errors
/// Two objects of one kind with the same name, two pods with the same address, and more rules,
/// label sets or address blocks than there are numbers for; each error names the later document
/// and where the earlier one stands. `identities` is then as it was.
pub fn compile(
    documents: &[Document],
    facts: &NodeFacts,
    settings: &Settings,
    identities: &mut IdentityAllocator,
    generation: Generation,
) -> Result<Tables, Vec<DocumentError>> {
    let mut errors = duplicates(documents);
    errors.extend(too_many_items(documents));
    let mut next = identities.clone();
    let population = match assign_identities(documents, facts, settings, &mut next) {
        Ok(population) if errors.is_empty() => population,
        Ok(_) => return Err(errors),
        Err(more) => {
            errors.extend(more);
            return Err(errors);
        }
    };
    let tables = tables(documents, population, settings, generation);
    *identities = next;
    Ok(tables)
}

/// The same object twice.
fn duplicates(documents: &[Document]) -> Vec<DocumentError> {
    let mut first: HashMap<_, &Document> = HashMap::new();
    let mut errors = Vec::new();
    for document in documents {
        let origin = &document.origin;
        let name = (origin.kind, &origin.namespace, &origin.name);
        if let Some(other) = first.get(&name) {
            errors.push(DocumentError {
                file: origin.file.clone(),
                document: origin.document,
                field: "metadata.name".to_owned(),
                expected: format!("each object once ({} has it too)", population::place(other)),
                found: origin.to_string(),
            });
        } else {
            first.insert(name, document);
        }
    }
    errors
}

fn too_many_items(documents: &[Document]) -> Option<DocumentError> {
    let halves = documents
        .iter()
        .filter_map(|document| document.object.policy())
        .flat_map(|policy| &policy.rules)
        .flat_map(|rule| rule.ingress.iter().chain(&rule.egress));
    let count: usize = halves.map(|half| half.items.len()).sum();
    (count > ITEMS_MAX).then(|| DocumentError {
        file: "all files".to_owned(),
        document: 0,
        field: String::new(),
        expected: format!("at most {ITEMS_MAX} rules"),
        found: count.to_string(),
    })
}

fn tables(
    documents: &[Document],
    population: Population<'_>,
    settings: &Settings,
    generation: Generation,
) -> Tables {
    let Population {
        members,
        pods,
        addresses,
    } = population;
    let mut compiler = Compiler::new(documents, &members, settings);
    let mut pod_places = HashMap::with_capacity(pods.len());
    for (pod, slot) in pods {
        let policy = compiler.policy(slot);
        let identity = members[slot].identity;
        pod_places.insert(
            (pod.namespace.clone(), pod.name.clone()),
            PodPlace { identity, policy },
        );
    }
    let subjects = [
        Identity::UNMANAGED,
        Identity::HEALTH,
        Identity::INIT,
        Identity::INGRESS,
    ];
    let reserved_policies = members
        .iter()
        .enumerate()
        .filter(|(_, member)| subjects.contains(&member.identity))
        .map(|(slot, member)| (member.identity, compiler.policy(slot)))
        .collect();
    let Compiled {
        policies,
        halves,
        classes,
        rules,
        documents,
    } = compiler.finish();
    Tables {
        generation,
        addresses,
        slots: Slots::new(members.iter().map(|member| member.identity)),
        known: members
            .iter()
            .map(|member| KnownIdentity {
                identity: member.identity,
                labels: population::texts(&member.labels),
            })
            .collect(),
        pods: pod_places,
        policies,
        halves,
        reserved_policies,
        classes,
        rules,
        documents,
    }
}
