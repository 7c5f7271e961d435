//! Readers that stop reading: what they miss they are told, and nobody else notices.

use crate::client::{flow, lost, observer, within};
use netns_tests::manifests::DEFAULT_DENY;
use netns_tests::{Follower, Lab, Pod, eventually};
use portcullis_hubble::wire::flow::LostEventSource;
use portcullis_hubble::wire::observer::{GetFlowsRequest, GetFlowsResponse, ServerStatusRequest};
use serde_json::Value;
use std::env::{current_exe, var_os};
use std::net::UdpSocket;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tonic::Streaming;

/// How long a reader does not read.
const STALL: Duration = Duration::from_secs(10);
/// Denied packets that are sent meanwhile: each second five times what the history holds.
const PACKETS: u16 = 50_000;

/// A node with a short history, a pod whose every packet is denied, and how many were.
fn node() -> Option<(Lab, Pod, u64)> {
    let lab = Lab::new("observeHistory: 1000\n")?;
    let _api = lab.pod("backend/api", &["app=backend"], &["10.0.1.10"]);
    let stranger = lab.pod("frontend/stranger", &["app=batch"], &["10.0.1.12"]);
    lab.apply("policies.yaml", DEFAULT_DENY);
    lab.start_daemon();
    // Until the next hop has answered, the pod's kernel keeps a hundred packets and drops the rest.
    send_denied(&stranger, 1).join().expect("it is sent");
    eventually("the next hop is known", || denied(&lab) > 0);
    let before = denied(&lab);
    Some((lab, stranger, before))
}

fn denied(lab: &Lab) -> u64 {
    lab.status().dropped("policy_denied")
}

/// Sends packets: all in about the time that readers do not read.
fn send_denied(stranger: &Pod, packets: u16) -> JoinHandle<()> {
    stranger.place.thread(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        for packet in 0..packets {
            let sent = socket.send_to(b"?", ("10.0.1.10", 1 + packet % 1000));
            assert!(sent.is_ok(), "{sent:?}");
            if packet % 50 == 0 {
                thread::sleep(Duration::from_millis(10));
            }
        }
    })
}

/// That workers have lost neither packets nor records.
#[track_caller]
fn assert_workers_lost_nothing(lab: &Lab, denied_before: u64) {
    let status = lab.status();
    let denied = status.dropped("policy_denied") - denied_before;
    assert_eq!(denied, u64::from(PACKETS));
    assert_eq!(status.lost_before_the_rings(), 0);
    assert_eq!(status.json()["records"]["lost"].as_u64(), Some(0));
}

/// What came over a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Came {
    read: u64,
    lost: u64,
    written: u64,
}

