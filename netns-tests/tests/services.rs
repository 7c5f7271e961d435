//! Services: many backends behind one address, and what becomes of clients when those change.

use netns_tests::manifests::egress_policy;
use netns_tests::{Lab, Pod, ask_by_udp, eventually, is_echoed};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

const VIPS: [&str; 2] = ["10.96.0.10", "fd00:96::a"];
const VIP_HOSTS: [&str; 2] = ["10.96.0.10", "[fd00:96::a]"];

struct Shop {
    lab: Lab,
    client: Pod,
    backends: Vec<Pod>,
}

fn service(more: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec:
  clusterIPs: ["{}", "{}"]
  {more}
  ports:
  - {{name: http, port: 80}}
  - {{name: echo, port: 7}}
  - {{name: dns, port: 53, protocol: UDP}}
"#,
        VIPS[0], VIPS[1]
    )
}

/// Slices of both families with these backends, by the last part of their address, and what is
/// said of each.
fn slices(backends: &[(u8, &str)]) -> String {
    [("IPv4", "10.0.1."), ("IPv6", "fd00:10:1::")]
        .map(|(family, network)| {
            let endpoint = |(last, conditions): &(u8, &str)| {
                format!("- {{addresses: [\"{network}{last}\"], conditions: {{{conditions}}}}}\n")
            };
            let endpoints: String = backends.iter().map(endpoint).collect();
            let endpoints = if endpoints.is_empty() {
                "endpoints: []\n".into()
            } else {
                format!("endpoints:\n{endpoints}")
            };
            format!(
                "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-{}, \
                 namespace: shop, labels: {{kubernetes.io/service-name: web}}}}\naddressType: \
                 {family}\nports:\n- {{name: http, port: 80}}\n- {{name: echo, port: 7}}\n\
                 - {{name: dns, port: 5353, protocol: UDP}}\n{endpoints}",
                family.to_lowercase()
            )
        })
        .join("---\n")
}

const ALL: [(u8, &str); 3] = [(20, ""), (21, ""), (22, "")];

/// A client and three backends behind one service. The daemon runs.
fn shop(more: &str, backends: &[(u8, &str)]) -> Option<Shop> {
    let lab = Lab::new("")?;
    let client = lab.pod(
        "shop/client",
        &["app=client"],
        &["10.0.1.10", "fd00:10:1::10"],
    );
    let pods = [20, 21, 22].map(|last| {
        let addresses = [format!("10.0.1.{last}"), format!("fd00:10:1::{last}")];
        let pod = lab.pod(
            &format!("shop/web-{last}"),
            &["app=web", &format!("number={last}")],
            &[&addresses[0], &addresses[1]],
        );
        pod.serve_pages();
        pod.echo_by_tcp(7);
        pod.echo_by_udp(5353);
        pod
    });
    lab.apply("service.yaml", &service(more));
    lab.apply("slices.yaml", &slices(backends));
    lab.start_daemon();
    let shop = Shop {
        lab,
        client,
        backends: pods.into(),
    };
    assert_eq!(shop.lab.status().errors(), Vec::<String>::new());
    // Whoever has not yet spoken has to be asked for its MAC address first.
    for pod in &shop.backends {
        for address in &pod.addresses {
            assert!(shop.client.can_ping(&address.to_string()));
        }
    }
    Some(shop)
}

fn vip(family: usize, port: u16) -> SocketAddr {
    SocketAddr::new(VIPS[family].parse().expect("an address"), port)
}

/// Asks for a page over a connection of its own, and gives it; the error, where there is none.
fn ask(to: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().last().unwrap_or_default().to_owned())
}

