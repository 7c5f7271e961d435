//! Which traffic leaves through which gateway.

use super::{are_public, cases, list, none_of, ran, text, world};
use portcullis_policy::{
    Exit, Generation, IdentityAllocator, KnownNames, NodeFacts, compile_with_names,
};

#[test]
fn packets_leave_through_the_gateway_that_the_reference_takes() {
    let Some(cases) = cases("egress-gateway") else {
        return;
    };
    let (mut rows, mut differences) = (0, Vec::new());
    for case in &cases {
        let settings = world::settings(case);
        let documents = world::documents(case, &settings);
        let mut identities = IdentityAllocator::new();
        let (facts, names) = (NodeFacts::default(), KnownNames::default());
        let tables = compile_with_names(
            &documents,
            &facts,
            &names,
            &settings,
            &mut identities,
            Generation(1),
        )
        .unwrap_or_else(|errors| panic!("{}: {errors:#?}", text(case, "name")));
        for row in list(case, "flows") {
            let cell = |place: usize| row[place].as_str().expect("text");
            if cell(2) == "ambiguous" {
                continue;
            }
            let pod = list(case, "endpoints")
                .find(|pod| pod["id"] == cell(0))
                .expect("a pod");
            let said = match tables.exit(
                text(pod, "namespace"),
                cell(0),
                cell(1).parse().expect("an address"),
            ) {
                Exit::Usual => "none".to_owned(),
                Exit::Excluded(_) => "excluded".to_owned(),
                Exit::NoGateway(_) => "drop-no-gateway".to_owned(),
                Exit::Through { node, policy, .. } => format!("gw:{node}:{}", policy.name),
                Exit::Conflict(..) => "ambiguous".to_owned(),
            };
            rows += 1;
            if said != cell(2) {
                differences.push(format!("{} {row}: {said}", text(case, "name")));
            }
        }
    }
    ran("egress-gateway", &format!("{rows} packets"), &differences);
    none_of(&differences);
    assert!(!are_public() || rows >= 1000, "only {rows} packets");
}
