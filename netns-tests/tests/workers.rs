//! What workers owe to each pod: a turn, however much the others send; and another worker, should
//! one pod take all of this one.

use netns_tests::{Lab, Pod, SOCKET_FILE, Talk, echo_and_tell, eventually};
use serde_json::Value;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Requests while somebody floods.
const REQUESTS: usize = 200;
/// How many of them may be lost.
const LOST_MAX: usize = 10;

/// Datagrams as fast as one thread can, until dropped.
struct Flood {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    fn start(pod: &Pod, to: &'static str) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let until = is_over.clone();
        let thread = pod.place.thread(move || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            while !until.load(Relaxed) {
                // A full queue, or a host that nobody answers for, is no matter.
                let _ = socket.send_to(&[0x55; 22], to);
            }
        });
        Self {
            is_over,
            thread: Some(thread),
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed.
            let _ = thread.join();
        }
    }
}

/// Asks one after the other, and gives how many were answered and how long the slowest took.
fn ask(pod: &Pod, to: &'static str) -> (usize, Duration) {
    pod.place.call(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.connect(to).expect("an address");
        socket
            .set_read_timeout(Some(Duration::from_secs(1)))
            .expect("a timeout");
        let (mut answered, mut slowest) = (0, Duration::ZERO);
        for number in 0..REQUESTS {
            let question = (number as u64).to_ne_bytes();
            let since = Instant::now();
            let _ = socket.send(&question);
            let mut answer = [0; 16];
            // An answer that was given up may come late.
            while let Ok(length) = socket.recv(&mut answer) {
                if answer[..length] == question {
                    answered += 1;
                    slowest = slowest.max(since.elapsed());
                    break;
                }
            }
        }
        (answered, slowest)
    })
}

fn endpoint(lab: &Lab, name: &str) -> Value {
    let status = lab.status();
    let all = status.json()["endpoints"].as_array().cloned();
    let mut all = all.unwrap_or_default().into_iter();
    all.find(|endpoint| endpoint["name"] == name)
        .unwrap_or_else(|| panic!("no endpoint {name}"))
}

fn move_to(lab: &Lab, pod: &str, worker: u64) -> netns_tests::Ran {
    let worker = worker.to_string();
    lab.portcullis(&[
        "endpoint",
        "move",
        pod,
        "--worker",
        &worker,
        "--socket",
        SOCKET_FILE,
    ])
}

#[test]
fn a_pod_that_floods_does_not_keep_another_from_its_answers_and_is_named() {
    let Some(lab) = Lab::new("") else { return };
    let api = lab.pod("backend/api", &["app=backend"], &["10.0.1.10"]);
    let web = lab.pod("frontend/web", &["app=frontend"], &["10.0.1.11"]);
    let flooder = lab.pod("frontend/flooder", &["app=batch"], &["10.0.1.12"]);
    lab.start_daemon();
    api.echo_by_udp(7);
    assert_eq!(ask(&web, "10.0.1.10:7").0, REQUESTS, "at rest");
    // Nobody reads there, so the pod has no work with it but to drop it.
    let _sink = api
        .place
        .call(|| UdpSocket::bind("10.0.1.10:9"))
        .expect("the port is free");
    let flood = Flood::start(&flooder, "10.0.1.10:9");
    eventually("the flooder is named the hottest", || {
        let status = lab.status();
        let hottest = &status.json()["hottest"][0];
        hottest["name"] == "frontend/flooder"
            && hottest["worker_percent"]
                .as_f64()
                .is_some_and(|share| share > 50.0)
    });
    let before = lab.status();
    let (answered, slowest) = ask(&web, "10.0.1.10:7");
    let after = lab.status();
    drop(flood);
    let of = |counter| after.of_workers(counter) - before.of_workers(counter);
    println!(
        "{answered} of {REQUESTS} answered, the slowest after {slowest:?}; {} received, {} kicks in {} turns",
        of("received"),
        of("kicks"),
        of("turns")
    );
    assert!(answered >= REQUESTS - LOST_MAX, "{answered} of {REQUESTS}");
    // The kernel sends 32 pieces a call; a batch is 128. Two ways out are in use.
    assert!(of("kicks") <= of("received") / 32 + 2 * of("turns"));
    assert!(of("kicks") > 0);
}

