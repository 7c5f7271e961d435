//! Bounds of memory: who reaches his own is refused and counted, and others do not notice.

use netns_tests::{Lab, Pod, WORLD_ADDRESSES, echo_by_udp, eventually};
use std::net::{SocketAddr, UdpSocket};

/// Of 1024 flows a pod may have a quarter.
const SHARE: usize = 256;

/// Sends one datagram of each of many sockets, and keeps them.
fn open_flows(pod: &Pod, to: SocketAddr, count: usize) -> Vec<UdpSocket> {
    pod.place.call(move || {
        let sockets = (0..count).map(|_| {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            socket.send_to(b"one", to).expect("sent");
            // No faster than an idle interface has memory for.
            std::thread::sleep(std::time::Duration::from_micros(200));
            socket
        });
        sockets.collect()
    })
}

#[test]
fn a_pod_that_fills_its_share_of_flows_stops_no_other() {
    let Some(lab) = Lab::new("flowsMax: 1024\n") else {
        return;
    };
    let greedy = lab.pod("frontend/greedy", &["app=batch"], &["10.0.1.13"]);
    let web = lab.pod("frontend/web", &["app=frontend"], &["10.0.1.11"]);
    let api = lab.pod("backend/api", &["app=backend"], &["10.0.1.10"]);
    lab.start_daemon();
    for pod in [&greedy, &web] {
        eventually("the neighbour is known", || {
            pod.can_ping(WORLD_ADDRESSES[0])
        });
    }
    echo_by_udp(&lab.world, 7);
    api.echo_by_udp(7);
    let world: SocketAddr = "192.0.2.2:7".parse().expect("an address");
    let _held = open_flows(&greedy, world, 2 * SHARE);
    eventually("what is too much is refused and counted", || {
        lab.status().dropped("flow_share_full") > 100
    });
    assert!(greedy.gets_no_answer(world, b"more"), "its share is full");
    assert_eq!(lab.status().dropped("flow_table_full"), 0);
    for _ in 0..50 {
        assert_eq!(web.ask_by_udp(world, b"mine"), Some(b"mine".to_vec()));
        let api = "10.0.1.10:7".parse().expect("an address");
        assert_eq!(web.ask_by_udp(api, b"mine"), Some(b"mine".to_vec()));
    }
}

#[test]
fn a_pod_that_opens_many_flows_to_another_does_not_make_it_unreachable() {
    let Some(lab) = Lab::new("flowsMax: 1024\n") else {
        return;
    };
    let greedy = lab.pod("frontend/greedy", &["app=batch"], &["10.0.1.13"]);
    let web = lab.pod("frontend/web", &["app=frontend"], &["10.0.1.11"]);
    let api = lab.pod("backend/api", &["app=backend"], &["10.0.1.10"]);
    lab.start_daemon();
    api.echo_by_udp(7);
    let api: SocketAddr = "10.0.1.10:7".parse().expect("an address");
    let _held = open_flows(&greedy, api, 2 * SHARE);
    eventually("what is too much is refused and counted", || {
        lab.status().dropped("flow_share_full") > 100
    });
    for _ in 0..50 {
        assert_eq!(web.ask_by_udp(api, b"mine"), Some(b"mine".to_vec()));
    }
}
