//! The world of a case: settings, facts, documents.

use super::{list, reference, text};
use portcullis_policy::{
    AllowLocalhost, Document, EnforcementMode, KnownNames, NodeFacts, Object, Settings,
    parse_documents,
};
use serde_json::{Value, json};
use std::net::IpAddr;

/// The settings of a case.
pub fn settings(case: &Value) -> Settings {
    let mut settings = reference();
    for (key, value) in case["config"].as_object().into_iter().flatten() {
        match (key.as_str(), value.as_str()) {
            ("mode", Some("default")) | ("allowLocalhost", Some("always")) => {}
            ("mode", Some("always")) => settings.enforcement_mode = EnforcementMode::Always,
            ("mode", Some("never")) => settings.enforcement_mode = EnforcementMode::Never,
            ("allowLocalhost", Some("policy")) => settings.allow_localhost = AllowLocalhost::Policy,
            ("ipv6", None) => settings.ipv6 = truth(value),
            ("hostFirewall", None) => settings.has_host_firewall = truth(value),
            ("nodeSelectorLabels", None) => settings.has_node_selectors = truth(value),
            ("policyDefaultLocalCluster", None) => settings.is_confined_to_cluster = truth(value),
            ("cidrMatchMode", None) => {
                settings.blocks_select_nodes = value[0] == "nodes";
            }
            _ => panic!("unknown setting {key}: {value}"),
        }
    }
    settings
}

fn truth(value: &Value) -> bool {
    value.as_bool().expect("a truth value")
}

pub fn addresses(endpoint: &Value) -> Vec<IpAddr> {
    list(endpoint, "ips")
        .map(|ip| ip.as_str().expect("text").parse().expect("an address"))
        .collect()
}

pub fn facts(case: &Value) -> NodeFacts {
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

pub fn names(case: &Value) -> KnownNames {
    let known = list(case, "dns").map(|entry| {
        (
            text(entry, "name").to_owned(),
            addresses(entry).into_iter().collect(),
        )
    });
    KnownNames(known.collect())
}

/// Everything but the policies, as manifests. JSON is YAML.
fn manifests(case: &Value) -> String {
    let mut objects = Vec::new();
    for (name, labels) in case["namespaces"].as_object().into_iter().flatten() {
        let metadata = json!({"name": name, "labels": labels});
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
    }
    objects.extend(
        list(case, "endpoints")
            .filter(|one| one["kind"] == "pod")
            .map(pod),
    );
    for endpoint in list(case, "endpoints").filter(|one| !one["nodeLabels"].is_null()) {
        objects.push(node(
            text(endpoint, "id"),
            &endpoint["nodeLabels"],
            &addresses(endpoint),
        ));
    }
    for one in list(case, "nodes") {
        let address = text(one, "ip").parse().expect("an address");
        objects.push(node(text(one, "name"), &one["labels"], &[address]));
    }
    for group in list(case, "cidrGroups") {
        objects.push(json!({
            "apiVersion": "cilium.io/v2", "kind": "CiliumCIDRGroup",
            "metadata": {"name": group["name"], "labels": group["labels"]},
            "spec": {"externalCIDRs": group["cidrs"]},
        }));
    }
    objects.extend(list(case, "services").flat_map(service));
    let texts: Vec<_> = objects.iter().map(ToString::to_string).collect();
    texts.join("\n---\n")
}

fn node(name: &str, labels: &Value, addresses: &[IpAddr]) -> Value {
    let addresses: Vec<_> = addresses
        .iter()
        .map(|address| json!({"type": "InternalIP", "address": address}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
        "status": {"addresses": addresses},
    })
}

fn service(service: &Value) -> Vec<Value> {
    let metadata = json!({"name": service["name"], "namespace": service["namespace"], "labels": service["labels"]});
    let backends: Vec<_> = list(service, "backends")
        .map(|block| {
            let block = block.as_str().expect("text");
            json!({"ip": block.split('/').next().expect("an address")})
        })
        .collect();
    vec![
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": service["selector"]}}),
        json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": [{"addresses": backends}]}),
    ]
}

fn pod(endpoint: &Value) -> Value {
    let ports: Vec<_> = list(endpoint, "namedPorts")
        .map(|port| {
            json!({"name": port["name"], "containerPort": port["port"], "protocol": port["protocol"]})
        })
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": endpoint["id"],
            "namespace": endpoint["namespace"],
            "labels": endpoint["labels"],
            "uid": endpoint["uid"],
        },
        "spec": {
            "serviceAccountName": endpoint["serviceAccount"],
            "nodeName": endpoint["node"],
            "containers": [{"name": "main", "ports": ports}],
        },
        "status": {
            "podIPs": list(endpoint, "ips").map(|ip| json!({"ip": ip})).collect::<Vec<_>>(),
        },
    })
}

/// The documents of a case; what the reference engine refuses must be refused.
pub fn documents(case: &Value, settings: &Settings) -> Vec<Document> {
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
        let file = format!("policy-{place}.yaml");
        let read = parse_documents(&file, text(policy, "yaml"), settings);
        match (read, policy["accept"].as_bool()) {
            (Ok(policies), Some(true)) => documents.extend(policies),
            (Err(_), Some(false)) => {}
            (Ok(_), _) => panic!("{name}: accepted, but the reference engine refuses it"),
            (Err(errors), _) => panic!("{name}: {errors:#?}"),
        }
    }
    documents
}
