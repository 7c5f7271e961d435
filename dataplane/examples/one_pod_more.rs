//! What one pod more costs control, from the source's state to tables: `cargo run --release -p
//! portcullis --example one_pod_more`. Printed, not asserted; the
//! machine should have nothing else to do.

use portcullis::control::Documents;
use portcullis::control::source::{SourceFile, SourceState};
use portcullis_policy::{Compiler, Generation, IdentityAllocator, KnownNames, NodeFacts, Settings};
use std::time::Instant;

fn pod(number: usize, app: usize) -> SourceFile {
    SourceFile {
        name: format!("pod-{number:05}.yaml"),
        text: format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: pod-{number}, namespace: ns-{}, labels: \
             {{app: app-{app}, tier: tier-{}}}}}\nstatus: {{podIPs: [{{ip: 10.{}.{}.{}}}]}}\n",
            app % 50,
            app % 20,
            number / 62_500,
            number / 250 % 250,
            1 + number % 250,
        ),
    }
}

fn policy(number: usize) -> SourceFile {
    SourceFile {
        name: format!("policy-{number:05}.yaml"),
        text: format!(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: p-{number}, \
             namespace: ns-{}}}\nspec:\n  endpointSelector: {{matchLabels: {{tier: tier-{}}}}}\n  \
             ingress:\n  - fromEndpoints: [{{matchLabels: {{app: app-{}, \
             'k8s:io.kubernetes.pod.namespace': ns-{}}}}}]\n    toPorts: [{{ports: [{{port: '{}', \
             protocol: TCP}}]}}]\n  egress:\n  - toCIDR: [10.{}.0.0/16]\n",
            number % 50,
            number % 20,
            number * 5,
            number % 50,
            1 + number,
            100 + number % 100,
        ),
    }
}

fn main() {
    let (facts, names) = (NodeFacts::default(), KnownNames::default());
    let settings = Settings::default();
    let mut state = SourceState {
        config: None,
        files: (0..10_000)
            .map(|number| pod(number, number % 5000))
            .collect(),
    };
    state.files.extend((0..1000).map(policy));
    let mut compiler = Compiler::new(settings.clone(), IdentityAllocator::new());
    let mut documents = Documents::default();
    for (generation, what) in [
        "10000 pods, 1000 policies, 5000 identities",
        "one pod more, of a known identity",
        "one pod more, of a known identity",
        "one pod more, of a new identity",
        "one pod more, of a new identity",
        "one policy more",
        "one pod less",
        "nothing changed",
    ]
    .into_iter()
    .enumerate()
    {
        match generation {
            1 | 2 => state.files.push(pod(10_000 + generation, 7)),
            3 | 4 => state
                .files
                .push(pod(10_000 + generation, 5000 + generation)),
            5 => state.files.push(policy(1000)),
            6 => drop(state.files.remove(77)),
            _ => {}
        }
        // As sources do.
        state.files.sort_by(|one, other| one.name.cmp(&other.name));
        let start = Instant::now();
        documents = documents.parse(&state, &settings).expect("valid");
        let parsed = start.elapsed();
        let number = Generation(u64::try_from(generation).expect("small"));
        let tables = compiler
            .replace(documents.all(), &facts, &names, &settings, number)
            .expect("valid");
        println!(
            "{what}: {:?} in all, {parsed:?} of it reading; {} pods",
            start.elapsed(),
            tables.pod_count()
        );
    }
}
