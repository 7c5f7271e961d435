//! Documents that mean harm: answered in bounded time and memory.

use portcullis_policy::{
    Document, DocumentError, Generation, IdentityAllocator, NodeFacts, Settings, compile,
    parse_documents,
};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Far above what each of these takes, even where nothing is optimised.
const PATIENCE: Duration = Duration::from_secs(30);

fn read(text: &str) -> Result<Vec<Document>, Vec<DocumentError>> {
    let start = Instant::now();
    let read = parse_documents("hostile.yaml", text, &Settings::default());
    assert!(start.elapsed() < PATIENCE, "it took {:?}", start.elapsed());
    read
}

fn policy(spec: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: p, namespace: \
         shop}}\nspec:\n  endpointSelector: {{}}\n{spec}"
    )
}

#[test]
fn deep_nesting_is_refused() {
    let text = format!(
        "kind: Pod\nspec: {}{}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert!(read(&text).is_err());
}

#[test]
fn a_bomb_of_anchors_is_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..30 {
        let before = level - 1;
        let list = vec![format!("*a{before}"); 9].join(", ");
        writeln!(text, "a{level}: &a{level} [{list}]").expect("a string takes all");
    }
    assert!(read(&text).is_err());
}

#[test]
fn a_selector_of_a_mebibyte_is_answered() {
    let mut values = String::new();
    for number in 0..60_000 {
        write!(values, "value-{number:010}, ").expect("a string takes all");
    }
    let text = policy(&format!(
        "  ingress:\n  - fromEndpoints:\n    - matchExpressions: [{{key: app, operator: In, values: [{values}]}}]\n"
    ));
    assert!(text.len() > 1 << 20);
    assert!(read(&text).is_ok());
    let long = "x".repeat(1 << 20);
    let text = policy(&format!(
        "  ingress: [{{fromEndpoints: [{{matchLabels: {{app: {long}}}}}]}}]\n"
    ));
    let errors = read(&text).expect_err("a value is at most 63 characters");
    assert!(errors.iter().all(|error| error.to_string().len() < 500));
}

#[test]
fn a_hundred_thousand_blocks_in_one_rule_compile() {
    let mut blocks = String::new();
    for number in 0..100_000 {
        write!(
            blocks,
            "100.{}.{}.{}/32, ",
            number / 62_500,
            number / 250 % 250,
            number % 250
        )
        .expect("a string takes all");
    }
    let documents = read(&policy(&format!("  egress: [{{toCIDR: [{blocks}]}}]\n"))).expect("valid");
    let start = Instant::now();
    let (facts, settings) = (NodeFacts::default(), Settings::default());
    let mut identities = IdentityAllocator::new();
    let tables = compile(
        &documents,
        &facts,
        &settings,
        &mut identities,
        Generation(1),
    );
    assert!(start.elapsed() < PATIENCE, "it took {:?}", start.elapsed());
    assert!(tables.expect("valid").identity_count() > 100_000);
}

#[test]
fn expressions_that_explode_are_refused() {
    for expression in [
        "(((x{1,1000}){1,1000}){1,1000}){1,1000}",
        "(?:a?){5000}(?:b{5000}){5000}",
    ] {
        let text = policy(&format!(
            "  ingress: [{{toPorts: [{{ports: [{{port: '80', protocol: TCP}}], rules: {{http: [{{path: '{expression}'}}]}}}}]}}]\n"
        ));
        let errors = read(&text).expect_err("too large");
        assert_eq!(errors.len(), 1, "{errors:?}");
    }
}

#[test]
fn more_faults_than_anybody_reads_are_cut() {
    let text = policy(&format!(
        "  ingress: [{}]\n",
        "{fromEntities: [x]}, ".repeat(10_000)
    ));
    assert_eq!(read(&text).expect_err("full of faults").len(), 100);
}
