//! The daemon comes, goes, is killed, and is given bad documents: never a leak, never an opening.

use netns_tests::manifests::{ALLOW_FRONTEND, DEFAULT_DENY};
use netns_tests::{LOG_FILE, Lab, Pod, Prober, SOCKET_FILE, eventually, is_echoed, portcullis};
use std::fs;
use std::process::Command;
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

fn gets_nothing(pod: &Pod) -> bool {
    pod.gets_nothing("http://10.0.1.10/")
}

#[test]
fn nothing_passes_before_the_daemon_runs() {
    let Some((lab, _api, web)) = two_pods() else {
        return;
    };
    assert!(gets_nothing(&web));
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
        assert!(prober.sent() > asked + 10, "it keeps asking");
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
fn a_daemon_that_is_asked_to_stop_ends_in_order_and_cuts_its_pods_off() {
    let Some((lab, _api, web)) = two_pods() else {
        return;
    };
    lab.start_daemon();
    assert!(gets_page(&web));
    let follower = lab.node.thread({
        let words = [
            portcullis().to_str().expect("text").to_owned(),
            "observe".into(),
            "--follow".into(),
            "--socket".into(),
            SOCKET_FILE.into(),
        ];
        move || Command::new(&words[0]).args(&words[1..]).output()
    });
    let since = Instant::now();
    assert!(lab.stop_daemon().success());
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "it took {:?}",
        since.elapsed()
    );
    assert!(!lab.node.run("test -e /run/portcullis.sock").is_success);
    let log = lab.node.read(LOG_FILE);
    assert!(!log.contains("fault") && !log.contains("panicked"), "{log}");
    let followed = follower.join().expect("it does not panic");
    assert!(
        followed.is_ok(),
        "a reader that follows ends with the daemon"
    );
    assert!(gets_nothing(&web), "a pod without a daemon is cut off");
    lab.start_daemon();
    assert!(gets_page(&web));
}

#[test]
fn every_thread_of_the_daemon_has_four_capabilities_workers_one_more_and_none_can_get_others() {
    let Some((lab, ..)) = two_pods() else {
        return;
    };
    lab.start_daemon();
    // [capabilities(7): NET_ADMIN 12, NET_RAW 13, IPC_LOCK 14, SYS_NICE 23, BPF 39]
    let four = 1_u64 << 12 | 1 << 13 | 1 << 14 | 1 << 39;
    let five = four | 1 << 23;
    let expected = |own: u64| {
        let set = |bits: u64| format!("{bits:016x}");
        [
            ("CapInh", set(0)),
            ("CapPrm", set(own)),
            ("CapEff", set(own)),
            // What a thread may not have itself, no program gets that it starts. [no_new_privs]
            ("CapBnd", set(five)),
            ("CapAmb", set(0)),
            ("NoNewPrivs", "1".into()),
        ]
    };
    let tasks = format!("/proc/{}/task", lab.daemon_pid());
    let (mut threads, mut workers) = (0, 0);
    for task in fs::read_dir(tasks).expect("it runs") {
        let path = task.expect("a thread").path().join("status");
        let status = fs::read_to_string(&path).expect("its status");
        let is_worker = status.starts_with("Name:\tworker-");
        workers += usize::from(is_worker);
        let expected = expected(if is_worker { five } else { four });
        let found = expected.each_ref().map(|(key, _)| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            (
                *key,
                line.unwrap_or_default()
                    .trim_matches([':', '\t'])
                    .to_owned(),
            )
        });
        assert_eq!(found, expected, "{}", path.display());
        threads += 1;
    }
    assert!(threads > 3, "control, worker, observer and more: {threads}");
    assert!(workers > 0, "a worker");
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
    assert!(gets_nothing(&web));
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
    lab.remove("default-deny.yaml");
    assert_eq!(lab.status().generation(), generation, "the old tables stay");
    assert!(
        gets_nothing(&web),
        "default deny holds while a document is bad"
    );

    lab.remove("typo.yaml");
    assert!(gets_page(&web), "the good documents are in force");
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
    assert!(gets_nothing(&web), "none of them allows port 80");
    lab.apply("allow-frontend.yaml", ALLOW_FRONTEND);
    assert!(gets_page(&web) && gets_nothing(&stranger));
    let policies = lab.status().json()["documents"]["policies"].as_u64();
    assert_eq!(policies, Some(1001));
}
