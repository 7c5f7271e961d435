//! The zero-trust tutorial on real interfaces: open, shut, opened for one, over both families.

use netns_tests::manifests::{ALLOW_FRONTEND, DEFAULT_DENY, NAMESPACES};
use netns_tests::{Lab, Pod, is_echoed};
use std::net::SocketAddr;
use std::thread;

const HOSTS: [&str; 2] = ["10.0.1.10", "[fd00:10:1::10]"];
const ADDRESSES: [&str; 2] = ["10.0.1.10", "fd00:10:1::10"];

struct Cluster {
    lab: Lab,
    api: Pod,
    web: Pod,
    stranger: Pod,
}

/// A backend with two servers, a frontend with the right label, and one without. The daemon runs.
fn cluster(settings: &str) -> Option<Cluster> {
    let lab = Lab::new(settings)?;
    lab.apply("namespaces.yaml", NAMESPACES);
    let api = lab.pod("backend/api", &["app=backend"], &ADDRESSES);
    let web = lab.pod(
        "frontend/web",
        &["app=frontend"],
        &["10.0.1.11", "fd00:10:1::11"],
    );
    let stranger = lab.pod(
        "frontend/stranger",
        &["app=batch"],
        &["10.0.1.12", "fd00:10:1::12"],
    );
    api.serve_pages();
    api.serve_pages_on(81);
    api.echo_by_udp(7);
    api.echo_by_tcp(7);
    lab.start_daemon();
    Some(Cluster {
        lab,
        api,
        web,
        stranger,
    })
}

fn page() -> Option<String> {
    Some("page of backend/api\n".into())
}

fn echo(host: &str) -> SocketAddr {
    format!("{host}:7").parse().expect("an address")
}

/// That of page, other port, ping and UDP a pod reaches exactly these, in both families.
#[track_caller]
fn assert_reach(pod: &Pod, expected: [[bool; 4]; 2]) {
    // All at once: what is shut shows by waiting for it.
    let found = thread::scope(|scope| {
        let probes = [0, 1].map(|family| {
            let host = HOSTS[family];
            let [page, other, ping, udp] = expected[family];
            [
                scope.spawn(move || is_page_as_expected(pod, &format!("http://{host}/"), page)),
                scope.spawn(move || is_page_as_expected(pod, &format!("http://{host}:81/"), other)),
                scope.spawn(move || match ping {
                    true => pod.can_ping(ADDRESSES[family]),
                    false => pod.cannot_ping(ADDRESSES[family]),
                }),
                scope.spawn(move || match udp {
                    true => pod.ask_by_udp(echo(host), b"hello").is_some(),
                    false => pod.gets_no_answer(echo(host), b"hello"),
                }),
            ]
        });
        probes.map(|family| family.map(|probe| probe.join().expect("a probe does not panic")))
    });
    assert_eq!(
        found,
        [[true; 4]; 2],
        "page, other port, ping, UDP of {}, IPv4 and IPv6: whether as expected, {expected:?}",
        pod.key()
    );
}

fn is_page_as_expected(pod: &Pod, url: &str, is_expected: bool) -> bool {
    if is_expected {
        pod.fetch(url) == page()
    } else {
        pod.gets_nothing(url)
    }
}

const ALL: [[bool; 4]; 2] = [[true; 4]; 2];
const NOTHING: [[bool; 4]; 2] = [[false; 4]; 2];
const PAGE_ONLY: [[bool; 4]; 2] = [[true, false, false, false]; 2];

#[test]
fn without_policy_everything_is_reachable() {
    let Some(cluster) = cluster("") else { return };
    assert_reach(&cluster.web, ALL);
    assert_reach(&cluster.stranger, ALL);
    assert_eq!(cluster.lab.status().errors(), Vec::<String>::new());
}

#[test]
fn default_deny_shuts_the_backend() {
    let Some(cluster) = cluster("") else { return };
    cluster.lab.apply("default-deny.yaml", DEFAULT_DENY);
    assert_reach(&cluster.web, NOTHING);
    assert_reach(&cluster.stranger, NOTHING);
    let dropped = cluster.lab.observe("--verdict DROPPED --pod backend/api");
    assert!(
        dropped.contains("default-deny") && dropped.contains("frontend/web"),
        "{dropped}"
    );
    assert!(cluster.lab.status().dropped("policy_denied") > 0);
    // What the backend asks for itself, and the answers to it, are not its ingress.
    cluster.web.echo_by_udp(7);
    let web = "10.0.1.11:7".parse().expect("an address");
    assert_eq!(cluster.api.ask_by_udp(web, b"out"), Some(b"out".to_vec()));
}

