//! The kinds of our own as CustomResourceDefinitions: the shape of what the reader takes.
//!
//! A test asks the reader for its fields at every place of these shapes, so that both stay the
//! same.

use serde_json::{Map, Value, json};

/// What stands in a place.
#[derive(Debug, Clone, Copy)]
enum Form {
    Text,
    /// A text that is one of these.
    Choice(&'static [&'static str]),
    Whole(i64, i64),
    Truth,
    /// A number or a name.
    NumberOrText,
    /// Strings by name.
    Texts,
    /// Whatever it is.
    Anything,
    Object(&'static Shape),
    List(&'static Form),
}

/// The fields of an object, and which of them must be there.
#[derive(Debug)]
struct Shape {
    fields: &'static [(&'static str, Form)],
    required: &'static [&'static str],
}

const fn object(
    fields: &'static [(&'static str, Form)],
    required: &'static [&'static str],
) -> Shape {
    Shape { fields, required }
}

use Form::{Anything, Choice, List, NumberOrText, Object, Text, Texts, Truth, Whole};

const EXPRESSION: Shape = object(
    &[
        ("key", Text),
        (
            "operator",
            Choice(&["In", "NotIn", "Exists", "DoesNotExist"]),
        ),
        ("values", List(&Text)),
    ],
    &["key", "operator"],
);
const SELECTOR: Shape = object(
    &[
        ("matchLabels", Texts),
        ("matchExpressions", List(&Object(&EXPRESSION))),
    ],
    &[],
);
const CIDR_SET: Shape = object(
    &[
        ("cidr", Text),
        ("cidrGroupRef", Text),
        ("cidrGroupSelector", Object(&SELECTOR)),
        ("except", List(&Text)),
    ],
    &[],
);
const NAME: Shape = object(&[("matchName", Text), ("matchPattern", Text)], &[]);
const NAMED_SERVICE: Shape = object(
    &[("serviceName", Text), ("namespace", Text)],
    &["serviceName"],
);
const LABELLED_SERVICE: Shape = object(
    &[("selector", Object(&SELECTOR)), ("namespace", Text)],
    &["selector"],
);
const SERVICE: Shape = object(
    &[
        ("k8sService", Object(&NAMED_SERVICE)),
        ("k8sServiceSelector", Object(&LABELLED_SERVICE)),
    ],
    &[],
);
const PORT: Shape = object(
    &[
        ("port", Text),
        ("endPort", Whole(0, 65535)),
        ("protocol", Choice(&["TCP", "UDP", "SCTP", "ANY"])),
    ],
    &["port"],
);
const SECRET: Shape = object(&[("namespace", Text), ("name", Text)], &["name"]);
const HEADER: Shape = object(
    &[
        ("name", Text),
        ("value", Text),
        ("secret", Object(&SECRET)),
        ("mismatch", Choice(&["LOG", "ADD", "DELETE", "REPLACE"])),
    ],
    &["name"],
);
const HTTP: Shape = object(
    &[
        ("path", Text),
        ("method", Text),
        ("host", Text),
        ("headers", List(&Text)),
        ("headerMatches", List(&Object(&HEADER))),
    ],
    &[],
);
const RULES: Shape = object(
    &[
        ("http", List(&Object(&HTTP))),
        ("dns", List(&Object(&NAME))),
    ],
    &[],
);
const TLS: Shape = object(
    &[
        ("secret", Object(&SECRET)),
        ("trustedCA", Text),
        ("certificate", Text),
        ("privateKey", Text),
    ],
    &["secret"],
);
const ENVOY_CONFIG: Shape = object(
    &[
        (
            "kind",
            Choice(&["CiliumEnvoyConfig", "CiliumClusterwideEnvoyConfig"]),
        ),
        ("name", Text),
    ],
    &["name"],
);
const LISTENER: Shape = object(
    &[
        ("envoyConfig", Object(&ENVOY_CONFIG)),
        ("name", Text),
        ("priority", Whole(1, 100)),
    ],
    &["envoyConfig", "name"],
);
const TO_PORTS: Shape = object(
    &[
        ("ports", List(&Object(&PORT))),
        ("rules", Object(&RULES)),
        ("listener", Object(&LISTENER)),
        ("terminatingTLS", Object(&TLS)),
        ("originatingTLS", Object(&TLS)),
        ("serverNames", List(&Text)),
    ],
    &[],
);
const ICMP: Shape = object(
    &[
        ("family", Choice(&["IPv4", "IPv6"])),
        ("type", NumberOrText),
    ],
    &["type"],
);
const ICMPS: Shape = object(&[("fields", List(&Object(&ICMP)))], &[]);
const AUTHENTICATION: Shape = object(
    &[(
        "mode",
        Choice(&["disabled", "required", "test-always-fail"]),
    )],
    &["mode"],
);
const INGRESS: Shape = object(
    &[
        ("fromEndpoints", List(&Object(&SELECTOR))),
        ("fromRequires", List(&Anything)),
        ("fromCIDR", List(&Text)),
        ("fromCIDRSet", List(&Object(&CIDR_SET))),
        ("fromEntities", List(&Text)),
        ("fromNodes", List(&Object(&SELECTOR))),
        ("fromGroups", List(&Anything)),
        ("toPorts", List(&Object(&TO_PORTS))),
        ("icmps", List(&Object(&ICMPS))),
        ("authentication", Object(&AUTHENTICATION)),
    ],
    &[],
);
const EGRESS: Shape = object(
    &[
        ("toEndpoints", List(&Object(&SELECTOR))),
        ("toRequires", List(&Anything)),
        ("toCIDR", List(&Text)),
        ("toCIDRSet", List(&Object(&CIDR_SET))),
        ("toEntities", List(&Text)),
        ("toNodes", List(&Object(&SELECTOR))),
        ("toGroups", List(&Anything)),
        ("toServices", List(&Object(&SERVICE))),
        ("toFQDNs", List(&Object(&NAME))),
        ("toPorts", List(&Object(&TO_PORTS))),
        ("icmps", List(&Object(&ICMPS))),
        ("authentication", Object(&AUTHENTICATION)),
    ],
    &[],
);
/// Of a deny section; what is refused in one says why, so it is in its shape.
const DEFAULT_DENY: Shape = object(&[("ingress", Truth), ("egress", Truth)], &[]);
const LOG: Shape = object(&[("value", Text)], &[]);
const SPEC: Shape = object(
    &[
        ("endpointSelector", Object(&SELECTOR)),
        ("nodeSelector", Object(&SELECTOR)),
        ("ingress", List(&Object(&INGRESS))),
        ("ingressDeny", List(&Anything)),
        ("egress", List(&Object(&EGRESS))),
        ("egressDeny", List(&Anything)),
        ("enableDefaultDeny", Object(&DEFAULT_DENY)),
        ("labels", List(&Anything)),
        ("description", Text),
        ("log", Object(&LOG)),
    ],
    &[],
);
const POLICY: Shape = object(
    &[
        ("spec", Object(&SPEC)),
        ("specs", List(&Object(&SPEC))),
        ("status", Anything),
    ],
    &[],
);
const EGRESS_SUBJECT: Shape = object(
    &[
        ("podSelector", Object(&SELECTOR)),
        ("namespaceSelector", Object(&SELECTOR)),
        ("nodeSelector", Object(&SELECTOR)),
    ],
    &[],
);
const GATEWAY: Shape = object(
    &[
        ("nodeSelector", Object(&SELECTOR)),
        ("interface", Text),
        ("egressIP", Text),
    ],
    &["nodeSelector"],
);
const GATEWAY_SPEC: Shape = object(
    &[
        ("selectors", List(&Object(&EGRESS_SUBJECT))),
        ("destinationCIDRs", List(&Text)),
        ("excludedCIDRs", List(&Text)),
        ("egressGateway", Object(&GATEWAY)),
        ("egressGateways", List(&Object(&GATEWAY))),
    ],
    &["selectors", "destinationCIDRs"],
);
const GATEWAY_POLICY: Shape = object(
    &[("spec", Object(&GATEWAY_SPEC)), ("status", Anything)],
    &["spec"],
);
const GROUP_SPEC: Shape = object(&[("externalCIDRs", List(&Text))], &["externalCIDRs"]);
const GROUP: Shape = object(&[("spec", Object(&GROUP_SPEC))], &["spec"]);

