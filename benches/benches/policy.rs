//! What policy costs: a verdict, a full compile, one pod more.

use criterion::{Criterion, criterion_group, criterion_main};
use portcullis_policy::{
    Change, Compiler, Direction, Document, Generation, Identity, IdentityAllocator, KnownNames,
    NodeFacts, PolicyIndex, Protocol, RuleId, Settings, Tables, compile, parse_documents,
};
use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Questions of one round: more than a first-level cache holds of tables.
const QUESTIONS: usize = 1 << 16;
/// Endpoints whose tables together are far larger than a second-level cache, and than the last one.
const ENDPOINTS: [usize; 2] = [19, 99];

fn documents(text: &str) -> Vec<Document> {
    // A file has fewer documents than this cluster.
    let mut all = Vec::new();
    let mut part = String::new();
    for (number, document) in text
        .split("---\n")
        .filter(|text| !text.is_empty())
        .enumerate()
    {
        let _ = write!(part, "---\n{document}");
        if number % 1000 == 999 {
            all.extend(parse(&std::mem::take(&mut part)));
        }
    }
    if !part.is_empty() {
        all.extend(parse(&part));
    }
    all
}

fn parse(text: &str) -> Vec<Document> {
    parse_documents("bench.yaml", text, &Settings::default()).expect("valid documents")
}

fn pod(text: &mut String, number: usize, app: usize) {
    let (high, low) = (number / 250, number % 250 + 1);
    let _ = write!(
        text,
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: pod-{number}, namespace: ns-{}, labels: \
         {{app: app-{app}, tier: tier-{}}}}}\nstatus: {{podIPs: [{{ip: 10.{}.{}.{low}}}]}}\n",
        app % 50,
        app % 20,
        high / 250,
        high % 250,
    );
}

/// One endpoint under so many rules, and so many identities that may ask for it.
fn one_endpoint(identities: usize, rules: usize) -> Tables {
    endpoints(1, identities, rules)
}

/// The same for several endpoints, each under rules of its own.
fn endpoints(count: usize, identities: usize, rules: usize) -> Tables {
    let mut text = String::new();
    for number in 0..identities {
        pod(&mut text, number, number);
    }
    (0..count).for_each(|endpoint| many_rules(&mut text, endpoint, rules));
    compile_all(&documents(&text))
}

fn many_rules(text: &mut String, endpoint: usize, rules: usize) {
    let _ = write!(
        text,
        "---\napiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {{name: \
         many-{endpoint}}}\nspec:\n  endpointSelector: {{matchLabels: {{app: app-{endpoint}}}}}\n  \
         ingress:\n",
    );
    for rule in 0..rules {
        let _ = write!(
            text,
            "  - fromEndpoints: [{{matchLabels: {{tier: tier-{}}}}}, {{matchLabels: {{app: app-{rule}}}}}]\n    \
             toPorts: [{{ports: [{{port: '{}', endPort: {}, protocol: TCP}}]}}]\n",
            rule % 20,
            1000 + 10 * rule,
            1005 + 10 * rule,
        );
    }
}

fn compile_all(documents: &[Document]) -> Tables {
    compile(
        documents,
        &NodeFacts::default(),
        &Settings::default(),
        &mut IdentityAllocator::new(),
        Generation(1),
    )
    .expect("a valid cluster")
}

/// Peers and ports in an order that no cache foresees.
fn questions(tables: &Tables) -> Vec<(Identity, u16)> {
    let peers: Vec<Identity> = tables.identities().map(|(identity, _)| identity).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..QUESTIONS)
        .map(|_| {
            // [Marsaglia 2003, xorshift64]
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let peer = peers[(state >> 20) as usize % peers.len()];
            (peer, 1000 + (state % 6000) as u16)
        })
        .collect()
}

fn ask(tables: &Tables, subject: PolicyIndex, (peer, port): (Identity, u16)) {
    black_box(tables.judge(
        black_box(subject),
        Direction::Ingress,
        black_box(peer),
        Protocol::Tcp,
        black_box(port),
    ));
}

/// Each question about another endpoint, peer and port, over tables that no cache near the core
/// holds: code and pages stay warm, data does not. None begins before the last one is answered.
fn verdicts_cold(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("verdict");
    for count in ENDPOINTS {
        let tables = endpoints(count, 10_000, 500);
        let size = tables.policy_bytes() >> 20;
        let subjects: Vec<_> = (0..count)
            .filter_map(|number| {
                tables.policy_of(&format!("ns-{}", number % 50), &format!("pod-{number}"))
            })
            .collect();
        let questions = questions(&tables);
        let mut position = 0_usize;
        let name = format!("10000 identities, 500 rules, data cold, {size} MiB of tables");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let (peer, port) = questions[position % QUESTIONS];
                // An odd number of them, so that endpoints and questions meet anew each round.
                let subject = subjects[position % count];
                let verdict = tables.judge(subject, Direction::Ingress, peer, Protocol::Tcp, port);
                let is_odd = verdict.rule == Some(RuleId(u32::MAX));
                position = position.wrapping_add(1 + usize::from(black_box(is_odd)));
            });
        });
    }
}

