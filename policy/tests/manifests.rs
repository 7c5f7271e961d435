//! Manifests that are accepted, and what is read of them.

use portcullis_policy::{
    Compat, Document, DocumentOrigin, NamedPort, Namespace, Object, Pod, PortMatch, PortProtocol,
    Ports, Settings, Traffic, parse_documents,
};
use std::collections::BTreeMap;

fn documents(text: &str) -> Vec<Document> {
    parse_documents("file.yaml", text, &Settings::default()).expect("a valid file")
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn origin(
    document: usize,
    kind: &'static str,
    namespace: Option<&str>,
    name: &str,
) -> DocumentOrigin {
    DocumentOrigin {
        file: "file.yaml".to_owned(),
        document,
        kind,
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
    }
}

/// A pod as `kubectl get -o yaml` prints it, shortened.
const PRINTED_POD: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  annotations:
    portcullis.io/interface: veth7
  creationTimestamp: "2026-08-07T10:00:00Z"
  generateName: web-5d9-
  labels:
    app: web
  managedFields:
  - {apiVersion: v1, fieldsType: FieldsV1, fieldsV1: {"f:metadata": {}}, manager: kubelet, operation: Update}
  name: web-5d9-x
  namespace: shop
  ownerReferences:
  - {apiVersion: apps/v1, kind: ReplicaSet, name: web-5d9, uid: 0a1b}
  resourceVersion: "12"
  uid: 9f
spec:
  containers:
  - image: nginx
    name: main
    ports:
    - {containerPort: 8080, name: HTTP, protocol: TCP}
    - {containerPort: 53, name: dns, protocol: UDP}
    - {containerPort: 9999}
    resources: {}
  initContainers:
  - name: once
    ports: [{containerPort: 1, name: once}]
  - name: beside
    restartPolicy: Always
    ports: [{containerPort: 15, name: beside}]
  dnsPolicy: ClusterFirst
  nodeName: node-1
  serviceAccountName: runner
  tolerations: [{effect: NoExecute, key: k, operator: Exists, tolerationSeconds: 300}]
status:
  conditions: [{lastProbeTime: null, status: "True", type: Ready}]
  hostIP: 192.0.2.1
  phase: Running
  podIP: 10.1.0.10
  podIPs:
  - ip: 10.1.0.10
  - ip: fd00::10
"#;

fn printed_pod() -> Pod {
    let port = |name: &str, protocol, port| NamedPort {
        name: name.to_owned(),
        protocol,
        port,
    };
    Pod {
        namespace: "shop".to_owned(),
        name: "web-5d9-x".to_owned(),
        labels: map(&[("app", "web")]),
        annotations: map(&[("portcullis.io/interface", "veth7")]),
        addresses: vec![
            "10.1.0.10".parse().expect("v4"),
            "fd00::10".parse().expect("v6"),
        ],
        service_account: Some("runner".to_owned()),
        named_ports: vec![
            port("beside", PortProtocol::Tcp, 15),
            port("dns", PortProtocol::Udp, 53),
            port("http", PortProtocol::Tcp, 8080),
        ],
        host_network: false,
        has_finished: false,
        uid: "9f".to_owned(),
        node: Some("node-1".to_owned()),
        cluster: None,
    }
}

#[test]
fn a_pod_as_kubectl_prints_it_is_read() {
    assert_eq!(
        documents(PRINTED_POD),
        [Document {
            origin: origin(1, "Pod", Some("shop"), "web-5d9-x"),
            object: Object::Pod(printed_pod()),
            warnings: Vec::new(),
        }]
    );
}

#[test]
fn a_list_as_kubectl_prints_it_stands_for_its_items() {
    let pod = PRINTED_POD.trim().replace('\n', "\n  ");
    let text = format!(
        "apiVersion: v1\nitems:\n- {pod}\n- apiVersion: v1\n  kind: Namespace\n  metadata: {{name: shop, \
         labels: {{a: b}}}}\n  spec: {{finalizers: [kubernetes]}}\nkind: List\nmetadata: {{resourceVersion: \"\"}}\n"
    );
    let namespace = Namespace {
        name: "shop".to_owned(),
        labels: map(&[("a", "b")]),
    };
    assert_eq!(
        documents(&text)
            .into_iter()
            .map(|document| document.object)
            .collect::<Vec<_>>(),
        [Object::Pod(printed_pod()), Object::Namespace(namespace)]
    );
}

#[test]
fn faults_in_a_list_name_the_item() {
    let text =
        r#"{"apiVersion": "v1", "kind": "List", "items": [{"kind": "Nod"}, {"kind": "List"}]}"#;
    let found = parse_documents("file.yaml", text, &Settings::default()).expect_err("two faults");
    let fields: Vec<_> = found.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(fields, ["items[0].kind", "items[1]"]);
}

#[test]
fn a_pod_that_has_only_one_address_field_or_none_yet_is_read() {
    let addresses = |status: &str| {
        let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nstatus: {status}\n");
        match documents(&text).remove(0).object {
            Object::Pod(pod) => pod.addresses,
            other => panic!("not a pod: {other:?}"),
        }
    };
    let one: Vec<std::net::IpAddr> = vec!["10.1.0.1".parse().expect("an address")];
    assert_eq!(addresses("{podIP: 10.1.0.1}"), one);
    assert_eq!(
        addresses("{podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}, {ip: 10.1.0.1}]}"),
        one
    );
    for status in ["{podIP: ''}", "{phase: Pending}", "null"] {
        assert!(addresses(status).is_empty(), "{status}");
    }
}

#[test]
fn documents_are_numbered_and_named() {
    let policy = "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: all, \
                  creationTimestamp: null}\nspecs: [{endpointSelector: {}, ingress: [{}]}]\nstatus: {}\n";
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
    let found = documents(&format!("---\n{namespace}---\n{policy}"));
    assert_eq!(
        found
            .iter()
            .map(|document| document.origin.clone())
            .collect::<Vec<_>>(),
        [
            origin(1, "Namespace", None, "shop"),
            origin(2, "CiliumClusterwideNetworkPolicy", None, "all"),
        ]
    );
    assert_eq!(
        found[1].origin.to_string(),
        "CiliumClusterwideNetworkPolicy all"
    );
}

#[test]
fn json_is_read_as_yaml_is() {
    let json = r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}"#;
    assert_eq!(
        documents(json),
        documents("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n")
    );
}

