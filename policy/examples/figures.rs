//! Figures of the compiler and the tables: `cargo run --release -p portcullis-policy --example
//! figures`. Printed, not asserted: they are the machine's as much as ours.

use portcullis_policy::{
    Change, Compiler, Direction, Document, Generation, Identity, IdentityAllocator, KnownNames,
    NodeFacts, ObjectKey, PolicyIndex, Protocol, Settings, Tables, parse_documents,
};
use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn read(text: &str) -> Vec<Document> {
    parse_documents("figures.yaml", text, &Settings::default()).expect("a valid file")
}

/// `count` pods with `identities` different label sets.
fn pods(count: usize, identities: usize) -> Vec<Document> {
    let mut documents = Vec::new();
    for chunk in 0..count.div_ceil(5000) {
        let mut text = String::new();
        for pod in chunk * 5000..(chunk * 5000 + 5000).min(count) {
            text.push_str(&pod_text(pod, pod % identities));
        }
        documents.extend(read(&text));
    }
    documents
}

fn pod_text(pod: usize, class: usize) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: pod-{pod}, namespace: ns-{}, labels: {{app: \
         app-{class}, tier: tier-{}}}}}\nspec: {{serviceAccountName: default}}\nstatus: {{podIPs: \
         [{{ip: 10.{}.{}.{}}}]}}\n",
        class % 50,
        class % 7,
        1 + pod / 62_500,
        pod / 250 % 250,
        1 + pod % 250,
    )
}

/// Policies that each select one application, let two others in and one block of addresses out.
fn policies(count: usize, identities: usize) -> Vec<Document> {
    let mut documents = Vec::new();
    for chunk in 0..count.div_ceil(5000) {
        let mut text = String::new();
        for policy in chunk * 5000..(chunk * 5000 + 5000).min(count) {
            let class = policy % identities;
            write!(
                text,
                "---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: p-{policy}, \
                 namespace: ns-{}}}\nspec:\n  endpointSelector: {{matchLabels: {{app: app-{class}}}}}\n  \
                 ingress:\n  - fromEndpoints:\n    - matchLabels: {{app: app-{}, \
                 'k8s:io.kubernetes.pod.namespace': ns-{}}}\n    - matchLabels: {{tier: tier-{}}}\n    \
                 toPorts: [{{ports: [{{port: '{}', protocol: TCP}}]}}]\n  egress:\n  - toCIDR: \
                 [172.{}.{}.0/24]\n",
                class % 50,
                (class * 7) % identities,
                (class * 7) % identities % 50,
                class % 7,
                1 + policy % 60_000,
                16 + policy / 250 % 16,
                policy % 250,
            )
            .expect("a string takes all");
        }
        documents.extend(read(&text));
    }
    documents
}

fn put(documents: &[Document]) -> Vec<Change> {
    let documents = documents.iter().cloned();
    documents
        .map(|document| Change::Put(Arc::new(document)))
        .collect()
}

/// Kibibytes of memory now and at most so far.
fn memory() -> String {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_whitespace().nth(1))
            .unwrap_or("?")
            .to_owned()
    };
    format!("{} KiB now, {} KiB at most", of("VmRSS"), of("VmHWM"))
}

