//! The daemon comes, goes, is killed, and is given bad documents: never a leak, never an opening.

use netns_tests::manifests::{ALLOW_FRONTEND, DEFAULT_DENY};
use netns_tests::{Lab, Pod, Prober, eventually, is_echoed, throughout};
use std::thread;
use std::time::{Duration, Instant};

fn two_pods() -> Option<(Lab, Pod, Pod)> {
    let lab = Lab::new("")?;
    let api = lab.pod(
        "backend/api",
        &["app=backend"],
        &["10.0.1.10", "fd00:10:1::10"],
    );
    let web = lab.pod(
        "frontend/web",
        &["app=frontend"],
        &["10.0.1.11", "fd00:10:1::11"],
    );
    api.serve_pages();
    api.echo_by_udp(7);
    api.echo_by_tcp(7);
    Some((lab, api, web))
}

fn gets_page(pod: &Pod) -> bool {
    pod.fetch("http://10.0.1.10/").is_some()
}

#[test]
fn nothing_passes_before_the_daemon_runs() {
    let Some((lab, _api, web)) = two_pods() else {
        return;
    };
    assert!(!gets_page(&web));
    lab.start_daemon();
    assert!(gets_page(&web));
}

#[test]
fn a_killed_daemon_cuts_pods_off_and_a_new_one_resumes() {
    let Some((lab, _api, web)) = two_pods() else {
        return;
    };
    lab.start_daemon();
    let mut open = web
        .connect("10.0.1.10:7".parse().expect("an address"))
        .expect("all is open");
    // The peer repeats itself ever less often: give it time after the restart.
    open.set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a timeout");
    assert!(is_echoed(&mut open, b"before"));
    for address in ["10.0.1.10:7", "[fd00:10:1::10]:7"] {
        let prober = Prober::start(&web.place, address.parse().expect("an address"));
        let start = Instant::now();
        eventually("the prober hears answers", || {
            prober.answers_since(start) > 10
        });

        lab.kill_daemon();
        // What had been delivered before the end may still be on its way up the stack.
        thread::sleep(Duration::from_millis(50));
        let (dead, asked) = (Instant::now(), prober.sent());
        thread::sleep(Duration::from_secs(1));
        assert!(prober.sent() > asked + 50, "it keeps asking");
        assert_eq!(
            prober.answers_since(dead),
            0,
            "a packet passed without a daemon"
        );

        lab.start_daemon();
        let restarted = Instant::now();
        eventually("traffic resumes", || prober.answers_since(restarted) > 10);
    }
    assert!(gets_page(&web));
    assert!(
        is_echoed(&mut open, b"after"),
        "an established connection survives two crashes"
    );
}

#[test]
fn a_daemon_that_is_asked_to_stop_ends_with_success() {
    let Some((lab, _api, web)) = two_pods() else {
        return;
    };
    lab.start_daemon();
    assert!(gets_page(&web));
    assert!(lab.stop_daemon().success());
    assert!(!gets_page(&web), "a pod without a daemon is cut off");
    lab.start_daemon();
    assert!(gets_page(&web));
}

#[test]
fn a_restarted_daemon_polices_from_the_first_packet() {
    let Some((lab, _api, web)) = two_pods() else {
        return;
    };
    lab.apply("default-deny.yaml", DEFAULT_DENY);
    lab.start_daemon();
    let prober = Prober::start(&web.place, "10.0.1.10:7".parse().expect("an address"));
    let start = Instant::now();
    for _ in 0..3 {
        lab.kill_daemon();
        lab.start_daemon();
    }
    thread::sleep(Duration::from_millis(200));
    assert!(prober.sent() > 20);
    assert_eq!(
        prober.answers_since(start),
        0,
        "a packet slipped through a restart"
    );
}

#[test]
fn a_bad_document_leaves_the_old_state_in_force_and_is_named() {
    let Some((lab, _api, web)) = two_pods() else {
        return;
    };
    lab.apply("default-deny.yaml", DEFAULT_DENY);
    lab.start_daemon();
    assert!(!gets_page(&web));
    let generation = lab.status().generation();

    let typo = ALLOW_FRONTEND.replace("fromEndpoints", "fromEndpoint");
    lab.apply("typo.yaml", &typo);
    let errors = lab.status().errors();
    assert!(
        errors.iter().any(|error| error.contains("typo.yaml")),
        "{errors:?}"
    );
    assert!(
        errors.iter().any(|error| error.contains("fromEndpoint")),
        "{errors:?}"
    );
    // All of it or nothing: while one document is bad, no other change is taken either.
    lab.remove_in_vain("default-deny.yaml");
    throughout(Duration::from_secs(1), "the old tables stay", || {
        lab.status().generation() == generation
    });
    assert!(
        !gets_page(&web),
        "default deny holds while a document is bad"
    );

    lab.remove("typo.yaml");
    eventually("the good documents are in force", || gets_page(&web));
    assert_eq!(lab.status().errors(), Vec::<String>::new());
}

#[test]
fn a_thousand_policies_are_in_force_at_once() {
    let Some((lab, _api, web)) = two_pods() else {
        return;
    };
    let stranger = lab.pod("frontend/stranger", &["app=batch"], &["10.0.1.12"]);
    lab.start_daemon();
    let many: Vec<String> = (0..1000)
        .map(|number| {
            ALLOW_FRONTEND
                .replace("name: allow-frontend", &format!("name: allow-{number}"))
                .replace("app: frontend", &format!("app: frontend-{number}"))
                .replace("\"80\"", &format!("\"{}\"", 1000 + number))
        })
        .collect();
    let since = Instant::now();
    lab.apply("many.yaml", &many.join("\n---\n"));
    println!("1000 policies in force after {:?}", since.elapsed());
    assert!(!gets_page(&web), "none of them allows port 80");
    lab.apply("allow-frontend.yaml", ALLOW_FRONTEND);
    assert!(gets_page(&web) && !gets_page(&stranger));
    let policies = lab.status().json()["documents"]["policies"].as_u64();
    assert_eq!(policies, Some(1001));
}
