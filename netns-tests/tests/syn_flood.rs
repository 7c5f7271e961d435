//! A flood of SYNs: it takes nothing from connections that stand, and little room.

use netns_tests::{Lab, Place, Pod, Talk, echo_and_tell, eventually};
use std::net::SocketAddr;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

/// Half-open entries that one endpoint may have. [`EngineSettings::half_open_per_endpoint_max`]
const HALF_OPEN_MAX: u64 = 4096;
/// Runs of which the median counts.
const ROUNDS: usize = 5;
const SERVER: &str = "10.0.1.10:7";

struct Cluster {
    lab: Lab,
    api: Pod,
    web: Pod,
    other: Pod,
    flooder: Pod,
}

/// Two clients, their server, and a pod that floods. The daemon runs, and all is open but port 81
/// of the backends.
fn cluster() -> Option<Cluster> {
    let lab = Lab::new("")?;
    let api = lab.pod("backend/api", &["app=backend"], &["10.0.1.10"]);
    let web = lab.pod("frontend/web", &["app=frontend"], &["10.0.1.11"]);
    let other = lab.pod("frontend/other", &["app=frontend"], &["10.0.1.12"]);
    let flooder = lab.pod("frontend/flooder", &["app=batch"], &["10.0.1.13"]);
    let deny = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata:\n  name: not-81\n  \
                namespace: backend\nspec:\n  endpointSelector: {}\n  ingress:\n  - fromEntities: \
                [all]\n  ingressDeny:\n  - fromEntities: [all]\n    toPorts:\n    - ports:\n      - \
                port: \"81\"\n        protocol: TCP\n";
    lab.apply("not-81.yaml", deny);
    lab.start_daemon();
    Some(Cluster {
        lab,
        api,
        web,
        other,
        flooder,
    })
}

/// SYNs until dropped.
struct Flood(Child);