fn world(pod_count: usize, policy_count: usize, identities: usize) {
    println!("{pod_count} pods, {policy_count} policies, {identities} identities");
    let start = Instant::now();
    let mut documents = pods(pod_count, identities);
    documents.extend(policies(policy_count, identities));
    println!("  read in {:?}; {}", start.elapsed(), memory());
    let mut compiler = Compiler::new(Settings::default(), IdentityAllocator::new());
    let (facts, names) = (NodeFacts::default(), KnownNames::default());
    let changes = put(&documents);
    let start = Instant::now();
    let tables = compiler
        .update(changes, &facts, &names, Generation(1))
        .expect("valid");
    println!("  compiled in {:?}; {}", start.elapsed(), memory());
    let pairs = tables.identity_count() * tables.identity_count();
    println!(
        "  {} rules, {} different policies, {} bytes for {pairs} pairs of identities",
        tables.rule_count(),
        tables.policy_count(),
        tables.policy_bytes(),
    );
    let mut update = |what: &str, changes: Vec<Change>, generation| {
        let start = Instant::now();
        let tables = compiler.update(changes, &facts, &names, Generation(generation));
        println!("  {what}: {:?}", start.elapsed());
        drop(tables.expect("valid"));
    };
    update(
        "one pod of a known identity",
        put(&read(&pod_text(pod_count, 1))),
        2,
    );
    update(
        "one pod of a new identity",
        put(&read(&pod_text(pod_count + 1, identities))),
        3,
    );
    let gone = ObjectKey {
        kind: "Pod",
        namespace: Some(format!("ns-{}", identities % 50)),
        name: format!("pod-{}", pod_count + 1),
    };
    update("that pod gone again", vec![Change::Remove(gone)], 4);
    update("nothing at all", Vec::new(), 5);
    update(
        "one policy more",
        put(&policies(policy_count + 1, identities)[policy_count..]),
        6,
    );
    lookups(&tables);
}

/// A cheap sequence that looks random; the same each time.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state >> 33).expect("31 bits")
}

fn lookups(tables: &Tables) {
    let peers: Vec<Identity> = tables.identities().map(|(identity, _)| identity).collect();
    let subjects: Vec<PolicyIndex> = (0..200)
        .flat_map(|class| tables.policy_of(&format!("ns-{}", class % 50), &format!("pod-{class}")))
        .collect();
    let mut state = 0x9E37_79B9_7F4A_7C15;
    let questions: Vec<_> = (0..1 << 16)
        .map(|_| {
            let subject = subjects[next(&mut state) % subjects.len()];
            let peer = peers[next(&mut state) % peers.len()];
            (
                subject,
                peer,
                u16::try_from(next(&mut state) % 1000).expect("small"),
            )
        })
        .collect();
    for (what, questions) in [
        ("hot", &questions[..16]),
        ("spread over all policies", &questions[..]),
    ] {
        let rounds = (1 << 22) / questions.len();
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let start = Instant::now();
            for _ in 0..rounds {
                for (subject, peer, port) in questions {
                    black_box(tables.judge(
                        *subject,
                        Direction::Ingress,
                        *peer,
                        Protocol::Tcp,
                        *port,
                    ));
                }
            }
            best = best.min(start.elapsed());
        }
        let each = best.as_secs_f64() * 1e9 / f64::from(1 << 22);
        println!("  judge, {what}: {each:.1} ns");
    }
}

/// 500 rules on one endpoint, among many identities.
fn one_endpoint(identities: usize, rules: usize) {
    let mut documents = pods(identities, identities);
    let mut text = String::from(
        "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: p}\nspec:\n  \
         endpointSelector: {matchLabels: {app: app-0}}\n  ingress:\n",
    );
    for rule in 0..rules {
        writeln!(
            text,
            "  - fromEndpoints: [{{matchLabels: {{app: app-{}}}}}, {{matchLabels: {{tier: tier-{}}}}}]\n    \
             toPorts: [{{ports: [{{port: '{}', protocol: TCP}}]}}]",
            rule * 13 % identities,
            rule % 7,
            1 + rule * 3,
        )
        .expect("a string takes all");
    }
    documents.extend(read(&text));
    let mut compiler = Compiler::new(Settings::default(), IdentityAllocator::new());
    let (facts, names) = (NodeFacts::default(), KnownNames::default());
    let start = Instant::now();
    let tables = compiler
        .update(put(&documents), &facts, &names, Generation(1))
        .expect("valid");
    println!(
        "{identities} identities, {rules} rules on one endpoint: compiled in {:?}",
        start.elapsed()
    );
    let peers: Vec<Identity> = tables.identities().map(|(identity, _)| identity).collect();
    let subject = tables.policy_of("ns-0", "pod-0").expect("a pod");
    let mut state = 0x9E37_79B9_7F4A_7C15;
    let questions: Vec<_> = (0..1 << 16)
        .map(|_| {
            let port = u16::try_from(next(&mut state) % (rules * 3)).expect("small");
            (peers[next(&mut state) % peers.len()], port)
        })
        .collect();
    let start = Instant::now();
    for _ in 0..64 {
        for (peer, port) in &questions {
            black_box(tables.judge(subject, Direction::Ingress, *peer, Protocol::Tcp, *port));
        }
    }
    let each = start.elapsed().as_secs_f64() * 1e9 / f64::from(64 << 16);
    println!(
        "  judge, random peers and ports: {each:.1} ns; {} bytes",
        tables.policy_bytes()
    );
}

