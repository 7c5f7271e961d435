//! Documents that are refused.

use super::{are_public, cases, none_of, ran, reference, text};
use portcullis_policy::parse_documents;

#[test]
fn documents_are_refused_where_the_reference_refuses_them() {
    let Some(cases) = cases("validation") else {
        return;
    };
    let mut differences = Vec::new();
    for case in &cases {
        let policy = &case["policies"][0];
        let is_valid =
            policy["accept"] == true && matches!(text(policy, "schema"), "accept" | "n/a");
        let read = parse_documents("policy.yaml", text(policy, "yaml"), &reference());
        if read.is_ok() != is_valid {
            differences.push(format!("{}: {read:#?}", text(case, "name")));
        }
    }
    ran(
        "validation",
        &format!("{} documents", cases.len()),
        &differences,
    );
    none_of(&differences);
    assert!(
        !are_public() || cases.len() >= 48,
        "only {} documents",
        cases.len()
    );
}
