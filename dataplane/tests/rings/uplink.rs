//! What the kernel program takes on an uplink that we share with the host's stack.

use crate::frames::{Bytes, Node, POD, SHARED, every_kind, node};
use crate::lab::{Lab, is_root};
use crate::wire::PINS;
use aya::EbpfLoader;
use aya::programs::links::FdLink;
use aya::programs::{Xdp, xdp};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, SockaddrStorage, sendto,
    socket,
};
use portcullis::xdp::{
    Attachment, EGRESS_MAX, FRONTENDS_MAX, Frontend, InterfaceKind, PortRange, Redirect, Transport,
    XdpMode,
};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;
use xdp_redirect::{EGRESS, FRONTENDS, Owner, PROGRAM, owner};

/// The ports of the address that we share with the host.
const PORTS: PortRange = PortRange {
    first: 61_000,
    last: 65_535,
};
const PATIENCE: Duration = Duration::from_secs(2);
const IMPATIENCE: Duration = Duration::from_millis(300);

/// Attaches to the lab's first interface as an uplink for what is ours on a node.
fn uplink(lab: &Lab, node: Node, mode: XdpMode) -> Redirect {
    let index = lab.index(1);
    lab.host.run(move || {
        let mut redirect = Redirect::load(Path::new(PINS)).expect("the kernel program");
        for pod in POD {
            let length = if pod.is_ipv4() { 32 } else { 128 };
            redirect.add_prefix(pod, length).expect("room");
        }
        redirect.set_frontends(&node.frontends).expect("room");
        redirect.set_egress(&node.egress).expect("room");
        redirect
            .attach("v1", index, 3, InterfaceKind::Uplink, mode)
            .expect("the program attaches");
        redirect
    })
}

/// Frames that were ours, the host's, and unreadable.
fn counts(redirect: &Redirect) -> [u64; 3] {
    let counters = redirect.counters().expect("counters");
    [
        counters.redirected + counters.no_socket,
        counters.passed,
        counters.unreadable,
    ]
}

fn own_link() -> LinkAddr {
    getifaddrs()
        .expect("interfaces can be listed")
        .filter(|entry| entry.interface_name == "eth0")
        .filter_map(|entry| entry.address)
        .find_map(|address: SockaddrStorage| address.as_link_addr().copied())
        .filter(|link| link.family() == Some(AddressFamily::Packet))
        .expect("eth0")
}

fn kernel_agrees(mode: XdpMode) {
    let lab = Lab::new(1, 1500);
    let redirect = uplink(&lab, node(), mode);
    let (disagreements, counts) = lab.pods[0].run(move || {
        let raw = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::empty(),
            None,
        );
        let (raw, link) = (raw.expect("a packet socket"), own_link());
        let node = node();
        let mut disagreements = Vec::new();
        let mut send = |frame: &[u8]| {
            let before = counts(&redirect);
            let sent = sendto(raw.as_raw_fd(), frame, &link, MsgFlags::empty());
            assert_eq!(sent, Ok(frame.len()));
            let after = counts(&redirect);
            let found: Vec<u64> = before.iter().zip(after).map(|(b, a)| a - b).collect();
            let expected = match owner(&Bytes(frame), &node) {
                Owner::Us => [1, 0, 0],
                Owner::Host => [0, 1, 0],
                Owner::Unreadable => [0, 0, 1],
            };
            if found != expected {
                disagreements.push(format!("{found:?} for {expected:?}: {frame:02x?}"));
            }
        };
        for (number, packet) in every_kind().iter().enumerate() {
            let frame = packet.frame();
            send(&frame);
            // Of some, every beginning, too: the shortest that a packet socket sends is a header.
            if number % 97 == 0 {
                (15..frame.len()).for_each(|length| send(&frame[..length]));
            }
        }
        (disagreements, counts(&redirect))
    });
    println!("ours, the host's, unreadable: {counts:?}");
    assert_eq!(disagreements, Vec::<String>::new());
    assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
}

#[test]
fn the_kernel_decides_as_the_model_does_in_generic_mode() {
    if is_root() {
        kernel_agrees(XdpMode::Generic);
    }
}

#[test]
fn the_kernel_decides_as_the_model_does_in_native_mode() {
    if is_root() {
        kernel_agrees(XdpMode::Native);
    }
}

