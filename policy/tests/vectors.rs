//! The verdict vectors: what the reference engine says of whole worlds, asked of our tables.
//!
//! They lie beside the project, in `../shared/vectors`; where they do not, these tests say so and
//! do nothing.

use portcullis_policy::{
    AllowLocalhost, Compat, Direction, Document, EnforcementMode, Generation, Identity,
    IdentityAllocator, NodeFacts, Object, PolicyIndex, Protocol, Settings, Tables, compile,
    parse_documents,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// The words of an error that says: later.
const LATER: &str = "not supported yet";

/// The cases of a file; None when the vectors are not there.
fn cases(file: &str) -> Option<Vec<Value>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/public");
    if !folder.exists() {
        eprintln!("SKIPPED: no verdict vectors in {}", folder.display());
        return None;
    }
    let text = std::fs::read_to_string(folder.join(file)).expect("a file of vectors");
    Some(
        text.lines()
            .map(|line| serde_json::from_str(line).expect("a JSON object"))
            .collect(),
    )
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("")
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// The settings of a case; None when it needs one that there is not yet.
fn settings(case: &Value) -> Option<Settings> {
    let mut settings = Settings {
        compat: Compat::Cilium,
        ..Settings::default()
    };
    for (key, value) in case["config"].as_object().into_iter().flatten() {
        match (key.as_str(), value.as_str()) {
            ("mode", Some("default")) => {}
            ("mode", Some("always")) => settings.enforcement_mode = EnforcementMode::Always,
            ("mode", Some("never")) => settings.enforcement_mode = EnforcementMode::Never,
            ("allowLocalhost", Some("always")) => {}
            ("allowLocalhost", Some("policy")) => settings.allow_localhost = AllowLocalhost::Policy,
            ("ipv6", None) => settings.ipv6 = value.as_bool().expect("a truth value"),
            _ => return None,
        }
    }
    Some(settings)
}

fn addresses(endpoint: &Value) -> Vec<IpAddr> {
    list(endpoint, "ips")
        .map(|ip| ip.as_str().expect("text").parse().expect("an address"))
        .collect()
}

fn facts(case: &Value) -> NodeFacts {
    let mut facts = NodeFacts::default();
    for endpoint in list(case, "endpoints") {
        match text(endpoint, "kind") {
            "host" => facts.node_addresses.extend(addresses(endpoint)),
            "remote-node" => facts.remote_node_addresses.extend(addresses(endpoint)),
            "external-apiserver" => facts.api_server_addresses.extend(addresses(endpoint)),
            _ => {}
        }
        if endpoint["apiserver"].as_bool() == Some(true) {
            facts.api_server_addresses.extend(addresses(endpoint));
        }
    }
    facts
}

/// Namespaces and pods as manifests. JSON is YAML.
fn manifests(case: &Value) -> String {
    let mut objects = Vec::new();
    for (name, labels) in case["namespaces"].as_object().into_iter().flatten() {
        let metadata = json!({"name": name, "labels": labels});
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
    }
    for endpoint in list(case, "endpoints").filter(|endpoint| endpoint["kind"] == "pod") {
        let ports: Vec<_> = list(endpoint, "namedPorts")
            .map(|port| {
                json!({"name": port["name"], "containerPort": port["port"], "protocol": port["protocol"]})
            })
            .collect();
        objects.push(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": endpoint["id"],
                "namespace": endpoint["namespace"],
                "labels": endpoint["labels"],
            },
            "spec": {
                "serviceAccountName": endpoint["serviceAccount"],
                "containers": [{"name": "main", "ports": ports}],
            },
            "status": {
                "podIPs": list(endpoint, "ips").map(|ip| json!({"ip": ip})).collect::<Vec<_>>(),
            },
        }));
    }
    let texts: Vec<_> = objects.iter().map(ToString::to_string).collect();
    texts.join("\n---\n")
}

