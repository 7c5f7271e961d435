//! Documents as control takes them: whatever came before, the tables are those of the documents
//! that are there, and the rules are where they were written.

use portcullis::control::source::{SourceFile, SourceState};
use portcullis::control::{Documents, settings_of};
use portcullis::review::Reading;
use portcullis_policy::{
    Compiler, Decision, Direction, Generation, IdentityAllocator, KnownNames, Protocol, RuleOrigin,
    Settings, Tables,
};
use std::sync::Arc;

const PODS: usize = 5;
const FILES: usize = 3;

/// [Marsaglia 2003, xorshift64]
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }
}

fn pod(number: usize, chance: &mut Chance) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: pod-{number}, namespace: shop, labels: \
         {{app: app-{}}}}}\nstatus: {{podIPs: [{{ip: 10.0.1.{}}}]}}\n",
        chance.below(3),
        10 + number,
    )
}

fn policy(number: usize, chance: &mut Chance) -> String {
    let rule = |chance: &mut Chance| {
        format!(
            "[{{fromEndpoints: [{{matchLabels: {{app: app-{}}}}}], toPorts: [{{ports: [{{port: '{}', \
             protocol: TCP}}]}}]}}]",
            chance.below(3),
            80 + chance.below(2),
        )
    };
    format!(
        "---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: p-{number}, \
         namespace: shop}}\nspec: {{endpointSelector: {{matchLabels: {{app: app-{}}}}}, ingress: {}, \
         ingressDeny: {}}}\n",
        chance.below(3),
        rule(chance),
        rule(chance),
    )
}

/// Some objects in some files; now and then one of them twice. Says whether one is.
fn state(chance: &mut Chance) -> (SourceState, bool) {
    let mut texts = vec![String::new(); FILES];
    let is_twice = chance.below(6) == 0;
    let mut order: Vec<usize> = (0..PODS * 2).collect();
    for place in (1..order.len()).rev() {
        order.swap(place, chance.below(place + 1));
    }
    for number in order {
        let text = if number < PODS {
            pod(number, chance)
        } else {
            policy(number, chance)
        };
        // Pod 0 is always there, so that no state is empty.
        let copies = match number {
            0 => 1 + usize::from(is_twice),
            _ => usize::from(chance.below(4) > 0),
        };
        for _ in 0..copies {
            texts[chance.below(FILES)].push_str(&text);
        }
    }
    let config = ["", "", "policyEnforcementMode: always\n"][chance.below(3)];
    let files = texts.into_iter().enumerate().filter(|(_, t)| !t.is_empty());
    let state = SourceState {
        config: Some(SourceFile {
            name: "config.yaml".into(),
            text: format!("podCIDRs: [10.0.1.0/24]\n{config}"),
        }),
        files: files
            .map(|(number, text)| SourceFile {
                name: format!("{number}.yaml"),
                text,
            })
            .collect(),
    };
    (state, is_twice)
}

/// What is said of each pair of pods and port, and where the rule stands.
fn everything(tables: &Tables) -> Vec<(usize, usize, u16, Decision, Option<RuleOrigin>)> {
    let mut all = Vec::new();
    for (from, to) in (0..PODS).flat_map(|from| (0..PODS).map(move |to| (from, to))) {
        let name = |number| format!("pod-{number}");
        let (Some(peer), Some(subject)) = (
            tables.identity_of_pod("shop", &name(from)),
            tables.policy_of("shop", &name(to)),
        ) else {
            continue;
        };
        for port in [80, 81, 82] {
            let verdict = tables.judge(subject, Direction::Ingress, peer, Protocol::Tcp, port);
            let rule = verdict.rule.map(|rule| tables.rule(rule).expect("a rule"));
            all.push((from, to, port, verdict.decision, rule.cloned()));
        }
    }
    all
}

/// As control does it.
struct InForce {
    documents: Documents,
    compiler: Compiler,
}