/// A lab whose host has the shared addresses, and a peer that knows everybody.
fn shared_lab() -> (Lab, Redirect) {
    let lab = Lab::new(1, 1500);
    lab.host.set("ipv6/conf/v1/disable_ipv6", "0");
    lab.pods[0].set("ipv6/conf/eth0/disable_ipv6", "0");
    lab.host.command("ip addr add 10.99.0.200/24 dev v1");
    lab.host.command("ip addr add fd99::c8/64 dev v1 nodad");
    lab.pods[0].command("ip addr add fd99::1/64 dev eth0 nodad");
    let redirect = uplink(&lab, node(), XdpMode::Generic);
    (lab, redirect)
}

fn bind(address: IpAddr, port: u16, patience: Duration) -> UdpSocket {
    let socket = UdpSocket::bind((address, port)).expect("bind");
    socket.set_read_timeout(Some(patience)).expect("timeout");
    socket
}

#[test]
fn a_node_stays_reachable_on_the_address_that_we_share() {
    if !is_root() {
        return;
    }
    let (lab, redirect) = shared_lab();
    for (version, peer) in ["10.99.0.1", "fd99::1"].into_iter().enumerate() {
        let shared = SHARED[version].to_string();
        let host = |line: String| lab.host.try_command(&line);
        crate::wait_until("the host's ping comes back", || {
            host(format!("ping -c 1 -W 1 -q -e 5 {peer}"))
        });
        assert!(
            !host(format!("ping -c 1 -W 1 -q -e 62000 {peer}")),
            "a reply within our identifiers is ours"
        );
        let ping = format!("ping -c 1 -W 1 -q -e 62000 {shared}");
        assert!(lab.pods[0].try_command(&ping), "the peer's ping is not");

        // The host listens on all of these ports; what is ours does not come to it.
        for (port, is_hosts) in [(22, true), (60_999, true), (61_000, false), (30_080, false)] {
            let before = counts(&redirect)[0];
            let is_heard = {
                let to = SocketAddr::from((SHARED[version], port));
                let patience = if is_hosts { PATIENCE } else { IMPATIENCE };
                let listener = lab.host.run(move || bind(to.ip(), port, patience));
                lab.pods[0].run(move || {
                    let from = bind(unspecified(to.ip()), 0, PATIENCE);
                    from.send_to(b"whose?", to).expect("send");
                });
                listener.recv(&mut [0; 16]).is_ok()
            };
            let ours = counts(&redirect)[0] - before;
            assert_eq!((is_heard, ours), (is_hosts, u64::from(!is_hosts)), "{port}");
        }
    }
}

#[test]
fn a_port_that_is_unreachable_is_told_to_whoever_sent() {
    if !is_root() {
        return;
    }
    let (lab, redirect) = shared_lab();
    for (version, peer) in ["10.99.0.1", "fd99::1"].into_iter().enumerate() {
        let to: SocketAddr = (peer.parse::<IpAddr>().expect("address"), 9).into();
        let from = SHARED[version];
        // True when the host's socket hears of the error.
        let is_told = |port| {
            lab.host.run(move || {
                let socket = bind(from, port, IMPATIENCE);
                socket.connect(to).expect("connect");
                socket.send(b"anybody?").expect("send");
                let error = socket.recv(&mut [0; 16]).expect_err("nobody answers");
                error.kind() == ErrorKind::ConnectionRefused
            })
        };
        crate::wait_until("the host's own errors reach it", || is_told(5000));
        let before = counts(&redirect)[0];
        assert!(!is_told(61_005), "the error quotes a port of ours");
        assert!(!is_told(30_080), "the error quotes a frontend's port");
        assert_eq!(counts(&redirect)[0] - before, 2);
    }
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => IpAddr::from([0; 16]),
    }
}