impl Flood {
    fn start(place: &Place, words: &str) -> Self {
        let words = format!("hping3 --quiet --syn {words}");
        let words: Vec<&str> = words.split(' ').collect();
        // What it says at its end is about answers that it did not wait for.
        let (out, error) = (std::process::Stdio::null(), std::process::Stdio::null());
        Self(place.spawn_words(&words, out, error))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        // It may have ended by itself; the test sees that by what it counts.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn iperf3_serves(pod: &Pod) {
    pod.place.serve("iperf3 -s");
    eventually("iperf3 listens", || {
        pod.run("ss -Htln sport = :5201").stdout.contains(":5201")
    });
}

/// What iperf3 carries in a time, in Gbit/s.
fn iperf3(place: &Place, to: &str, seconds: u32) -> f64 {
    let ran = place.must(&format!("iperf3 -c {to} -t {seconds} -J"));
    let ran: serde_json::Value = serde_json::from_str(&ran).expect("iperf3 prints JSON");
    let bits = ran["end"]["sum_received"]["bits_per_second"].as_f64();
    bits.unwrap_or_else(|| panic!("a sum in {ran}")) / 1e9
}

fn assert_within_bounds(lab: &Lab) -> (u64, u64) {
    let status = lab.status();
    let (flows, half_open) = (
        status.of_workers("flows"),
        status.of_workers("flows_half_open"),
    );
    // The flooder pays for both ends; the others have few.
    assert!(half_open <= HALF_OPEN_MAX + 128, "{half_open} half-open");
    assert!(flows <= half_open + 4096, "{flows} flows");
    (flows, half_open)
}

#[test]
fn connections_survive_a_flood_of_syns_and_new_ones_come_about() {
    let Some(cluster) = cluster() else { return };
    let Cluster {
        lab,
        api,
        web,
        other,
        flooder,
    } = &cluster;
    let _ends = echo_and_tell(&api.place, 7);
    iperf3_serves(api);
    let server: SocketAddr = SERVER.parse().expect("an address");
    let talks: Vec<Talk> = (0..100)
        .map(|_| Talk::start(&web.place, server, Duration::from_millis(100)).expect("all is open"))
        .collect();
    // An open port, a closed one, one that is denied, a foreign source in each packet.
    for (words, name) in [
        ("-p 7 10.0.1.10", "an open port"),
        ("-p 9 10.0.1.10", "a closed port"),
        ("-p 81 10.0.1.10", "a denied port"),
        (
            "-p 7 --rand-source 10.0.1.10",
            "an open port by forged sources",
        ),
    ] {
        let before = lab.status();
        let exchanged: Vec<u64> = talks.iter().map(Talk::exchanges).collect();
        let flood = Flood::start(&flooder.place, &format!("--flood {words}"));
        let start = Instant::now();
        let bulk = thread::scope(|scope| {
            let bulk = scope.spawn(|| iperf3(&web.place, "10.0.1.10", 4));
            let mut fetched = 0;
            while !bulk.is_finished() {
                // The machine's own queues before the rings may lose a SYN, as any link may.
                let connect = || Talk::start(&other.place, server, Duration::from_millis(1));
                let new = (0..5).find_map(|_| connect().ok());
                let new = new.expect("a new connection comes about");
                eventually("it is answered", || new.exchanges() > 1);
                assert_eq!(new.stop(), None);
                fetched += 1;
                let _ = assert_within_bounds(lab);
                thread::sleep(Duration::from_millis(100));
            }
            assert!(fetched > 0);
            bulk.join().expect("the transfer goes through")
        });
        let (flows, half_open) = assert_within_bounds(lab);
        let seconds = start.elapsed().as_secs_f64();
        drop(flood);
        let after = lab.status();
        let grown = |counter| after.of_workers(counter) - before.of_workers(counter);
        let spoofed =
            after.dropped("source_address_spoofed") - before.dropped("source_address_spoofed");
        println!(
            "{name}: {bulk:.2} Gbit/s beside it, {:.0} frames a second received, {:.0} lost before \
             the rings, {flows} flows, {half_open} half-open, {} evicted, {spoofed} spoofed",
            grown("received") as f64 / seconds,
            (after.lost_before_the_rings() - before.lost_before_the_rings()) as f64 / seconds,
            grown("half_open_evicted"),
        );
        for (talk, before) in talks.iter().zip(exchanged) {
            eventually("each connection goes on", || talk.exchanges() > before + 3);
        }
        match name {
            "an open port by forged sources" => assert!(spoofed > 1000, "{spoofed}"),
            "a denied port" => {
                let denied = after.dropped("policy_denied_by_rule");
                assert!(denied > 1000, "{denied}");
            }
            _ => assert!(spoofed < 10, "{spoofed}"),
        }
    }
    for talk in talks {
        assert_eq!(talk.stop(), None, "no connection breaks");
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn a_flood_costs_others_no_more_for_the_table_it_fills() {
    let Some(cluster) = cluster() else { return };
    let Cluster {
        lab,
        api,
        web,
        flooder,
        ..
    } = &cluster;
    iperf3_serves(api);
    // The same packets to the same closed port of a pod that has no part in the transfer; but from
    // one port they are one flow, and from all ports each begins another. Denied ones begin none.
    let victim = lab.pod("backend/victim", &["app=backend"], &["10.0.1.14"]);
    // It does not answer: an answer would be work that is not the table's.
    victim.place.must("ip route replace blackhole 10.0.1.13/32");
    let kinds = [
        ("no flood", None),
        ("denied", Some("-p 81 10.0.1.14")),
        ("one flow", Some("-p 9 -s 5555 --keep 10.0.1.14")),
        ("a flow each", Some("-p 9 10.0.1.14")),
    ];
    let mut bulk = kinds.map(|_| Vec::new());
    let mut rates = kinds.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (number, (_, words)) in kinds.iter().enumerate() {
            let flood =
                words.map(|words| Flood::start(&flooder.place, &format!("--flood {words}")));
            thread::sleep(Duration::from_millis(200));
            let (before, start) = (rx_packets(lab, flooder), Instant::now());
            bulk[number].push(iperf3(&web.place, "10.0.1.10", 2));
            let sent = rx_packets(lab, flooder) - before;
            rates[number].push(sent as f64 / start.elapsed().as_secs_f64());
            drop(flood);
        }
    }
    let bulk = bulk.map(median);
    let rates = rates.map(median);
    for (((name, _), bulk), rate) in kinds.iter().zip(bulk).zip(rates) {
        println!("{name}: {bulk:.2} Gbit/s, beside {rate:.0} SYNs a second");
    }
    let [_, denied, one, each] = bulk;
    println!(
        "for the table: {:+.1} % against one flow, {:+.1} % against denied",
        100.0 * (each / one - 1.0),
        100.0 * (each / denied - 1.0)
    );
    // Far from the target of 5 %: on a machine that others use too, time decides no test.
    assert!(each > one / 10.0, "{bulk:?}");
}

/// Packets that a pod has sent.
fn rx_packets(lab: &Lab, pod: &Pod) -> u64 {
    let path = format!("/sys/class/net/{}/statistics/rx_packets", pod.interface);
    lab.node.read(&path).trim().parse().expect("a number")
}