/// How many of so many new connections of a pod each backend got, by its page.
fn shares(client: &Pod, to: SocketAddr, count: usize) -> BTreeMap<String, usize> {
    const THREADS: usize = 4;
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            client.place.thread(move || {
                (0..count / THREADS)
                    .map(|_| ask(to).unwrap_or_else(|error| format!("{error}")))
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let mut shares = BTreeMap::new();
    for thread in threads {
        for page in thread.join().expect("a client does not panic") {
            *shares.entry(page).or_default() += 1;
        }
    }
    shares
}

#[test]
fn three_backends_share_evenly_and_one_that_leaves_breaks_nothing() {
    let Some(Shop {
        lab,
        client,
        backends,
    }) = shop("", &ALL)
    else {
        return;
    };
    for family in [0, 1] {
        let count = 4500;
        let shares = shares(&client, vip(family, 80), count);
        println!("IPv{}: {shares:?}", [4, 6][family]);
        assert_eq!(shares.len(), 3, "{shares:?}");
        for (page, share) in &shares {
            let part = *share as f64 / count as f64;
            assert!((part - 1.0 / 3.0).abs() < 0.05, "{page}: {part}");
        }
    }
    // Until each backend has a live connection.
    let mut live: Vec<TcpStream> = (0..30)
        .map(|n| client.connect(vip(n % 2, 7)).expect("connected"))
        .collect();
    assert!(live.iter_mut().all(|stream| is_echoed(stream, b"before")));
    lab.apply("slices.yaml", &slices(&ALL[1..]));
    for stream in &mut live {
        assert!(is_echoed(stream, b"after"), "a live connection goes on");
    }
    let shares = shares(&client, vip(0, 80), 1500);
    println!("without the first: {shares:?}");
    assert_eq!(shares.len(), 2, "{shares:?}");
    assert!(shares.values().all(|share| share.abs_diff(750) < 75));
    // The pod itself goes: what hangs on it is told.
    let mut backends = backends;
    lab.remove_pod(backends.remove(0));
    let mut ended = 0;
    for stream in &mut live {
        let since = Instant::now();
        ended += usize::from(!is_echoed(stream, b"at last"));
        assert!(since.elapsed() < Duration::from_secs(2), "told at once");
    }
    println!("{ended} of {} connections ended with their pod", live.len());
    assert!((1..30).contains(&ended), "{ended}");
}

#[test]
fn the_same_client_port_finds_the_same_backend_unless_it_is_gone() {
    let Some(Shop {
        lab,
        client,
        backends: _backends,
    }) = shop("", &ALL)
    else {
        return;
    };
    // Every question a new flow, from a port that it can come from again.
    let answers = |expected: usize| -> Vec<Option<u8>> {
        let place = &client.place;
        let found = place.thread(move || {
            (0..600)
                .map(|n: u16| {
                    let socket = UdpSocket::bind(("10.0.1.10", 20_000 + n)).expect("a free port");
                    socket
                        .set_read_timeout(Some(Duration::from_secs(2)))
                        .expect("a timeout");
                    socket.connect(vip(0, 54)).expect("connected");
                    socket.send(b"who").expect("sent");
                    let mut answer = [0; 64];
                    socket.recv(&mut answer).ok().map(|_| answer[0])
                })
                .collect::<Vec<_>>()
        });
        let found = found.join().expect("a client does not panic");
        let count = found
            .iter()
            .flatten()
            .collect::<std::collections::BTreeSet<_>>()
            .len();
        assert_eq!(count, expected, "{found:?}");
        found
    };
    let spoken = |backends: &[(u8, &str)]| slices(backends).replace("port: 5353", "port: 5454");
    for last in [20_u8, 21, 22] {
        let place = netns_tests::Place::inside(&lab.node, &netns_of(&lab, last));
        let socket = place
            .call(|| UdpSocket::bind(("::", 5454)))
            .expect("the port is free");
        thread::spawn(move || {
            let _place = place;
            let mut bytes = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut bytes) {
                // Whoever is gone does not need it.
                let _ = socket.send_to(&[last], from);
            }
        });
    }
    lab.edit("service.yaml", |text| {
        text.replace("port: 53,", "port: 54,")
    });
    lab.apply("slices.yaml", &spoken(&ALL));
    let before = answers(3);
    lab.apply("slices.yaml", &spoken(&ALL[..2]));
    let after = answers(2);
    let moved = before
        .iter()
        .zip(&after)
        .filter(|(one, other)| one != other)
        .count();
    let hung = before.iter().filter(|one| **one == Some(22)).count();
    println!("{moved} of 600 moved, {hung} had to");
    assert!(moved <= 600 / 3 + 600 / 50, "{moved}");
    assert!(moved >= hung);
}

/// The network namespace of a backend.
fn netns_of(lab: &Lab, last: u8) -> String {
    let manifest = lab
        .node
        .read(&format!("/run/state/pod-shop-web-{last}.yaml"));
    let line = manifest
        .lines()
        .find_map(|line| line.trim().strip_prefix("portcullis.io/netns: "));
    line.expect("the annotation").replace('"', "")
}

#[test]
fn a_long_download_goes_on_to_its_end_while_its_backend_leaves_or_terminates() {
    let Some(Shop {
        lab,
        client,
        backends: _backends,
    }) = shop("", &ALL)
    else {
        return;
    };
    for gone in [
        vec![
            (20, "ready: false, serving: true, terminating: true"),
            (21, ""),
            (22, ""),
        ],
        vec![(22, "")],
        vec![],
    ] {
        let downloads: Vec<_> = (0..8)
            .map(|n| {
                let url = format!("http://{}/big", VIP_HOSTS[n % 2]);
                client.place.spawn(&format!(
                    "curl --silent --show-error --globoff --noproxy * --max-time 40 --limit-rate 8M \
                     --output /run/big-{n} {url}"
                ))
            })
            .collect();
        thread::sleep(Duration::from_millis(500));
        lab.apply("slices.yaml", &slices(&gone));
        for (n, mut download) in downloads.into_iter().enumerate() {
            assert!(download.wait().expect("curl ends").success(), "{gone:?}");
            client.place.must(&format!(
                "cmp /run/big-{n} /run/nginx-shop-web-20-80/pages/big"
            ));
        }
        lab.apply("slices.yaml", &slices(&ALL));
    }
    assert_eq!(lab.status().of_workers("segments"), 0, "whole on their way");
}

#[test]
fn a_terminating_backend_gets_nothing_new_while_another_serves() {
    let terminating = "ready: false, serving: true, terminating: true";
    let Some(Shop {
        lab,
        client,
        backends: _backends,
    }) = shop("", &[(20, terminating), (21, "")])
    else {
        return;
    };
    let only = |number: u8| BTreeMap::from([(format!("page of shop/web-{number}"), 200)]);
    assert_eq!(shares(&client, vip(0, 80), 200), only(21));
    lab.apply("slices.yaml", &slices(&[(20, terminating)]));
    assert_eq!(
        shares(&client, vip(1, 80), 200),
        only(20),
        "better than nobody"
    );
}

#[test]
fn a_service_without_backends_refuses_at_once() {
    let Some(Shop {
        lab,
        client,
        backends: _backends,
    }) = shop("", &[])
    else {
        return;
    };
    for family in [0, 1] {
        let since = Instant::now();
        let refused = client.connect(vip(family, 80)).map(drop);
        assert_eq!(
            refused.map_err(|e| e.kind()),
            Err(ErrorKind::ConnectionRefused)
        );
        assert!(since.elapsed() < Duration::from_secs(1));
        let to = vip(family, 53);
        let any = if family == 0 { "0.0.0.0:0" } else { "[::]:0" };
        let socket = client
            .place
            .call(move || UdpSocket::bind(any))
            .expect("a socket");
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("a timeout");
        socket.connect(to).expect("connected");
        socket.send(b"?").expect("sent");
        let refused = socket.recv(&mut [0; 9]).map_err(|e| e.kind());
        assert_eq!(
            refused,
            Err(ErrorKind::ConnectionRefused),
            "port unreachable"
        );
        // A port that the service does not have.
        let refused = client.connect(vip(family, 81)).map(drop);
        assert_eq!(
            refused.map_err(|e| e.kind()),
            Err(ErrorKind::ConnectionRefused)
        );
    }
    assert!(lab.status().dropped("service_without_backend") >= 4);
    assert!(lab.status().dropped("service_port_unknown") >= 2);
}

#[test]
fn a_client_stays_with_its_backend_where_the_service_says_so() {
    let Some(Shop {
        lab,
        client,
        backends: _backends,
    }) = shop("sessionAffinity: ClientIP", &ALL)
    else {
        return;
    };
    for family in [0, 1] {
        let shares = shares(&client, vip(family, 80), 200);
        assert_eq!(shares.len(), 1, "{shares:?}");
        assert_eq!(shares.values().sum::<usize>(), 200);
    }
    let before = shares(&client, vip(0, 80), 4);
    let page = before.keys().next().expect("one");
    let kept: Vec<_> = ALL
        .into_iter()
        .filter(|(last, _)| !page.ends_with(&last.to_string()))
        .collect();
    lab.apply("slices.yaml", &slices(&kept));
    let after = shares(&client, vip(0, 80), 200);
    assert_eq!(after.len(), 1, "{after:?}");
    assert_ne!(after.keys().next(), Some(page));
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    let Some(Shop {
        lab,
        backends,
        client: _client,
    }) = shop("", &[(20, "")])
    else {
        return;
    };
    let pod = &backends[0];
    for (family, host) in VIP_HOSTS.iter().enumerate() {
        let page = pod.fetch(&format!("http://{host}/"));
        assert_eq!(page, Some("page of shop/web-20\n".into()), "{host}");
        let answer = pod.ask_by_udp(vip(family, 53), b"myself");
        assert_eq!(answer, Some(b"myself".to_vec()), "{host}");
        pod.place.must(&format!(
            "curl --silent --show-error --globoff --noproxy * --max-time 30 --output /run/big \
             http://{host}/big"
        ));
        pod.place
            .must("cmp /run/big /run/nginx-shop-web-20-80/pages/big");
    }
    assert_eq!(lab.status().of_workers("segments"), 0);
}

#[test]
fn policy_sees_the_backend_and_not_the_service() {
    let Some(Shop {
        lab,
        client,
        backends: _backends,
    }) = shop("", &ALL)
    else {
        return;
    };
    for (rules, is_reached) in [
        ("  - toCIDR: [10.96.0.10/32, \"fd00:96::a/128\"]", false),
        ("  - toEndpoints: [{matchLabels: {app: web}}]", true),
        ("  - toEndpoints: [{matchLabels: {app: client}}]", false),
        (
            "  - toEndpoints: [{matchLabels: {app: web}}]\n    toPorts: [{ports: [{port: \"5353\", protocol: UDP}]}]",
            false,
        ),
    ] {
        let policy = egress_policy("shop", "out", rules).replace(
            "endpointSelector: {}",
            "endpointSelector: {matchLabels: {app: client}}",
        );
        lab.apply("out.yaml", &policy);
        for host in VIP_HOSTS {
            let url = format!("http://{host}/");
            let is_so = if is_reached {
                client.fetch(&url).is_some()
            } else {
                client.gets_nothing(&url)
            };
            assert!(is_so, "{rules}: {url} expected reached: {is_reached}");
        }
    }
    let answer = ask_by_udp(&client.place, vip(0, 53), b"dns", Duration::from_secs(5));
    assert_eq!(
        answer,
        Some(b"dns".to_vec()),
        "the backend's port is what counts"
    );
    lab.remove("out.yaml");
}

#[test]
fn a_connected_socket_loses_at_most_one_question_when_its_backend_goes() {
    let Some(Shop {
        lab,
        client,
        mut backends,
    }) = shop("", &ALL)
    else {
        return;
    };
    for (family, any) in [(0, "0.0.0.0:0"), (1, "[::]:0")] {
        let sockets: Vec<UdpSocket> = (0..12)
            .map(|_| {
                let socket = client
                    .place
                    .call(move || UdpSocket::bind(any))
                    .expect("a socket");
                socket
                    .set_read_timeout(Some(Duration::from_millis(700)))
                    .expect("a timeout");
                socket.connect(vip(family, 53)).expect("connected");
                socket
            })
            .collect();
        let lost = || -> Vec<usize> {
            let is_answered = |socket: &UdpSocket, n: u8| {
                // An error of the question before is what `send` may give.
                let is_sent = socket.send(&[n]).or_else(|_| socket.send(&[n])).is_ok();
                is_sent && socket.recv(&mut [0; 9]).is_ok()
            };
            let lost = |socket| (0..4).filter(|n| !is_answered(socket, *n)).count();
            sockets.iter().map(lost).collect()
        };
        assert_eq!(lost(), [0; 12]);
        // The pod goes first, its entry in the slice follows: as it happens.
        let last = [20, 21][family];
        lab.remove_pod(backends.remove(0));
        lab.apply("slices.yaml", &slices(&ALL[family + 1..]));
        let lost = lost();
        println!("lost without web-{last}: {lost:?}");
        assert!(lost.iter().all(|count| *count <= 1), "{lost:?}");
    }
}

#[test]
fn connections_through_a_service_survive_a_restart_or_are_reset() {
    let Some(Shop {
        lab,
        client,
        backends: _backends,
    }) = shop("", &ALL)
    else {
        return;
    };
    let mut live: Vec<TcpStream> = (0..12)
        .map(|n| client.connect(vip(n % 2, 7)).expect("connected"))
        .collect();
    assert!(live.iter_mut().all(|stream| is_echoed(stream, b"before")));
    lab.kill_daemon();
    lab.start_daemon();
    let mut alive = 0;
    for stream in &mut live {
        let since = Instant::now();
        alive += usize::from(is_echoed(stream, b"after"));
        assert!(since.elapsed() < Duration::from_secs(6), "one or the other");
    }
    println!("{alive} of {} connections go on", live.len());
    eventually("new ones come about", || {
        client.fetch("http://10.96.0.10/").is_some()
    });
}

#[test]
fn wrk_spreads_its_connections_evenly() {
    let Some(Shop {
        lab: _lab,
        client,
        backends,
    }) = shop("", &ALL)
    else {
        return;
    };
    let opened = || -> Vec<u64> {
        let of = |pod: &Pod| pod.counter("TcpPassiveOpens");
        backends.iter().map(of).collect()
    };
    for host in VIP_HOSTS {
        let before = opened();
        let words = ["wrk", "-t2", "-c30", "-d3s", "-H", "Connection: close"];
        let url = format!("http://{host}/");
        let ran = client.place.run_words(&[&words[..], &[&url]].concat());
        assert!(ran.is_success, "{ran:?}");
        assert!(!ran.stdout.contains("Socket errors"), "{}", ran.stdout);
        let counts: Vec<u64> = opened()
            .iter()
            .zip(before)
            .map(|(n, old)| n - old)
            .collect();
        let sum: u64 = counts.iter().sum();
        println!("{host}: {counts:?}\n{}", ran.stdout);
        assert!(sum >= 3000, "{counts:?}");
        for count in counts {
            let part = count as f64 / sum as f64;
            assert!((part - 1.0 / 3.0).abs() < 0.05, "{part}");
        }
    }
}