/// A kind, its plural, whether it belongs to a namespace, and its shape.
const KINDS: &[(&str, &str, bool, &Shape)] = &[
    (
        "CiliumNetworkPolicy",
        "ciliumnetworkpolicies",
        true,
        &POLICY,
    ),
    (
        "CiliumClusterwideNetworkPolicy",
        "ciliumclusterwidenetworkpolicies",
        false,
        &POLICY,
    ),
    (
        "CiliumEgressGatewayPolicy",
        "ciliumegressgatewaypolicies",
        false,
        &GATEWAY_POLICY,
    ),
    ("CiliumCIDRGroup", "ciliumcidrgroups", false, &GROUP),
];

/// The kinds of `cilium.io/v2` that we read, each as a CustomResourceDefinition.
///
/// [Kubernetes, `apiextensions.k8s.io/v1`]
#[must_use]
pub fn custom_resource_definitions() -> Vec<Value> {
    KINDS
        .iter()
        .map(|(kind, plural, is_namespaced, shape)| {
            json!({
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": format!("{plural}.cilium.io")},
                "spec": {
                    "group": "cilium.io",
                    "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                    "scope": if *is_namespaced { "Namespaced" } else { "Cluster" },
                    "versions": [{
                        "name": "v2",
                        "served": true,
                        "storage": true,
                        "schema": {"openAPIV3Schema": schema(&Object(shape))},
                    }],
                },
            })
        })
        .collect()
}