/// The documents of a case; None when a policy asks for something that there is not yet.
fn documents(case: &Value, settings: &Settings) -> Option<Vec<Document>> {
    let name = text(case, "name");
    let mut documents = parse_documents("world.yaml", &manifests(case), settings)
        .unwrap_or_else(|errors| panic!("{name}: {errors:#?}"));
    for document in &mut documents {
        if let Object::Pod(pod) = &mut document.object {
            let endpoint = list(case, "endpoints").find(|endpoint| endpoint["id"] == *pod.name);
            pod.cluster = endpoint
                .and_then(|endpoint| endpoint["cluster"].as_str())
                .map(str::to_owned);
        }
    }
    for (place, policy) in list(case, "policies").enumerate() {
        let read = parse_documents(
            &format!("policy-{place}.yaml"),
            text(policy, "yaml"),
            settings,
        );
        match (read, policy["accept"].as_bool()) {
            (Ok(policies), Some(true)) => documents.extend(policies),
            (Err(_), Some(false)) => {}
            (Err(errors), _) if is_later(&errors) => return None,
            (Ok(_), _) => panic!("{name}: accepted, but the reference engine refuses it"),
            (Err(errors), _) => panic!("{name}: {errors:#?}"),
        }
    }
    Some(documents)
}

/// Whether all that is wrong is that something is not supported yet.
fn is_later(errors: &[portcullis_policy::DocumentError]) -> bool {
    errors.iter().all(|error| {
        error.expected.contains(LATER) || error.expected.starts_with("one of the kinds")
    })
}

/// The endpoints of a case, by name.
struct Endpoints {
    identities: BTreeMap<String, Identity>,
    policies: BTreeMap<String, PolicyIndex>,
    by_address: BTreeMap<IpAddr, Identity>,
}

impl Endpoints {
    fn new(case: &Value, tables: &Tables) -> Self {
        let mut endpoints = Self {
            identities: BTreeMap::new(),
            policies: BTreeMap::new(),
            by_address: BTreeMap::new(),
        };
        for endpoint in list(case, "endpoints") {
            let (id, namespace) = (text(endpoint, "id"), text(endpoint, "namespace"));
            let addresses = addresses(endpoint);
            let identity = match text(endpoint, "kind") {
                "pod" => tables
                    .identity_of_pod(namespace, id)
                    .expect("every pod has one"),
                "host" => Identity::HOST,
                "remote-node" | "external-apiserver" => tables.identity_of(addresses[0]),
                "health" => Identity::HEALTH,
                "init" => Identity::INIT,
                "unmanaged" => Identity::UNMANAGED,
                "ingress" => Identity::INGRESS,
                other => panic!("unknown kind of endpoint {other}"),
            };
            if matches!(text(endpoint, "kind"), "pod" | "host") {
                assert!(
                    addresses
                        .iter()
                        .all(|address| tables.identity_of(*address) == identity)
                );
            }
            let policy = tables
                .policy_of(namespace, id)
                .or_else(|| tables.policy_of_reserved(identity));
            endpoints
                .policies
                .extend(policy.map(|policy| (id.to_owned(), policy)));
            endpoints
                .by_address
                .extend(addresses.iter().map(|address| (*address, identity)));
            endpoints.identities.insert(id.to_owned(), identity);
        }
        endpoints
    }

    fn peer(&self, name: &str, tables: &Tables) -> Identity {
        if let Some(identity) = self.identities.get(name) {
            return *identity;
        }
        let address: IpAddr = name.parse().expect("an endpoint or an address");
        self.by_address
            .get(&address)
            .copied()
            .unwrap_or_else(|| tables.identity_of(address))
    }
}

fn protocol(name: &str) -> Protocol {
    match name {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        "ICMP" => Protocol::Icmp,
        "ICMPv6" => Protocol::Icmpv6,
        other => panic!("unknown protocol {other}"),
    }
}

/// What came of one case.
#[derive(Default)]
struct Outcome {
    rows: usize,
    differences: Vec<String>,
}