#[test]
fn a_remark_in_a_policy_changes_nothing() {
    let plain = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: shop}\nspec:\n  \
                 endpointSelector: {}\n  ingress: [{}]\n";
    let remarked =
        format!("{plain}  description: why\n  labels: [{{key: a}}]\n  log: {{value: seen}}\n");
    assert_eq!(documents(plain), documents(&remarked));
}

#[test]
fn icmp_type_zero_is_type_zero_unless_the_reference_is_followed() {
    let text = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: shop}\nspec:\n  \
                endpointSelector: {}\n  ingress: [{icmps: [{fields: [{type: EchoReply}]}]}]\n";
    for (compat, ports) in [
        (Compat::Portcullis, Ports::Range(0, 0)),
        (Compat::Cilium, Ports::ALL),
    ] {
        let settings = Settings {
            compat,
            ..Settings::default()
        };
        let documents = parse_documents("file.yaml", text, &settings).expect("a valid file");
        let policy = documents[0].object.policy().expect("a policy");
        let ingress = policy.rules[0].ingress.as_ref().expect("ingress");
        let expected = Traffic::Of(vec![PortMatch {
            protocol: PortProtocol::Icmp,
            ports,
            inspection: None,
        }]);
        assert_eq!(ingress.items[0].traffic, expected);
    }
}
