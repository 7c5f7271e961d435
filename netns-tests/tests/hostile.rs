//! Frames that no honest network stack sends: the daemon names the reason and lives on.

use netns_tests::{ETHERTYPE_IPV4, Lab, Pod, ethernet, eventually, ipv4, send_raw, udp};
use std::net::Ipv4Addr;

const API: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 10);
const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 11);

fn two_pods() -> Option<(Lab, Pod, Pod)> {
    let lab = Lab::new("")?;
    let api = lab.pod("backend/api", &["app=backend"], &["10.0.1.10"]);
    let web = lab.pod("frontend/web", &["app=frontend"], &["10.0.1.11"]);
    api.serve_pages();
    lab.start_daemon();
    Some((lab, api, web))
}

fn count(frames: &[Vec<u8>]) -> u64 {
    u64::try_from(frames.len()).expect("fits")
}

fn assert_well(lab: &Lab, pod: &Pod) {
    lab.assert_alive();
    assert_eq!(
        pod.fetch("http://10.0.1.10/"),
        Some("page of backend/api\n".into())
    );
}

#[test]
fn every_kind_of_malformed_frame_is_counted_under_its_reason() {
    let Some((lab, _api, web)) = two_pods() else {
        return;
    };
    let good = ipv4(WEB, API, 17, &udp(5000, 9, &[0; 32]));
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let cases: [(&str, u16, Vec<u8>); 9] = [
        ("truncated", ETHERTYPE_IPV4, good[..10].to_vec()),
        ("truncated", ETHERTYPE_IPV4, Vec::new()),
        ("truncated", ETHERTYPE_IPV4, with(2, 0xff)), // a total length beyond the frame
        ("truncated", 0x86dd, vec![0x60; 20]),
        ("malformed", ETHERTYPE_IPV4, with(0, 0x55)), // version 5
        ("malformed", ETHERTYPE_IPV4, with(0, 0x43)), // a header of 12 bytes
        ("vlan_tagged", 0x8100, [&[0, 5, 8, 0][..], &good].concat()),
        ("vlan_tagged", 0x88a8, [&[0, 5, 8, 0][..], &good].concat()),
        ("ethertype_unknown", 0x88cc, vec![0; 50]),
    ];
    for (reason, ethertype, payload) in cases {
        let before = lab.status().dropped(reason);
        web.send_raw(&[ethernet(web.mac, [0xee; 6], ethertype, &payload)]);
        eventually(
            &format!("{reason} counts {ethertype:#06x} {payload:02x?}"),
            || lab.status().dropped(reason) > before,
        );
    }
    assert_well(&lab, &web);
}

#[test]
fn a_good_frame_cut_at_every_length_does_no_harm() {
    let Some((lab, _api, web)) = two_pods() else {
        return;
    };
    let whole = ethernet(
        web.mac,
        [0xee; 6],
        ETHERTYPE_IPV4,
        &ipv4(WEB, API, 17, &udp(5000, 9, &[7; 64])),
    );
    let cut: Vec<Vec<u8>> = (14..whole.len())
        .map(|length| whole[..length].to_vec())
        .collect();
    // Few at a time: what is tested here is reading, not the depth of a ring.
    for batch in cut.chunks(16) {
        let expected = lab.status().dropped_in_all() + count(batch);
        web.send_raw(batch);
        eventually("every cut frame is dropped and counted", || {
            lab.status().dropped_in_all() >= expected
        });
    }
    assert_well(&lab, &web);
}

#[test]
fn no_frame_of_a_burst_is_lost_without_being_counted() {
    let Some((lab, _api, web)) = two_pods() else {
        return;
    };
    let frame = ethernet(web.mac, [0xee; 6], 0x88cc, &[0; 50]);
    let burst = vec![frame; 500];
    web.send_raw(&burst);
    // More than an idle interface has memory for: then the kernel drops, and that counts too.
    let mut counted = 0;
    eventually("every frame of the burst is dropped and counted", || {
        let status = lab.status();
        counted = status.dropped("ethertype_unknown") + status.lost_before_the_rings();
        counted >= count(&burst)
    });
    // The pod's own announcements may be lost with the burst; each frame counted twice would show.
    assert!(
        counted < count(&burst) + 50,
        "each is counted once: {counted}"
    );
    assert_well(&lab, &web);
}