/// [OpenAPI v3, structural schema]
fn schema(form: &Form) -> Value {
    match form {
        Text => json!({"type": "string"}),
        Choice(words) => json!({"type": "string", "enum": words}),
        Whole(low, high) => json!({"type": "integer", "minimum": low, "maximum": high}),
        Truth => json!({"type": "boolean"}),
        NumberOrText => json!({"x-kubernetes-int-or-string": true}),
        Texts => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        Anything => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        List(of) => json!({"type": "array", "items": schema(of)}),
        Object(shape) => {
            let fields = shape.fields.iter();
            let properties: Map<String, Value> = fields
                .map(|(name, form)| ((*name).to_owned(), schema(form)))
                .collect();
            let mut schema = json!({"type": "object", "properties": properties});
            if !shape.required.is_empty() {
                schema["required"] = json!(shape.required);
            }
            schema
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Settings, parse_documents};

    /// The least that can stand in a place.
    fn least(form: &Form) -> Value {
        match form {
            Text => json!("a"),
            Choice(words) => json!(words[0]),
            Whole(low, _) => json!(low),
            Truth => json!(true),
            NumberOrText => json!(8),
            Texts | Anything => json!({}),
            List(_) => json!([]),
            Object(shape) => {
                let field = |name: &&str| shape.fields.iter().find(|field| field.0 == *name);
                let required = shape.required.iter().filter_map(field);
                let fields = required.map(|(name, form)| ((*name).to_owned(), least(form)));
                Value::Object(fields.collect())
            }
        }
    }

    /// A document with an unknown field in every object on the way to a shape, and those fields
    /// that the reader says it knows there.
    fn told(kind: &str, way: &[(&'static str, bool)], root: &'static Shape) -> Vec<String> {
        let mut document = with_stranger(root, way);
        document["apiVersion"] = json!("cilium.io/v2");
        document["kind"] = json!(kind);
        document["metadata"] = json!({"name": "a", "namespace": "b"});
        if kind != "CiliumNetworkPolicy" {
            document["metadata"] = json!({"name": "a"});
        }
        let settings = Settings {
            has_node_selectors: true,
            ..Settings::default()
        };
        let errors = parse_documents("a.yaml", &document.to_string(), &settings);
        let mut path = String::new();
        for (name, is_list) in way {
            let joint = if path.is_empty() { "" } else { "." };
            path = format!("{path}{joint}{name}{}", if *is_list { "[0]" } else { "" });
        }
        let joint = if path.is_empty() { "" } else { "." };
        let field = format!("{path}{joint}{STRANGER}");
        let errors = errors.expect_err("there is a field that nobody knows");
        let error = errors.iter().find(|error| error.field == field);
        let error = error.unwrap_or_else(|| panic!("{kind} {field}: {errors:#?}\n{document}"));
        let (_, list) = error.expected.split_once("(it has ").expect("the fields");
        let names = list.trim_end_matches(')').split(", ");
        names.map(str::to_owned).collect()
    }

    const STRANGER: &str = "qqqqqqqqqqqqqqqqqqqq";

    fn with_stranger(shape: &'static Shape, way: &[(&'static str, bool)]) -> Value {
        let mut value = least(&Object(shape));
        let Some(((name, is_list), rest)) = way.split_first() else {
            value[STRANGER] = json!(1);
            return value;
        };
        if shape
            .fields
            .iter()
            .any(|(name, _)| *name == "endpointSelector")
        {
            let other = if *name == "nodeSelector" {
                "log"
            } else {
                "endpointSelector"
            };
            value[other] = json!({});
            value["ingress"] = json!([{}]);
        }
        if *name == "nodeSelector" && shape.fields.iter().any(|(name, _)| *name == "podSelector") {
            value["podSelector"] = json!({});
        }
        let form = shape
            .fields
            .iter()
            .find(|field| field.0 == *name)
            .expect("a field")
            .1;
        let (Object(inner) | List(&Object(inner))) = form else {
            panic!("no object in {name}");
        };
        let inner = with_stranger(inner, rest);
        value[*name] = if *is_list { json!([inner]) } else { inner };
        value
    }

    fn check(
        kind: &str,
        root: &'static Shape,
        shape: &'static Shape,
        way: &mut Vec<(&'static str, bool)>,
    ) -> usize {
        let mut names: Vec<String> = shape
            .fields
            .iter()
            .map(|field| field.0.to_owned())
            .collect();
        if way.is_empty() {
            names.extend(["apiVersion", "kind", "metadata"].map(str::to_owned));
        }
        let mut told = told(kind, way, root);
        names.sort();
        told.sort();
        assert_eq!(told, names, "{kind} {way:?}");
        let mut checked = 1;
        for (name, form) in shape.fields {
            let is_list = matches!(form, List(_));
            if let Object(inner) | List(&Object(inner)) = *form {
                // Only clusterwide policies have one.
                if kind == "CiliumNetworkPolicy" && *name == "nodeSelector" {
                    continue;
                }
                way.push((name, is_list));
                checked += check(kind, root, inner, way);
                way.pop();
            }
        }
        checked
    }

    #[test]
    fn the_shapes_have_the_fields_that_the_reader_reads() {
        let mut checked = 0;
        for (kind, _, _, shape) in KINDS {
            checked += check(kind, shape, shape, &mut Vec::new());
        }
        assert!(checked > 150, "only {checked} places");
    }

    #[test]
    fn definitions_are_structural() {
        let definitions = custom_resource_definitions();
        assert_eq!(definitions.len(), KINDS.len());
        let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
        let policy = definitions[0].pointer(spec).expect("a spec");
        assert_eq!(
            policy["enableDefaultDeny"]["properties"]["ingress"]["type"],
            "boolean"
        );
        assert_eq!(
            policy["ingress"]["items"]["properties"]["toPorts"]["type"],
            "array"
        );
    }
}