/// Asks the tables every row of a case; None when it is out of scope.
fn run(case: &Value) -> Option<Outcome> {
    let settings = settings(case)?;
    let documents = documents(case, &settings)?;
    let mut identities = IdentityAllocator::new();
    let tables = compile(
        &documents,
        &facts(case),
        &settings,
        &mut identities,
        Generation(1),
    )
    .unwrap_or_else(|errors| panic!("{}: {errors:#?}", text(case, "name")));
    let endpoints = Endpoints::new(case, &tables);
    let mut outcome = Outcome::default();
    for (place, row) in list(case, "flows").enumerate() {
        let cell = |place: usize| row[place].as_str().expect("text");
        // This node's own policy comes with the host firewall.
        let Some(policy) = endpoints.policies.get(cell(1)) else {
            continue;
        };
        let direction = if cell(0) == "I" {
            Direction::Ingress
        } else {
            Direction::Egress
        };
        let port = row[4]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok())
            .expect("a port");
        let peer = endpoints.peer(cell(2), &tables);
        let verdict = tables.judge(*policy, direction, peer, protocol(cell(3)), port);
        let said = match verdict.decision {
            decision if decision.is_allowed() => "A",
            portcullis_policy::Decision::DenyRule => "D",
            _ => "N",
        };
        let contested = case["contested"]["flows"][place.to_string()].as_str();
        outcome.rows += 1;
        if said != cell(5) && Some(said) != contested {
            outcome
                .differences
                .push(format!("{} row {place} {row}: {said}", text(case, "name")));
        }
    }
    Some(outcome)
}

#[test]
fn tables_agree_with_the_reference_engine() {
    let files = [
        "edge.jsonl",
        "random-kcnp.jsonl",
        "random-knp.jsonl",
        "random-l4.jsonl",
        "random-l7.jsonl",
        "random-mix.jsonl",
    ];
    let (mut ran, mut later, mut rows, mut differences) = (0, Vec::new(), 0, Vec::new());
    for file in files {
        let Some(cases) = cases(file) else { return };
        for case in cases {
            match run(&case) {
                Some(outcome) => {
                    ran += 1;
                    rows += outcome.rows;
                    differences.extend(outcome.differences);
                }
                None => later.push(text(&case, "name").to_owned()),
            }
        }
    }
    println!(
        "{ran} cases with {rows} rows ran; out of scope: {} {later:?}",
        later.len()
    );
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences.join("\n")
    );
    assert!(ran >= CASES_MIN, "only {ran} cases ran");
    assert!(rows >= ROWS_MIN, "only {rows} rows were asked");
}

/// Held against the test itself: it must not become empty without anybody noticing.
const CASES_MIN: usize = 136;
const ROWS_MIN: usize = 13_900;

#[test]
fn documents_are_refused_where_the_reference_refuses_them() {
    let Some(cases) = cases("validation.jsonl") else {
        return;
    };
    let settings = Settings {
        compat: Compat::Cilium,
        ..Settings::default()
    };
    let (mut ran, mut later, mut differences) = (0, Vec::new(), Vec::new());
    for case in &cases {
        let policy = &case["policies"][0];
        let is_valid =
            policy["accept"] == true && matches!(text(policy, "schema"), "accept" | "n/a");
        match parse_documents("policy.yaml", text(policy, "yaml"), &settings) {
            Err(errors) if is_later(&errors) && is_valid => later.push(text(case, "name")),
            read => {
                ran += 1;
                if read.is_ok() != is_valid {
                    differences.push(format!("{}: {read:#?}", text(case, "name")));
                }
            }
        }
    }
    println!("{ran} documents were judged; out of scope: {later:?}");
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences.join("\n")
    );
    assert!(ran >= DOCUMENTS_MIN, "only {ran} documents were judged");
}

/// As above, for documents.
const DOCUMENTS_MIN: usize = 44;