#[test]
fn frontends_and_egress_ports_change_under_traffic() {
    if !is_root() {
        return;
    }
    let lab = Lab::new(1, 1500);
    let empty = Node {
        frontends: BTreeSet::new(),
        egress: BTreeMap::new(),
        datagrams: RefCell::default(),
    };
    let mut redirect = uplink(&lab, empty, XdpMode::Generic);
    let to = SHARED[0];
    lab.pods[0].command("ip neigh replace 10.99.0.200 lladdr 02:00:00:00:00:99 dev eth0");
    let is_ours = |redirect: &Redirect, port| {
        let before = counts(redirect)[0];
        lab.pods[0].run(move || {
            let from = bind(unspecified(to), 0, PATIENCE);
            from.send_to(b"whose?", (to, port)).expect("send");
        });
        counts(redirect)[0] > before
    };
    let all = |redirect: &Redirect| [22, 30_080, 61_000].map(|port| is_ours(redirect, port));
    assert_eq!(all(&redirect), [false; 3]);
    let frontend = |port| Frontend::new(to, port, Transport::Udp);
    for (frontends, egress, expected) in [
        (vec![30_080], None, [false, true, false]),
        (vec![30_080, 22], Some(PORTS), [true, true, true]),
        (vec![22], Some(PORTS), [true, false, true]),
        (vec![], Some(PortRange::ALL), [true; 3]),
        (vec![], Some(PORTS), [false, false, true]),
        (vec![], None, [false; 3]),
    ] {
        let frontends = frontends.into_iter().map(frontend).collect();
        let egress = egress.map(|ports| (to, ports)).into_iter().collect();
        for _ in 0..2 {
            redirect.set_frontends(&frontends).expect("room");
            redirect.set_egress(&egress).expect("room");
            assert_eq!(all(&redirect), expected, "{frontends:?} {egress:?}");
        }
    }
}

#[test]
fn maps_take_what_they_have_room_for_and_refuse_more() {
    if !is_root() {
        return;
    }
    let errors = Lab::new(0, 1500).host.run(|| {
        let mut redirect = Redirect::load(Path::new(PINS)).expect("the kernel program");
        let address = |number: u32| IpAddr::from(Ipv4Addr::from_bits(number));
        let frontends = |numbers: std::ops::Range<u32>| -> BTreeSet<Frontend> {
            numbers
                .map(|number| Frontend::new(address(number), 80, Transport::Tcp))
                .collect()
        };
        let egress = |numbers: std::ops::Range<u32>| -> BTreeMap<IpAddr, PortRange> {
            numbers.map(|number| (address(number), PORTS)).collect()
        };
        // Full, and then full of others: nothing has to stay, so what is gone may go first.
        for first in [0, FRONTENDS_MAX / 2, FRONTENDS_MAX * 2] {
            let wanted = frontends(first..first + FRONTENDS_MAX);
            redirect.set_frontends(&wanted).expect("room");
        }
        for first in [0, EGRESS_MAX / 2, EGRESS_MAX * 2] {
            let wanted = egress(first..first + EGRESS_MAX);
            redirect.set_egress(&wanted).expect("room");
        }
        [
            redirect.set_frontends(&frontends(0..FRONTENDS_MAX + 1)),
            redirect.set_egress(&egress(0..EGRESS_MAX + 1)),
        ]
        .map(|result| result.expect_err("too many").to_string())
    });
    assert_eq!(
        errors,
        [
            "FRONTENDS: expected at most 16384 entries, found 16385",
            "EGRESS: expected at most 4096 entries, found 4097",
        ]
    );
}

#[test]
fn an_attachment_of_a_program_with_other_maps_is_taken_over() {
    if !is_root() {
        return;
    }
    let lab = Lab::new(1, 1500);
    let index = lab.index(1);
    let taken = lab.host.run(move || {
        // As an older or newer version of the daemon would have left it.
        let object = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/redirect"));
        let mut other = EbpfLoader::new()
            .map_max_entries(FRONTENDS, 16)
            .map_max_entries(EGRESS, 16)
            .load(object)
            .expect("the other program");
        let program: &mut Xdp = other
            .program_mut(PROGRAM)
            .expect("the program")
            .try_into()
            .expect("of XDP");
        program.load().expect("load");
        let link = program
            .attach_to_if_index(index, xdp::XdpMode::Skb)
            .expect("attach");
        let link = FdLink::try_from(program.take_link(link).expect("ours")).expect("a link");
        std::fs::create_dir_all(PINS).expect("the directory");
        let path = format!("{PINS}/link-v1-{index}-generic");
        drop(link.pin(path).expect("a place"));
        drop(other);

        let mut redirect = Redirect::load(Path::new(PINS)).expect("the kernel program");
        let many = (0..1000).map(|port| Frontend::new(SHARED[0], port, Transport::Tcp));
        redirect.set_frontends(&many.collect()).expect("room");
        redirect
            .attach("v1", index, 3, InterfaceKind::Uplink, XdpMode::Generic)
            .expect("taken over")
    });
    assert_eq!(taken, Attachment::TakenOver);
}
