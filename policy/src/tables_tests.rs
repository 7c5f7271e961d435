//! Properties of the tables on random worlds: they say what the plain reading of the rules says,
//! whatever came before.

use crate::random_worlds::{ADDRESSES, address, documents, facts, names, settings};
use crate::read_rules::{Place, World};
use crate::{
    Action, Change, Compiler, Decision, Direction, Document, EnforcementMode, Generation,
    IdentityAllocator, KnownNames, NodeFacts, Object, ObjectKey, Policy, Protocol, Section,
    Settings, Tables, Verdict, compile, compile_with_names,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const TRAFFIC: [(Protocol, u16); 10] = [
    (Protocol::Tcp, 80),
    (Protocol::Tcp, 81),
    (Protocol::Tcp, 53),
    (Protocol::Tcp, 65535),
    (Protocol::Udp, 53),
    (Protocol::Udp, 0),
    (Protocol::Sctp, 79),
    (Protocol::Icmp, 8),
    (Protocol::Icmpv6, 0),
    (Protocol::Other(47), 0),
];

/// A question: a pod, a direction, the place of an address, and the place in `TRAFFIC`.
type Question = (String, Direction, usize, usize);

/// Everything that tables say of the pods of a world.
fn everything(
    tables: &Tables,
    documents: &[Document],
) -> BTreeMap<Question, (Decision, Option<Place>)> {
    let mut all = BTreeMap::new();
    for document in documents {
        let Object::Pod(pod) = &document.object else {
            continue;
        };
        let subject = tables
            .policy_of(&pod.namespace, &pod.name)
            .expect("it has a policy");
        for place in 0..ADDRESSES.len() {
            let peer = tables.identity_of(address(place));
            for (number, (protocol, port)) in TRAFFIC.into_iter().enumerate() {
                for direction in [Direction::Ingress, Direction::Egress] {
                    let verdict = tables.judge(subject, direction, peer, protocol, port);
                    let question = (pod.name.clone(), direction, place, number);
                    all.insert(question, said(tables, verdict));
                }
            }
        }
    }
    all
}

fn whole(
    documents: &[Document],
    facts: &NodeFacts,
    names: &KnownNames,
    settings: &Settings,
) -> Tables {
    let mut identities = IdentityAllocator::new();
    compile_with_names(
        documents,
        facts,
        names,
        settings,
        &mut identities,
        Generation(1),
    )
    .expect("nothing is wrong with the world")
}

/// What leads from one world to another.
fn changes(from: &[Document], to: &[Document]) -> Vec<Change> {
    let by_key = |documents: &[Document]| -> BTreeMap<ObjectKey, Document> {
        let keyed = documents
            .iter()
            .map(|one| (ObjectKey::from(&one.origin), one.clone()));
        keyed.collect()
    };
    let (old, new) = (by_key(from), by_key(to));
    let gone = old.keys().filter(|key| !new.contains_key(key));
    let mut changes: Vec<_> = gone.cloned().map(Change::Remove).collect();
    let put = new
        .into_iter()
        .filter(|(key, document)| old.get(key) != Some(document));
    changes.extend(put.map(|(_, document)| Change::Put(Arc::new(document))));
    changes
}

/// The same world with one policy less, or the actions of items changed.
fn edited(documents: &[Document], edit: impl Fn(&mut Policy)) -> Vec<Document> {
    let mut edited = documents.to_vec();
    for document in &mut edited {
        if let Object::CiliumClusterwideNetworkPolicy(policy) = &mut document.object {
            edit(policy);
        }
    }
    edited
}

/// A verdict of tables, with the place of its rule.
fn said(tables: &Tables, verdict: Verdict) -> (Decision, Option<Place>) {
    let place = verdict.rule.map(|rule| {
        let rule = tables.rule(rule).expect("a rule that decides can be named");
        (
            (*rule.document).clone(),
            rule.spec,
            rule.section,
            rule.index,
        )
    });
    (verdict.decision, place)
}

/// Whether the next documents stand elsewhere, are first refused, and come with new settings.
fn shuffles() -> impl Strategy<Value = (bool, bool, bool)> {
    (any::<bool>(), any::<bool>(), prop::bool::weighted(0.2))
}

/// How many random worlds: `PROPTEST_CASES` says more.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = default.cases.max(500);
    ProptestConfig { cases, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn tables_agree_with_the_rules(documents in documents(), settings in settings()) {
        let facts = facts();
        let names = names();
        let mut identities = IdentityAllocator::new();
        let tables =
            compile_with_names(&documents, &facts, &names, &settings, &mut identities, Generation(1))
                .expect("nothing is wrong with the world");
        let world =
            World { documents: &documents, facts: &facts, settings: &settings, names: &names };
        let pods: Vec<_> = documents
            .iter()
            .filter_map(|document| match &document.object {
                Object::Pod(pod) => Some(pod),
                _ => None,
            })
            .collect();
        for ((name, direction, place, number), found) in everything(&tables, &documents) {
            let pod = pods.iter().find(|pod| pod.name == name).expect("a pod");
            let (protocol, port) = TRAFFIC[number];
            let expected = world.read_rules(pod, direction, address(place), protocol, port);
            prop_assert_eq!(
                found, expected, "{} {:?} {} {:?} {}", name, direction, ADDRESSES[place], protocol, port
            );
        }
    }

    #[test]
    fn a_change_gives_the_same_as_everything_anew(
        worlds in prop::collection::vec(documents(), 2..4), settings in settings()
    ) {
        let mut compiler = Compiler::new(settings.clone(), IdentityAllocator::new());
        let mut before = Vec::new();
        for (number, world) in (1..).zip(&worlds) {
            // The first world knows no names and no nodes.
            let (facts, names) = if number == 1 {
                (NodeFacts::default(), KnownNames::default())
            } else {
                (facts(), names())
            };
            let changes = changes(&before, world);
            let tables = compiler.update(changes, &facts, &names, Generation(number))
                .expect("nothing is wrong with the world");
            let anew = whole(world, &facts, &names, &settings);
            prop_assert_eq!(everything(&tables, world), everything(&anew, world));
            prop_assert_eq!(tables.rule_count(), anew.rule_count());
            prop_assert_eq!(tables.policy_count(), anew.policy_count());
            prop_assert_eq!(tables.identity_count(), anew.identity_count());
            before = world.clone();
        }
    }

    #[test]
    fn a_change_that_is_refused_changes_nothing(
        first in documents(), second in documents(), settings in settings()
    ) {
        let mut compiler = Compiler::new(settings.clone(), IdentityAllocator::new());
        let (facts, names) = (facts(), names());
        compiler.update(changes(&[], &first), &facts, &names, Generation(1))
            .expect("nothing is wrong with the world");
        // One more pod with the address of the first.
        let mut wrong = second.clone();
        let mut twin = second[1].clone();
        twin.origin.name = "twin".to_owned();
        if let Object::Pod(pod) = &mut twin.object {
            pod.name = "twin".to_owned();
        }
        wrong.push(twin);
        let refused = compiler.update(changes(&first, &wrong), &facts, &names, Generation(2));
        prop_assert!(refused.is_err());
        let tables = compiler.update(Vec::new(), &facts, &names, Generation(3))
            .expect("nothing is wrong with the world");
        let anew = whole(&first, &facts, &names, &settings);
        prop_assert_eq!(everything(&tables, &first), everything(&anew, &first));
    }

    #[test]
    fn the_order_of_documents_does_not_matter(documents in documents(), settings in settings()) {
        let (facts, names) = (facts(), names());
        let tables = whole(&documents, &facts, &names, &settings);
        let mut turned = documents.clone();
        turned.reverse();
        let other = whole(&turned, &facts, &names, &settings);
        prop_assert_eq!(everything(&tables, &documents), everything(&other, &documents));
    }

    #[test]
    fn turning_an_allow_into_a_deny_never_allows_anything(
        documents in documents(), settings in settings()
    ) {
        let (facts, names) = (facts(), names());
        let deny = edited(&documents, |policy| {
            for item in policy.rules.iter_mut().filter_map(|rule| rule.ingress.as_mut())
                .flat_map(|half| &mut half.items).take(1) {
                if item.action == Action::Allow {
                    item.action = Action::Deny;
                    item.section = Section::IngressDeny;
                }
            }
        });
        let before = everything(&whole(&documents, &facts, &names, &settings), &documents);
        let after = everything(&whole(&deny, &facts, &names, &settings), &documents);
        for (question, (decision, _)) in after {
            // An allow that is gone may uncover one that asks for no proxy or proof.
            let could_pass = !matches!(before[&question].0, Decision::DenyRule | Decision::DenyDefault);
            prop_assert!(!decision.is_allowed() || could_pass, "{:?}", question);
        }
    }

    #[test]
    fn in_mode_always_removing_an_allow_never_allows_anything(
        documents in documents(), settings in settings()
    ) {
        let settings = Settings { enforcement_mode: EnforcementMode::Always, ..settings };
        let (facts, names) = (facts(), names());
        let fewer = edited(&documents, |policy| {
            for half in policy.rules.iter_mut().filter_map(|rule| rule.egress.as_mut()) {
                half.items.retain(|item| item.action != Action::Allow);
            }
        });
        let before = everything(&whole(&documents, &facts, &names, &settings), &documents);
        let after = everything(&whole(&fewer, &facts, &names, &settings), &documents);
        for (question, (decision, _)) in after {
            let could_pass = !matches!(before[&question].0, Decision::DenyRule | Decision::DenyDefault);
            prop_assert!(!decision.is_allowed() || could_pass, "{:?}", question);
        }
    }

    #[test]
    fn audited_policies_decide_nothing_and_say_what_they_would(
        documents in documents(), settings in settings()
    ) {
        let (facts, names) = (facts(), names());
        let audited = edited(&documents, |policy| policy.is_audited = true);
        let without = edited(&documents, |policy| policy.rules.clear());
        let tables = whole(&audited, &facts, &names, &settings);
        let nothing = everything(&whole(&without, &facts, &names, &settings), &documents);
        prop_assert_eq!(&everything(&tables, &documents), &nothing);
        let enforced = everything(&whole(&documents, &facts, &names, &settings), &documents);
        for ((name, direction, place, number), would) in enforced {
            let (protocol, port) = TRAFFIC[number];
            let namespace = documents.iter().find_map(|document| match &document.object {
                Object::Pod(pod) if pod.name == name => Some(pod.namespace.as_str()),
                _ => None,
            });
            let subject = tables.policy_of(namespace.expect("a pod"), &name).expect("a policy");
            let peer = tables.identity_of(address(place));
            let is = nothing[&(name.clone(), direction, place, number)].0;
            let reported = tables.judge_audit(subject, direction, peer, protocol, port);
            let expected = (is != would.0 && tables.identity_of(address(place)) != crate::Identity::UNKNOWN)
                .then_some(would);
            prop_assert_eq!(reported.map(|verdict| said(&tables, verdict)), expected);
        }
    }

    #[test]
    fn a_node_that_audits_enforces_nothing_and_says_what_it_would(
        documents in documents(), settings in settings()
    ) {
        let (facts, names) = (facts(), names());
        let audited = Settings { is_audited: true, ..settings.clone() };
        let (enforced, audited) = (
            whole(&documents, &facts, &names, &settings),
            whole(&documents, &facts, &names, &audited),
        );
        let would = everything(&enforced, &documents);
        for (question, (is, rule)) in everything(&audited, &documents) {
            let (_, direction, place, number) = &question;
            let peer = audited.identity_of(address(*place));
            if peer == crate::Identity::UNKNOWN {
                continue;
            }
            prop_assert_eq!((is, rule), (Decision::AllowUnpoliced, None), "{:?}", question);
            let pod = documents.iter().find_map(|document| match &document.object {
                Object::Pod(pod) if pod.name == question.0 => Some(pod),
                _ => None,
            });
            let pod = pod.expect("a pod");
            let subject = audited.policy_of(&pod.namespace, &pod.name).expect("a policy");
            let (protocol, port) = TRAFFIC[*number];
            let reported = audited.judge_audit(subject, *direction, peer, protocol, port);
            let expected = &would[&question];
            let expected = (expected.0 != is).then(|| expected.clone());
            prop_assert_eq!(reported.map(|verdict| said(&audited, verdict)), expected, "{:?}", question);
        }
    }

    #[test]
    fn documents_that_replace_others_give_the_same_as_everything_anew(
        worlds in prop::collection::vec((documents(), settings(), shuffles()), 2..5)
    ) {
        let mut compiler = Compiler::new(Settings::default(), IdentityAllocator::new());
        let (mut held, mut settings) = (Vec::<Arc<Document>>::new(), Settings::default());
        let (facts, names) = (facts(), names());
        for (number, (world, new_settings, (is_moved, is_twice, has_new_settings))) in
            (1..).zip(worlds)
        {
            if has_new_settings {
                settings = new_settings;
            }
            // What did not change is the very same, or only equal; or says the same elsewhere.
            let mut next: Vec<_> = world.into_iter().map(Arc::new).collect();
            if is_moved {
                next.reverse();
                for (place, document) in (1..).zip(&mut next) {
                    let document = Arc::make_mut(document);
                    document.origin.file = "moved.yaml".to_owned();
                    document.origin.document = place;
                }
            }
            for document in &mut next {
                let same = held.iter().find(|one| one.origin.name != "p1" && *one == document);
                if let Some(same) = same {
                    *document = Arc::clone(same);
                }
            }
            if is_twice {
                let mut twice = next.clone();
                let mut other = (*next[0]).clone();
                other.origin.file = "other.yaml".to_owned();
                twice.push(Arc::new(other));
                let refused = compiler.replace(&twice, &facts, &names, &settings, Generation(0));
                let errors = refused.expect_err("an object is there twice");
                let first = &next[0].origin;
                prop_assert_eq!(&errors[0].file, "other.yaml");
                prop_assert!(errors[0].expected.contains(&first.file), "{}", errors[0]);
                if number > 1 {
                    // What was in force is what it still holds.
                    let mut are_held: Vec<_> = compiler.documents().cloned().collect();
                    let mut were: Vec<_> = held.iter().map(|one| (**one).clone()).collect();
                    are_held.sort_by(|one, other| one.origin.cmp(&other.origin));
                    were.sort_by(|one, other| one.origin.cmp(&other.origin));
                    prop_assert_eq!(are_held, were);
                }
            }
            let tables = compiler.replace(&next, &facts, &names, &settings, Generation(number))
                .expect("nothing is wrong with the world");
            let world: Vec<_> = next.iter().map(|one| (**one).clone()).collect();
            let anew = whole(&world, &facts, &names, &settings);
            prop_assert_eq!(everything(&tables, &world), everything(&anew, &world));
            prop_assert_eq!(tables.rule_count(), anew.rule_count());
            prop_assert_eq!(tables.policy_count(), anew.policy_count());
            prop_assert_eq!(tables.identity_count(), anew.identity_count());
            held = next;
        }
    }

    #[test]
    fn a_pod_keeps_its_identity_whatever_comes_and_goes(
        first in documents(), second in documents()
    ) {
        let settings = Settings::default();
        let mut identities = IdentityAllocator::new();
        let mut tables = |documents: &[Document], generation| {
            compile(documents, &facts(), &settings, &mut identities, Generation(generation))
                .expect("nothing is wrong with the world")
        };
        let before = tables(&first, 1);
        let after = tables(&second, 2);
        for (identity, labels) in before.identities() {
            for (other, other_labels) in after.identities() {
                prop_assert_eq!(
                    identity == other && !identity.is_reserved(),
                    labels == other_labels && !identity.is_reserved(),
                    "{:?} {:?} and {:?} {:?}", identity, labels, other, other_labels
                );
            }
        }
    }
}