#[test]
fn a_pod_moves_to_another_worker_and_back_and_its_connections_go_on() {
    let Some(lab) = Lab::new("workers: {count: 2}\n") else {
        return;
    };
    let api = lab.pod("backend/api", &["app=backend"], &["10.0.1.10"]);
    let web = lab.pod("frontend/web", &["app=frontend"], &["10.0.1.11"]);
    lab.start_daemon();
    let ended = echo_and_tell(&api.place, 7);
    let to: SocketAddr = "10.0.1.10:7".parse().expect("an address");
    let talk = Talk::start(&web.place, to, Duration::from_millis(5)).expect("it connects");
    for pod in ["frontend/web", "backend/api", "frontend/web"] {
        let from = endpoint(&lab, pod)["worker"].as_u64().expect("a worker");
        let ran = move_to(&lab, pod, 1 - from);
        assert!(ran.is_success, "{}", ran.stderr);
        let said = format!("moved {pod} from worker {from} to worker {}\n", 1 - from);
        assert_eq!(ran.stdout, said);
        assert_eq!(endpoint(&lab, pod)["worker"], 1 - from);
        assert_eq!(endpoint(&lab, pod)["state"], "ready");
        let before = talk.exchanges();
        eventually("the connection goes on", || talk.exchanges() > before + 20);
        assert!(web.can_ping("10.0.1.10"), "after {pod} moved");
    }
    assert!(talk.stop().is_none(), "the connection stands");
    drop(ended);
    eventually("memory is at rest", || lab.status().is_memory_at_rest());
    for (pod, worker, fault) in [
        (
            "frontend/nobody",
            0,
            "expected a pod of this node, NAMESPACE/NAME, found \"frontend/nobody\"",
        ),
        ("frontend/web", 2, "expected a worker from 0 to 1, found 2"),
    ] {
        let ran = move_to(&lab, pod, worker);
        assert!(!ran.is_success);
        assert_eq!(ran.stderr, format!("error: {fault}\n"));
    }
}

#[test]
fn a_pod_that_keeps_its_worker_from_another_is_moved_where_that_is_wanted() {
    let Some(lab) = Lab::new("workers: {count: 2, rehome: true}\n") else {
        return;
    };
    // Made at once, they go to workers in turns.
    let flooder = lab.pod("frontend/a-flooder", &["app=batch"], &["10.0.1.12"]);
    let _between = lab.pod("frontend/b-between", &["app=batch"], &["10.0.1.13"]);
    let web = lab.pod("frontend/c-web", &["app=frontend"], &["10.0.1.11"]);
    let _other = lab.pod("frontend/d-other", &["app=batch"], &["10.0.1.14"]);
    let sink = lab.pod("frontend/e-sink", &["app=batch"], &["10.0.1.15"]);
    lab.start_daemon();
    let worker = |pod: &str| endpoint(&lab, pod)["worker"].clone();
    let home = worker("frontend/a-flooder");
    assert_eq!(home, worker("frontend/c-web"));
    assert_eq!(home, worker("frontend/e-sink"));
    let _silent = sink
        .place
        .call(|| UdpSocket::bind("10.0.1.15:9"))
        .expect("the port is free");
    // Two of them, so that the worker is never done.
    let floods = [(); 2].map(|()| Flood::start(&flooder, "10.0.1.15:9"));
    let until = Instant::now() + Duration::from_secs(60);
    while worker("frontend/a-flooder") == home {
        let status = lab.status();
        assert!(Instant::now() < until, "{}", status.json()["hottest"]);
        let _ = web.run("ping -n -c 4 -i 0.2 -W 1 169.254.1.1");
    }
    assert_eq!(worker("frontend/c-web"), home);
    drop(floods);
}