impl Came {
    fn take(&mut self, answer: GetFlowsResponse) {
        if let Some(lost) = lost(&answer) {
            assert_eq!(lost.source(), LostEventSource::HubbleRingBuffer);
            self.lost += lost.num_events_lost;
        }
        // Each event ends with a drop or a trace; verdicts come before it.
        let is_last =
            flow(answer).is_some_and(|flow| flow.event_type.is_some_and(|kind| kind.r#type != 5));
        self.read += u64::from(is_last);
    }

    /// What `observe -o jsonpb --endings` printed, in the same form.
    fn of_lines(text: &str) -> Self {
        let mut came = Self::default();
        // The last line may not be whole yet.
        let lines = text.split_inclusive('\n');
        for line in lines.filter(|line| line.ends_with('\n')) {
            let answer: Value = serde_json::from_str(line).expect("one object a line");
            let lost = &answer["lost_events"];
            if lost.is_null() {
                let is_last = answer["flow"]["event_type"]["type"] != 5;
                came.read += u64::from(answer["flow"].is_object() && is_last);
                continue;
            }
            assert_eq!(lost["source"], "HUBBLE_RING_BUFFER", "{line}");
            let count = lost["num_events_lost"].as_str().expect("64 bits are text");
            came.lost += count.parse::<u64>().expect("a number");
        }
        came
    }

    /// That it was too slow, and that all that was written has been read or told as lost.
    #[track_caller]
    fn assert_exact(&self) {
        assert!(self.lost > 1000, "it was too slow: {self:?}");
        assert!(self.written >= u64::from(PACKETS), "{self:?}");
        assert_eq!(self.read + self.lost, self.written, "{self:?}");
        eprintln!("{self:?}");
    }
}

/// A stream of all of the past, and of all that comes.
async fn everything() -> Streaming<GetFlowsResponse> {
    let request = GetFlowsRequest {
        follow: true,
        since: Some(prost_types::Timestamp::default()),
        ..GetFlowsRequest::default()
    };
    let stream = observer().await.get_flows(request).await;
    stream.expect("a right request").into_inner()
}

/// Reads until the stream has told of all that was written, once nothing more is to be written.
async fn read(mut stream: Streaming<GetFlowsResponse>, is_done: impl Fn() -> bool) -> Came {
    let (mut came, mut left) = (Came::default(), 30);
    loop {
        match tokio::time::timeout(Duration::from_secs(1), stream.message()).await {
            Ok(answer) => {
                came.take(answer.unwrap().expect("a follower's stream does not end"));
            }
            Err(_quiet) if is_done() => {
                let status = observer().await.server_status(ServerStatusRequest {}).await;
                came.written = status.unwrap().into_inner().seen_flows;
                left -= 1;
                // Kernels announce themselves whenever they like: then there is more to come.
                if left == 0 || came.read + came.lost == came.written {
                    return came;
                }
            }
            Err(_quiet) => {}
        }
    }
}

#[test]
fn a_client_that_stops_reading_misses_exactly_what_it_is_told_and_costs_workers_nothing() {
    let Some((lab, stranger, before)) = node() else {
        return;
    };
    let denied = send_denied(&stranger, PACKETS);
    let came = within(&lab, || async {
        let stream = everything().await;
        let is_sent = tokio::task::spawn_blocking(|| denied.join());
        tokio::time::sleep(STALL).await;
        is_sent.await.expect("it is done").expect("all is sent");
        read(stream, || true).await
    });
    assert_workers_lost_nothing(&lab, before);
    came.assert_exact();
}

/// Set for the process of this test that reads the API. It says when it has begun, goes on until
/// there is a file with this name, and says what came.
const READER: &str = "PORTCULLIS_TEST_READS_UNTIL";

fn read_as_a_process(until: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let stream = everything().await;
        println!("it has begun");
        let came = read(stream, || until.exists()).await;
        println!("\n{}/{}/{}", came.read, came.lost, came.written);
    });
}

#[test]
fn a_process_that_is_stopped_for_ten_seconds_is_told_exactly_what_it_missed() {
    const NAME: &str =
        "stalled::a_process_that_is_stopped_for_ten_seconds_is_told_exactly_what_it_missed";
    const DONE: &str = "/run/done";
    if let Some(until) = var_os(READER) {
        return read_as_a_process(Path::new(&until));
    }
    let Some((lab, stranger, before)) = node() else {
        return;
    };
    let own = current_exe().expect("a name");
    let own = own.to_str().expect("the path is text");
    let (variable, test) = (format!("{READER}={DONE}"), ["--exact", NAME, "--nocapture"]);
    let words = [&["env", &variable, own][..], &test].concat();
    let mut client = Follower::start(&lab, "client", &words);
    let command = Follower::observe(&lab, "command", "--all --endings -o jsonpb");
    // The kernel of a pod announces itself as it comes up, and by policy may not.
    eventually("both read", || {
        client.text().contains("it has begun") && !command.text().is_empty()
    });
    command.stop();
    client.stop();
    let since = Instant::now();
    send_denied(&stranger, PACKETS).join().expect("all is sent");
    thread::sleep(STALL.saturating_sub(since.elapsed()));
    assert_workers_lost_nothing(&lab, before);
    let early = Came::of_lines(&command.text());
    assert!(early.read < 1000, "it was stopped: {early:?}");
    command.go_on();
    client.go_on();
    let mut came = Came::default();
    eventually("the command has told of all that was written", || {
        came = Came::of_lines(&command.text());
        let status = lab.status();
        came.written = status.json()["records"]["written"]
            .as_u64()
            .expect("a count");
        came.read + came.lost == came.written
    });
    came.assert_exact();
    lab.node.write(DONE, "");
    assert!(client.await_end().success(), "{}", client.text());
    let text = client.text();
    let mut counts = text.lines().filter_map(|line| {
        let counts: Result<Vec<u64>, _> = line.split('/').map(str::parse).collect();
        counts.ok()
    });
    let counts = counts
        .next()
        .unwrap_or_else(|| panic!("no counts in {text}"));
    let [read, lost, written] = counts[..] else {
        panic!("{text}");
    };
    Came {
        read,
        lost,
        written,
    }
    .assert_exact();
    assert_workers_lost_nothing(&lab, before);
}
