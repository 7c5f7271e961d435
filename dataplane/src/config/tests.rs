//! What `config.yaml` may say, and what is said of the rest.

use super::*;
use std::time::Duration;

#[test]
fn a_full_config_is_read() {
    let text = "uplink: eth0\npodCIDRs: [10.0.1.0/24, 'fd00:1::/64']\npolicyEnforcementMode: always\n\
                workers: {count: 2, cores: [0, 1], rehome: true}\nxdpMode: native\nchecksums: software\numemFrames: 4096\n";
    let config = Config::parse("config.yaml", text).unwrap();
    let expected = Config {
        uplink: Some("eth0".into()),
        pod_cidrs: vec![
            "10.0.1.0/24".parse().unwrap(),
            "fd00:1::/64".parse().unwrap(),
        ],
        policy_enforcement_mode: EnforcementMode::Always,
        workers: WorkersConfig {
            count: 2,
            cores: vec![0, 1],
            rehome: true,
        },
        xdp_mode: XdpChoice::Native,
        checksums: Checksums::Software,
        umem_frames: 4096,
        ..Config::default()
    };
    assert_eq!(config, expected);
}

#[test]
fn faults_name_their_field() {
    let text = "umemFrames: 1000\nworkers: {count: 0}\n";
    let errors = Config::parse("config.yaml", text).unwrap_err();
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "config.yaml, document 1, workers.count: expected 1 to 64, found 0",
            "config.yaml, document 1, umemFrames: expected a power of two from 1024 to 1048576, found 1000",
        ]
    );
    let typo = Config::parse("config.yaml", "policyEnforcmentMode: always").unwrap_err();
    let text = typo[0].to_string();
    assert!(text.contains("policyEnforcementMode"), "{text}");
}

#[test]
fn settings_of_translation_are_read() {
    let text = "masquerade: true\nmasqueradeExcludedCIDRs: [10.0.0.0/8, 'fd00::/8']\n\
                natPorts: 62000-62999\negressPorts: '1-65535'\nnatSessionsMax: 2048\n\
                timeouts: {tcpOpening: 5, tcpEstablished: 2h, udp: 30s}\n\
                nodePortAddresses: [192.0.2.0/24]\n";
    let expected = Config {
        masquerade: true,
        masquerade_excluded_cidrs: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
        nat_ports: PortRange {
            first: 62_000,
            last: 62_999,
        },
        egress_ports: PortRange {
            first: 1,
            last: 65_535,
        },
        nat_sessions_max: 2048,
        timeouts: Timeouts {
            tcp_opening: Duration::from_secs(5),
            tcp_established: Duration::from_secs(7200),
            udp: Duration::from_secs(30),
            ..Timeouts::default()
        },
        node_port_addresses: vec!["192.0.2.0/24".parse().unwrap()],
        ..Config::default()
    };
    assert_eq!(Config::parse("config.yaml", text), Ok(expected));
    let nothing = Config::parse("config.yaml", "");
    assert_eq!(nothing, Ok(Config::default()));
}

#[test]
fn settings_of_translation_that_are_wrong_name_their_field() {
    let ports = |least| {
        format!("expected first-last, two ports from {least} to 65535 such as \"61000-65535\"")
    };
    let seconds = "expected 1 to 604800 seconds, such as 60, \"60s\" or \"2h13m20s\"";
    for (text, error) in [
        (
            "natPorts: 22-65535",
            format!("natPorts: {}, found \"22-65535\"", ports(1024)),
        ),
        (
            "natPorts: 65000-61000",
            format!("natPorts: {}, found \"65000-61000\"", ports(1024)),
        ),
        (
            "egressPorts: 0-65535",
            format!("egressPorts: {}, found \"0-65535\"", ports(1)),
        ),
        (
            "egressPorts: 1-65536",
            format!("egressPorts: {}, found \"1-65536\"", ports(1)),
        ),
        (
            "egressPorts: 1024",
            format!("egressPorts: {}, found 1024", ports(1)),
        ),
        (
            "timeouts: {udp: 0s}",
            format!("timeouts.udp: {seconds}, found \"0s\""),
        ),
        (
            "timeouts: {tcpEstablished: 604801}",
            format!("timeouts.tcpEstablished: {seconds}, found 604801"),
        ),
        (
            "timeouts: {icmp: [1]}",
            format!("timeouts.icmp: {seconds}, found [1]"),
        ),
        (
            "natSessionsMax: 10",
            "natSessionsMax: expected 1024 to 16777216, found 10".into(),
        ),
        (
            "nodePortAddresses: [10.0.0.0/8, eth0]",
            "nodePortAddresses[1]: expected an address block such as 10.0.1.0/24, found \
             \"eth0\""
                .into(),
        ),
    ] {
        let errors = Config::parse("config.yaml", text).unwrap_err();
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, [format!("config.yaml, document 1, {error}")]);
    }
    let typo = Config::parse("config.yaml", "timeouts: {tcp: 5}").unwrap_err();
    let text = typo[0].to_string();
    assert!(text.contains("timeouts.tcp: expected "), "{text}");
}

#[test]
fn what_needs_no_restart_is_taken_and_the_rest_is_told() {
    let text = "uplink: eth1\npodCIDRs: [10.0.1.0/24]\npolicyEnforcementMode: always\n\
                policyAuditMode: true\nallowLocalhost: policy\ncompat: cilium\n\
                workers: {count: 2}\nxdpMode: native\nchecksums: software\numemFrames: 4096\nidleFrames: 64\n\
                flowsMax: 2048\nobserveHistory: 5\nobserveSegments: {directory: /a}\nmasquerade: true\n\
                masqueradeExcludedCIDRs: [10.0.0.0/8]\nnatPorts: 62000-62999\n\
                egressPorts: 5-6\nnatSessionsMax: 2048\ntimeouts: {udp: 1}\n\
                nodePortAddresses: [192.0.2.0/24]\nexport: {path: /a, end: 2026-12-24T18:00:00Z}\n";
    let new = Config::parse("config.yaml", text).unwrap();
    let old = Config::default();
    let mut taken = old.clone();
    taken.take_live(&new);
    let expected = Config {
        uplink: old.uplink,
        pod_cidrs: old.pod_cidrs,
        workers: old.workers,
        xdp_mode: old.xdp_mode,
        checksums: old.checksums,
        umem_frames: old.umem_frames,
        idle_frames: old.idle_frames,
        flows_max: old.flows_max,
        observe_history: old.observe_history,
        observe_segments: old.observe_segments,
        nat_sessions_max: old.nat_sessions_max,
        timeouts: old.timeouts,
        ..new.clone()
    };
    assert_eq!(taken, expected);
    let told = "uplink podCIDRs workers xdpMode checksums umemFrames idleFrames flowsMax observeHistory \
                observeSegments natSessionsMax timeouts";
    assert_eq!(taken.restart_needed_for(&new).join(" "), told);
}