impl InForce {
    fn take(&mut self, state: &SourceState, reading: &Reading) -> Result<Tables, Vec<String>> {
        let config = state.config.as_ref().expect("there is one");
        let config = portcullis::config::Config::parse(&config.name, &config.text).expect("valid");
        let settings = settings_of(&config);
        let texts = |errors: Vec<portcullis_policy::DocumentError>| {
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let documents = self.documents.parse(state, &settings).map_err(texts)?;
        let (all, names) = (documents.all(), KnownNames::default());
        let tables = self
            .compiler
            .replace(all, &reading.facts, &names, &settings, Generation(1))
            .map_err(texts)?;
        self.documents = documents;
        Ok(tables)
    }
}

#[test]
fn any_sequence_of_documents_gives_the_tables_of_the_last() {
    let mut refused = 0;
    for seed in 1..=20_u64 {
        let mut chance = Chance(seed << 32 | 0x9e37_79b9);
        let (first, _) = loop {
            let (state, is_twice) = state(&mut chance);
            if !is_twice {
                break (state, is_twice);
            }
        };
        let reading = Reading::of_state(&first).expect("valid");
        let mut in_force = InForce {
            documents: Documents::default(),
            compiler: Compiler::new(Settings::default(), IdentityAllocator::new()),
        };
        let mut last = first;
        for step in 0..40 {
            // Of a few files mostly one changes.
            let (mut next, mut is_twice) = state(&mut chance);
            if chance.below(3) > 0 {
                let kept = chance.below(FILES);
                let mut mixed = last.clone();
                mixed
                    .files
                    .retain(|file| file.name != format!("{kept}.yaml"));
                mixed.files.extend(
                    next.files
                        .into_iter()
                        .filter(|file| file.name == format!("{kept}.yaml")),
                );
                mixed.files.sort_by(|one, other| one.name.cmp(&other.name));
                is_twice = false;
                next = mixed;
            }
            let anew = Reading::of_state(&next);
            let taken = in_force.take(&next, &reading);
            match (anew, taken) {
                (Ok(anew), Ok(taken)) => {
                    assert!(!is_twice);
                    assert_eq!(
                        everything(&taken),
                        everything(&anew.tables),
                        "seed {seed}, step {step}"
                    );
                    assert_eq!(taken.rule_count(), anew.tables.rule_count());
                    last = next;
                }
                (Err(anew), Err(taken)) => {
                    refused += 1;
                    assert_eq!(taken, anew, "seed {seed}, step {step}");
                    assert!(
                        taken.iter().any(|error| error.contains("has it too")),
                        "{taken:?}"
                    );
                }
                (anew, taken) => panic!("seed {seed}, step {step}: {anew:?}, {taken:?}"),
            }
        }
    }
    assert!(refused > 20, "only {refused} states were refused");
}

#[test]
fn files_that_did_not_change_are_not_read_again() {
    let mut chance = Chance(7);
    let file = |name: &str, text: String| SourceFile {
        name: name.into(),
        text,
    };
    let mut state = SourceState {
        config: None,
        files: vec![
            file("a.yaml", pod(1, &mut chance)),
            file("b.yaml", pod(2, &mut chance)),
        ],
    };
    let settings = Settings::default();
    let before = Documents::default()
        .parse(&state, &settings)
        .expect("valid");
    state.files[1].text = pod(3, &mut chance);
    let after = before.parse(&state, &settings).expect("valid");
    let is_same = |place: usize| Arc::ptr_eq(&before.all()[place], &after.all()[place]);
    assert_eq!((is_same(0), is_same(1)), (true, false));
    // Under other settings the same text may mean something else.
    let other = Settings {
        compat: portcullis_policy::Compat::Cilium,
        ..settings
    };
    let after = before.parse(&state, &other).expect("valid");
    assert!(!Arc::ptr_eq(&before.all()[0], &after.all()[0]));
}
