//! Verdicts of connections, requests and queries.

use super::{are_public, cases, list, none_of, ran, text, world};
use portcullis_policy::{
    Compat, Decision, Direction, DnsVerdict, Generation, HttpRequest, HttpVerdict, Identity,
    IdentityAllocator, PolicyIndex, Proof, Protocol, Proxy, Settings, Tables, Verdict,
    compile_with_names,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The endpoints of a case, by name.
struct Endpoints {
    identities: BTreeMap<String, Identity>,
    policies: BTreeMap<String, PolicyIndex>,
    by_address: BTreeMap<IpAddr, Identity>,
    hosts: Vec<String>,
}

impl Endpoints {
    fn new(case: &Value, tables: &Tables) -> Self {
        let mut endpoints = Self {
            identities: BTreeMap::new(),
            policies: BTreeMap::new(),
            by_address: BTreeMap::new(),
            hosts: Vec::new(),
        };
        for endpoint in list(case, "endpoints") {
            let (id, namespace) = (text(endpoint, "id"), text(endpoint, "namespace"));
            let addresses = world::addresses(endpoint);
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
            if identity == Identity::HOST {
                endpoints.hosts.push(id.to_owned());
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

fn direction(name: &str) -> Direction {
    match name {
        "I" => Direction::Ingress,
        _ => Direction::Egress,
    }
}

/// How the vectors write a verdict.
fn word(verdict: Verdict) -> String {
    let proof = |proof| match proof {
        None => "",
        Some(Proof::Mutual) => "+auth",
        Some(Proof::Impossible) => "+fail",
    };
    match verdict.decision {
        Decision::Authenticate(asked) => format!("A{}", proof(Some(asked))),
        Decision::Redirect(proxy, asked) => {
            let proxy = match proxy {
                Proxy::Http => "Rh",
                Proxy::Dns => "Rd",
                Proxy::Tls => "Rt",
                Proxy::Listener => "Rl",
            };
            format!("{proxy}{}", proof(asked))
        }
        Decision::Conflict => "E".to_owned(),
        Decision::DenyRule => "D".to_owned(),
        Decision::DenyDefault => "N".to_owned(),
        _ => "A".to_owned(),
    }
}

/// What came of the cases.
#[derive(Default)]
struct Outcome {
    cases: usize,
    flows: usize,
    requests: usize,
    queries: usize,
    differences: Vec<String>,
}

struct Asked<'a> {
    case: &'a Value,
    tables: &'a Tables,
    endpoints: &'a Endpoints,
}

fn port(value: &Value) -> u16 {
    let port = value.as_u64().and_then(|port| u16::try_from(port).ok());
    port.expect("a port")
}

fn cell(row: &Value, place: usize) -> &str {
    row[place].as_str().expect("text")
}

impl Asked<'_> {
    /// The policy of an endpoint; None for this node while its firewall is off.
    fn policy(&self, name: &str) -> Option<PolicyIndex> {
        let found = self.endpoints.policies.get(name).copied();
        let is_host = self.endpoints.hosts.iter().any(|host| host == name);
        assert!(found.is_some() || is_host, "{name} has no policy");
        found
    }

    fn judge(&self, row: &Value, subject: &str, way: Direction, proto: &str, at: usize) -> String {
        let peer = self.endpoints.peer(cell(row, at - 2), self.tables);
        match self.policy(subject) {
            None => "A".to_owned(),
            Some(policy) => {
                word(
                    self.tables
                        .judge(policy, way, peer, protocol(proto), port(&row[at])),
                )
            }
        }
    }

    fn flow(&self, row: &Value) -> String {
        self.judge(row, cell(row, 1), direction(cell(row, 0)), cell(row, 3), 4)
    }

    fn request(&self, row: &Value) -> String {
        let peer = self.endpoints.peer(cell(row, 2), self.tables);
        let Some(policy) = self.policy(cell(row, 1)) else {
            return "A".to_owned();
        };
        let headers: Vec<(&str, &str)> = row[4]["headers"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.as_str(), value.as_str().expect("text")))
            .collect();
        let request = HttpRequest {
            method: text(&row[4], "method"),
            path: text(&row[4], "path"),
            host: text(&row[4], "host"),
            headers: &headers,
        };
        let way = direction(cell(row, 0));
        match self
            .tables
            .judge_http(policy, way, peer, port(&row[3]), &request)
        {
            HttpVerdict::Forward(_) => "A".to_owned(),
            HttpVerdict::Forbid => "403".to_owned(),
            HttpVerdict::NotAsked(verdict) => word(verdict),
        }
    }

    fn query(&self, row: &Value) -> String {
        let server = self.endpoints.peer(cell(row, 1), self.tables);
        let Some(policy) = self.policy(cell(row, 0)) else {
            return "A".to_owned();
        };
        let (kind, port) = (protocol(cell(row, 2)), port(&row[3]));
        match self
            .tables
            .judge_dns(policy, server, kind, port, cell(row, 4))
        {
            DnsVerdict::Forward(_) => "A".to_owned(),
            DnsVerdict::Refuse => "REFUSED".to_owned(),
            DnsVerdict::NotAsked(verdict) => match verdict.decision {
                Decision::Redirect(..) => "R".to_owned(),
                _ => word(verdict),
            },
        }
    }

    fn rows(&self, kind: &str, outcome: &mut Outcome, say: impl Fn(&Value) -> String) -> usize {
        let mut rows = 0;
        for (place, row) in list(self.case, kind).enumerate() {
            let said = say(row);
            let expected = row
                .as_array()
                .and_then(|row| row.last()?.as_str())
                .expect("a verdict");
            let contested = self.case["contested"][kind][place.to_string()].as_str();
            rows += 1;
            if said != expected && Some(said.as_str()) != contested {
                let name = text(self.case, "name");
                outcome
                    .differences
                    .push(format!("{name} {kind} {place} {row}: {said}"));
            }
        }
        rows
    }
}

fn run(case: &Value, settings: &Settings, outcome: &mut Outcome) {
    let documents = world::documents(case, settings);
    let mut identities = IdentityAllocator::new();
    let tables = compile_with_names(
        &documents,
        &world::facts(case),
        &world::names(case),
        settings,
        &mut identities,
        Generation(1),
    )
    .unwrap_or_else(|errors| panic!("{}: {errors:#?}", text(case, "name")));
    let endpoints = Endpoints::new(case, &tables);
    let asked = Asked {
        case,
        tables: &tables,
        endpoints: &endpoints,
    };
    outcome.cases += 1;
    outcome.flows += asked.rows("flows", outcome, |row| asked.flow(row));
    outcome.requests += asked.rows("http", outcome, |row| asked.request(row));
    outcome.queries += asked.rows("dnsQueries", outcome, |row| asked.query(row));
}

#[test]
fn tables_agree_with_the_reference_engine() {
    let Some(cases) = cases("policy") else { return };
    let mut outcome = Outcome::default();
    for case in &cases {
        run(case, &world::settings(case), &mut outcome);
    }
    let verdicts = format!(
        "{} cases: {} flows, {} requests, {} queries",
        outcome.cases, outcome.flows, outcome.requests, outcome.queries
    );
    ran("policy", &verdicts, &outcome.differences);
    none_of(&outcome.differences);
    // Held against the test itself: it must not become empty without anybody noticing.
    assert!(outcome.cases >= 1);
    if are_public() {
        let ran = (
            outcome.cases,
            outcome.flows,
            outcome.requests,
            outcome.queries,
        );
        assert!(ran >= (248, 34_082, 2113, 454), "only {ran:?}");
    }
}

/// Where ours differs from the reference engine on purpose, only in the direction we mean.
#[test]
fn our_own_reading_only_differs_where_it_is_meant_to() {
    const MEANT: &[&str] = &[
        "empty-ingress-list",
        "icmp-type-zero",
        "svc-missing-ports",
        "l7-conflict",
        "kcnp-baseline",
    ];
    let Some(cases) = cases("policy") else { return };
    let mut outcome = Outcome::default();
    let mut differing = std::collections::BTreeSet::new();
    for case in cases.iter().filter(|case| case["source"] == "handwritten") {
        let mut settings = world::settings(case);
        settings.compat = Compat::Portcullis;
        if text(case, "name") == "empty-ingress-list" {
            continue;
        }
        let before = outcome.differences.len();
        run(case, &settings, &mut outcome);
        if outcome.differences.len() > before {
            differing.insert(text(case, "name").to_owned());
        }
    }
    let unexpected: Vec<_> = differing
        .iter()
        .filter(|name| !MEANT.contains(&name.as_str()))
        .collect();
    assert!(
        unexpected.is_empty(),
        "{unexpected:?}\n{}",
        outcome.differences.join("\n")
    );
}