#[test]
fn noise_does_no_harm() {
    const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
    let Some((lab, _api, web)) = two_pods() else {
        return;
    };
    let mut state = SEED;
    // [Marsaglia, Xorshift RNGs, 2003]
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let ethertypes = [ETHERTYPE_IPV4, 0x86dd, 0x0806, 0x8100];
    let frames: Vec<Vec<u8>> = (0..2000)
        .map(|_| {
            let length = usize::try_from(random() % 1500).expect("fits");
            let noise: Vec<u8> = (0..length).map(|_| random().to_le_bytes()[0]).collect();
            let ethertype = ethertypes[usize::try_from(random() % 4).expect("fits")];
            ethernet(web.mac, [0xee; 6], ethertype, &noise)
        })
        .collect();
    for batch in frames.chunks(100) {
        web.send_raw(batch);
    }
    eventually(
        &format!("noise of seed {SEED:#x} is dropped and counted"),
        || lab.status().dropped_in_all() > 1000,
    );
    assert_well(&lab, &web);
}

#[test]
fn a_large_datagram_is_not_delivered_as_something_else() {
    let Some((lab, api, web)) = two_pods() else {
        return;
    };
    let socket = api
        .place
        .call(|| std::net::UdpSocket::bind("10.0.1.10:9"))
        .expect("a socket");
    socket
        .set_read_timeout(Some(std::time::Duration::from_millis(500)))
        .expect("a timeout");
    let sizes: Vec<usize> = [1, 1000, 1472]
        .iter()
        .map(|&size: &usize| {
            let packet = ipv4(WEB, API, 17, &udp(5000, 9, &vec![7; size]));
            let mut bytes = vec![0; 65_536];
            // The first packet to a pod may have to wait for its MAC address.
            let mut heard = None;
            eventually("a datagram arrives", || {
                web.send_raw(&[ethernet(web.mac, [0xee; 6], ETHERTYPE_IPV4, &packet)]);
                heard = socket.recv(&mut bytes).ok();
                heard.is_some()
            });
            while socket.recv(&mut [0; 65_536]).is_ok() {}
            heard.expect("it arrived")
        })
        .collect();
    assert_eq!(sizes, [1, 1000, 1472]);
    assert_well(&lab, &web);
}

#[test]
fn malformed_frames_from_the_world_are_counted_and_do_no_harm() {
    let Some((lab, _api, web)) = two_pods() else {
        return;
    };
    let address = lab.node.must("cat /sys/class/net/eth0/address");
    let bytes = address
        .trim()
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16));
    let bytes: Vec<u8> = bytes.collect::<Result<_, _>>().expect("bytes");
    let node: [u8; 6] = bytes.try_into().expect("a MAC address");
    let good = ipv4(
        Ipv4Addr::new(192, 0, 2, 2),
        API,
        17,
        &udp(5000, 9, &[0; 32]),
    );
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let gre = ipv4(Ipv4Addr::new(192, 0, 2, 2), API, 47, &[0; 32]);
    let cases = [
        ("truncated", with(2, 0xff)), // a total length beyond the frame
        ("malformed", with(0, 0x43)), // a header of 12 bytes
        ("malformed", with(9, 6)),    // a checksum that does not fit
        ("protocol_unknown", gre),
    ];
    for (reason, payload) in cases {
        let before = lab.status().dropped(reason);
        let frame = ethernet([2, 0, 0, 0, 0, 1], node, ETHERTYPE_IPV4, &payload);
        send_raw(&lab.world, &[frame]);
        eventually(&format!("{reason} counts {payload:02x?}"), || {
            lab.status().dropped(reason) > before
        });
    }
    assert_well(&lab, &web);
}