#[test]
fn the_frontend_alone_gets_the_page_and_nothing_else() {
    let Some(cluster) = cluster("") else { return };
    cluster.lab.apply("default-deny.yaml", DEFAULT_DENY);
    cluster.lab.apply("allow-frontend.yaml", ALLOW_FRONTEND);
    assert_reach(&cluster.web, PAGE_ONLY);
    assert_reach(&cluster.stranger, NOTHING);
    let forwarded = cluster
        .lab
        .observe("--verdict FORWARDED --pod frontend/web");
    assert!(forwarded.contains("allow-frontend"), "{forwarded}");
    let dropped = cluster
        .lab
        .observe("--verdict DROPPED --pod frontend/stranger");
    assert!(dropped.contains("default-deny"), "{dropped}");
    for line in cluster.lab.observe("-o json").lines() {
        let flow: serde_json::Value = serde_json::from_str(line).expect("one object a line");
        assert!(
            flow["verdict"] == "FORWARDED" || flow["verdict"] == "DROPPED",
            "{flow}"
        );
    }
}

#[test]
fn a_policy_that_goes_closes_new_and_established_connections() {
    let Some(cluster) = cluster("") else { return };
    let allow_echo = ALLOW_FRONTEND.replace("\"80\"", "\"7\"");
    cluster.lab.apply("default-deny.yaml", DEFAULT_DENY);
    cluster.lab.apply("allow-frontend.yaml", &allow_echo);
    let mut open = HOSTS.map(|host| cluster.web.connect(echo(host)).expect("it is allowed"));
    for stream in &mut open {
        assert!(is_echoed(stream, b"before"));
    }
    cluster.lab.remove("allow-frontend.yaml");
    for (stream, host) in open.iter_mut().zip(HOSTS) {
        assert!(
            !is_echoed(stream, b"after"),
            "an established connection goes on: {host}"
        );
        assert!(
            cluster.web.cannot_connect(echo(host)),
            "a new one is made: {host}"
        );
    }
}

#[test]
fn a_policy_that_goes_opens_what_it_shut() {
    let Some(cluster) = cluster("") else { return };
    cluster.lab.apply("default-deny.yaml", DEFAULT_DENY);
    assert_reach(&cluster.stranger, NOTHING);
    cluster.lab.remove("default-deny.yaml");
    assert_reach(&cluster.stranger, ALL);
}

#[test]
fn a_new_policy_leaves_allowed_connections_alone() {
    let Some(cluster) = cluster("") else { return };
    let mut open = HOSTS.map(|host| cluster.web.connect(echo(host)).expect("all is open"));
    for stream in &mut open {
        assert!(is_echoed(stream, b"before"));
    }
    let both = format!(
        "{DEFAULT_DENY}\n---\n{}",
        ALLOW_FRONTEND.replace("\"80\"", "\"7\"")
    );
    cluster.lab.apply("policies.yaml", &both);
    for stream in &mut open {
        assert!(is_echoed(stream, b"after"), "the connection goes on");
    }
}

#[test]
fn the_tutorial_holds_in_native_mode() {
    let Some(cluster) = cluster("xdpMode: native\n") else {
        return;
    };
    assert_reach(&cluster.web, ALL);
    cluster.lab.apply("default-deny.yaml", DEFAULT_DENY);
    cluster.lab.apply("allow-frontend.yaml", ALLOW_FRONTEND);
    assert_reach(&cluster.web, PAGE_ONLY);
    assert_reach(&cluster.stranger, NOTHING);
}

#[test]
fn the_tutorial_holds_with_two_workers() {
    let Some(cluster) = cluster("workers: {count: 2}\n") else {
        return;
    };
    cluster.lab.apply("default-deny.yaml", DEFAULT_DENY);
    cluster.lab.apply("allow-frontend.yaml", ALLOW_FRONTEND);
    assert_reach(&cluster.web, PAGE_ONLY);
    assert_reach(&cluster.stranger, NOTHING);
}