fn verdicts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("verdict");
    for (identities, rules) in [(10_000, 500), (100, 10)] {
        let tables = one_endpoint(identities, rules);
        let subject = tables.policy_of("ns-0", "pod-0").expect("a pod");
        let questions = questions(&tables);
        let name = format!("{identities} identities, {rules} rules");
        group.bench_function(format!("{name}, the same again"), |bencher| {
            bencher.iter(|| ask(&tables, subject, questions[7]));
        });
        let mut position = 0;
        group.bench_function(format!("{name}, always another"), |bencher| {
            bencher.iter(|| {
                position = (position + 1) % QUESTIONS;
                ask(&tables, subject, questions[position]);
            });
        });
        // All that is in the caches thrown out, our code and the page tables with it.
        let mut polluter = vec![0_u8; 32 << 20];
        group.bench_function(format!("{name}, all cold"), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    position = (position + 1) % QUESTIONS;
                    for byte in polluter.iter_mut().step_by(64) {
                        *byte = byte.wrapping_add(1);
                    }
                    // The clock's own code is not what is measured.
                    black_box(Instant::now().elapsed());
                    let start = Instant::now();
                    ask(&tables, subject, questions[position]);
                    spent += start.elapsed();
                }
                spent
            });
        });
    }
}

/// 10 000 pods of 5 000 identities under 1 000 policies.
fn cluster() -> Vec<Document> {
    let mut text = String::new();
    for number in 0..10_000 {
        pod(&mut text, number, number % 5000);
    }
    for policy in 0..1000 {
        let _ = write!(
            text,
            "---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: p-{policy}, \
             namespace: ns-{}}}\nspec:\n  endpointSelector: {{matchLabels: {{tier: tier-{}}}}}\n  ingress:\n  \
             - fromEndpoints: [{{matchLabels: {{app: app-{}, 'k8s:io.kubernetes.pod.namespace': ns-{}}}}}]\n    \
             toPorts: [{{ports: [{{port: '{}', protocol: TCP}}]}}]\n  egress:\n  - toCIDR: [10.{}.0.0/16]\n",
            policy % 50,
            policy % 20,
            policy * 5,
            policy % 50,
            1 + policy,
            100 + policy % 100,
        );
    }
    documents(&text)
}

/// Bytes that the process held at most, and holds now. [proc_pid_status(5)]
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.unwrap_or(0) * 1024
    };
    (field("VmHWM:"), field("VmRSS:"))
}

fn compiling(criterion: &mut Criterion) {
    let cluster = cluster();
    // Forgets what reading the documents took. [proc_pid_clear_refs(5)]
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = memory().1;
    let tables = compile_all(&cluster);
    let peak = memory().0;
    println!(
        "{} pods, {} policies, {} identities: peak {} MiB, of these {} MiB documents",
        tables.pod_count(),
        tables.document_count(),
        tables.identity_count(),
        peak >> 20,
        before >> 20,
    );
    drop(tables);
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(10);
    group.bench_function("10000 pods, 1000 policies, 5000 identities", |bencher| {
        bencher.iter(|| compile_all(&cluster));
    });

    let (facts, names) = (NodeFacts::default(), KnownNames::default());
    let mut compiler = Compiler::new(Settings::default(), IdentityAllocator::new());
    let changes = cluster
        .iter()
        .cloned()
        .map(|document| Change::Put(document.into()))
        .collect();
    let first = compiler.update(changes, &facts, &names, Generation(1));
    assert!(first.is_ok(), "a valid cluster");
    let (mut number, mut generation) = (20_000, 2);
    for (name, app) in [("of a known identity", 7_usize), ("of a new one", 5000)] {
        group.bench_function(format!("one pod more, {name}"), |bencher| {
            bencher.iter_batched(
                || {
                    let mut text = String::new();
                    let is_new = app >= 5000;
                    pod(&mut text, number, if is_new { number } else { app });
                    number += 1;
                    documents(&text)
                        .into_iter()
                        .map(|document| Change::Put(document.into()))
                        .collect::<Vec<_>>()
                },
                |changes| {
                    generation += 1;
                    let made = compiler.update(changes, &facts, &names, Generation(generation));
                    made.expect("a valid pod")
                },
                criterion::BatchSize::PerIteration,
            );
        });
    }
}

criterion_group!(benches, verdicts, verdicts_cold, compiling);
criterion_main!(benches);