/// Nanoseconds that this thread ran: others on the machine take their turns meanwhile.
/// [Linux, Documentation/scheduler/sched-stats]
fn nanoseconds_run() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Each question about another endpoint, peer and port, over tables far larger than a second-level
/// cache. None begins before the last one is answered.
fn cold(endpoints: usize, identities: usize, rules: usize) {
    let mut documents = pods(identities, identities);
    for endpoint in 0..endpoints {
        let mut text = format!(
            "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {{name: \
             p-{endpoint}}}\nspec:\n  endpointSelector: {{matchLabels: {{app: app-{endpoint}}}}}\n  \
             ingress:\n",
        );
        for rule in 0..rules {
            writeln!(
                text,
                "  - fromEndpoints: [{{matchLabels: {{app: app-{}}}}}, {{matchLabels: {{tier: tier-{}}}}}]\n    \
                 toPorts: [{{ports: [{{port: '{}', protocol: TCP}}]}}]",
                rule * 13 % identities,
                rule % 7,
                1 + rule * 3,
            )
            .expect("a string takes all");
        }
        documents.extend(read(&text));
    }
    let mut compiler = Compiler::new(Settings::default(), IdentityAllocator::new());
    let (facts, names) = (NodeFacts::default(), KnownNames::default());
    let tables = compiler
        .update(put(&documents), &facts, &names, Generation(1))
        .expect("valid");
    let peers: Vec<Identity> = tables.identities().map(|(identity, _)| identity).collect();
    let subjects: Vec<_> = (0..endpoints)
        .flat_map(|number| {
            tables.policy_of(&format!("ns-{}", number % 50), &format!("pod-{number}"))
        })
        .collect();
    let mut state = 0x9E37_79B9_7F4A_7C15;
    let questions: Vec<_> = (0..1 << 20)
        .map(|_| {
            let port = u16::try_from(next(&mut state) % (rules * 3)).expect("small");
            (
                subjects[next(&mut state) % subjects.len()],
                peers[next(&mut state) % peers.len()],
                port,
            )
        })
        .collect();
    let mut rounds: Vec<_> = (0..9)
        .map(|_| {
            let start = nanoseconds_run();
            let mut position = 0;
            while let Some((subject, peer, port)) = questions.get(position) {
                let verdict =
                    tables.judge(*subject, Direction::Ingress, *peer, Protocol::Tcp, *port);
                // No rule has this number; only the processor does not know before it has read it.
                let is_last = verdict.rule.is_some_and(|rule| rule.0 == u32::MAX);
                position += 1 + usize::from(black_box(is_last));
            }
            Duration::from_nanos(nanoseconds_run() - start).as_secs_f64() * 1e9 / f64::from(1 << 20)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!(
        "{endpoints} endpoints with {rules} rules each, {identities} identities: {} MiB\n  judge, \
         data cold: {:.1} ns (median of {} rounds, {:.1} at best)",
        tables.policy_bytes() >> 20,
        rounds[rounds.len() / 2],
        rounds.len(),
        rounds[0],
    );
}

fn main() {
    // Beyond the second-level cache, and beyond the last one.
    cold(20, 10_000, 500);
    cold(100, 10_000, 500);
    one_endpoint(100, 10);
    one_endpoint(10_000, 500);
    world(1000, 1000, 1000);
    world(1000, 10_000, 1000);
    world(10_000, 1000, 5000);
}
