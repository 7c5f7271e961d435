//! Rings and kernel program on real interfaces: pods in namespaces, a worker between them.
//! Needs root; nothing outlives a test.

#[path = "../../../xdp-redirect/tests/frames/mod.rs"]
mod frames;
mod lab;
mod memory;
mod uplink;
mod wire;

use lab::{Lab, is_root};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use portcullis::rings::{FreeFrames, InterfaceLost, Socket, Umem, UmemSettings};
use portcullis::xdp::{Attachment, InterfaceKind, Pin, Redirect, XdpMode};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use wire::{PINS, Running, settings};

const JUMBO: u32 = 65_535;
const PORT: u16 = 7001;

/// Bytes in which a shift or swap of pieces shows.
fn pattern(size: usize) -> Vec<u8> {
    (0..size)
        .map(|index| (index * 7 + index / 251) as u8)
        .collect()
}

/// Sends a datagram from the first pod to the second for each size, the next when one has arrived,
/// and gives the sizes of those that arrive unchanged.
fn exchange(lab: &Lab, sizes: &[usize]) -> Vec<usize> {
    let receiver = lab.pods[1].run(|| UdpSocket::bind(("10.99.0.2", PORT)).expect("bind"));
    receiver
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("timeout");
    let sender = lab.pods[0].run(|| UdpSocket::bind("10.99.0.1:0").expect("bind"));
    let mut buffer = vec![0; 1 << 16];
    let mut arrives = |&size: &usize| {
        sender
            .send_to(&pattern(size), ("10.99.0.2", PORT))
            .expect("send");
        receiver
            .recv(&mut buffer)
            .is_ok_and(|length| buffer[..length] == pattern(size))
    };
    sizes.iter().copied().filter(|size| arrives(size)).collect()
}

/// Whether the first pod reaches the second.
fn reaches(lab: &Lab) -> bool {
    lab.pods[0].try_command("ping -c 1 -W 1 -q 10.99.0.2")
}

/// Sends datagrams from the first pod as fast as it can, until the sender of the result is dropped.
fn flood(lab: &Lab, size: usize) -> mpsc::Sender<()> {
    let (stop, stopped) = mpsc::channel();
    lab.pods[0].spawn(move || {
        let socket = UdpSocket::bind("10.99.0.1:0").expect("bind");
        let bytes = pattern(size);
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            // Refused when nobody listens, which is no matter.
            let _ = socket.send_to(&bytes, ("10.99.0.2", 9));
        }
    });
    stop
}

/// Waits until `done`, for at most 5 s.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(5), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn chains_cross(mode: XdpMode) {
    let lab = Lab::new(2, JUMBO);
    let wire = Running::start(&lab, mode);
    // Around the room of a chunk and of two; the largest that there is.
    const SIZES: [usize; 8] = [65_507, 1, 60_000, 3798, 3799, 7638, 7639, 65_507];
    assert_eq!(exchange(&lab, &SIZES), SIZES);
    assert_eq!(wire.ask(|wire| wire.pieces_max), 18);
    wire.assert_all_accounted_for();
    let counters = [wire.counters(0), wire.counters(1)];
    assert_eq!(
        counters.map(|side| (side.chains_too_long, side.frames_misplaced)),
        [(0, 0); 2]
    );
    assert_eq!(counters.map(|side| side.transmit_invalid), [0; 2]);
}

#[test]
fn frames_of_64_kilobytes_cross_whole_in_generic_mode() {
    if is_root() {
        chains_cross(XdpMode::Generic);
    }
}

#[test]
fn frames_of_64_kilobytes_cross_whole_in_native_mode() {
    if is_root() {
        chains_cross(XdpMode::Native);
    }
}

#[test]
fn a_tcp_stream_arrives_intact_and_every_chunk_is_accounted_for() {
    if !is_root() {
        return;
    }
    let lab = Lab::new(2, JUMBO);
    let wire = Running::start(&lab, XdpMode::Generic);
    let listener = lab.pods[1].run(|| TcpListener::bind("10.99.0.2:7000").expect("bind"));
    let sent = pattern(32 << 20);
    let copy = sent.clone();
    let begun = Instant::now();
    let client = lab.pods[0].spawn(move || {
        let mut stream = TcpStream::connect("10.99.0.2:7000").expect("connect");
        stream.write_all(&copy).expect("write");
    });
    let mut received = Vec::new();
    listener
        .accept()
        .expect("accept")
        .0
        .read_to_end(&mut received)
        .expect("read");
    client.join().expect("the client");
    println!("32 MiB in {:?}: {:?}", begun.elapsed(), wire.counters(0));
    assert!(received == sent, "the stream differs");
    wire.assert_all_accounted_for();
}

#[test]
fn the_fill_depth_follows_the_traffic() {
    if !is_root() {
        return;
    }
    let lab = Lab::new(2, JUMBO);
    let wire = Running::start(&lab, XdpMode::Generic);
    let depth = |side| {
        (
            wire.counters(side).fill_target,
            wire.counters(side).receive_chunks,
        )
    };
    // Four times `fill_idle`, because interfaces are few.
    const IDLE: u32 = 128;
    assert_eq!([depth(0), depth(1)], [(IDLE, IDLE); 2]);
    let stop = flood(&lab, 60_000);
    wait_until("the depth grows", || depth(0).0 >= 1024);
    drop(stop);
    assert_eq!(depth(1), (IDLE, IDLE), "the other interface was idle");
    let relax = |wire: &mut wire::Wire| wire.sockets.iter_mut().flatten().for_each(Socket::relax);
    for _ in 0..9 {
        wire.ask(relax);
    }
    assert_eq!(depth(0).0, IDLE);
    // What is received into now is not replaced.
    let stop = flood(&lab, 100);
    wait_until("the ring drains", || {
        wire.ask(relax);
        depth(0).1 <= 1024
    });
    drop(stop);
    std::thread::sleep(Duration::from_millis(50));
    wire.assert_all_accounted_for();
}

#[test]
fn a_destination_that_takes_nothing_costs_one_kick_a_turn() {
    if !is_root() {
        return;
    }
    let lab = Lab::new(2, JUMBO);
    let wire = Running::start(&lab, XdpMode::Generic);
    lab.host.command("ip link set v2 down");
    // More frames than the ring has room for, as a worker sends them.
    let turn = |wire: &mut wire::Wire| {
        let (umem, free) = (wire.umem.clone(), &mut wire.free);
        let socket = wire.sockets[1].as_mut().expect("an open socket");
        let _ = socket.kick(free);
        socket.take_kicks();
        let mut refused = 0;
        for _ in 0..3000 {
            let mut frame = free.take().expect("a free frame");
            frame.view(&umem).bytes().head[..60].fill(0x55);
            free.set_length(&mut frame, 60);
            let sent = socket.transmit(frame).or_else(|frame| {
                if socket.make_room(free) {
                    socket.transmit(frame)
                } else {
                    Err(frame)
                }
            });
            if let Err(frame) = sent {
                refused += 1;
                free.release(frame);
            }
        }
        (refused, socket.take_kicks())
    };
    assert_eq!(wire.ask(turn), (3000 - 2048, 1));
    assert_eq!(wire.ask(turn), (3000, 1));
    // It takes frames again once it is up.
    lab.host.command("ip link set v2 up");
    wait_until("the ring empties", || {
        wire.ask(|wire| !wire.sockets[1].as_ref().expect("open").has_pending())
    });
    wire.assert_all_accounted_for();
}

#[test]
fn what_comes_in_unannounced_is_found_and_announced_again_afterwards() {
    if !is_root() {
        return;
    }
    let lab = Lab::new(2, JUMBO);
    let wire = Running::start(&lab, XdpMode::Generic);
    assert!(reaches(&lab));
    wire.ask(|wire| {
        wire.rests = false;
        wire.attend(0);
        wire.attend(1);
    });
    assert!(reaches(&lab), "looked into");
    let ready = wire.ask(|wire| wire.waiter.ready().collect::<Vec<_>>());
    assert_eq!(
        ready,
        [0, 1],
        "whether something came or not, and no one twice"
    );
    let index = lab.index(1);
    wire.ask(move |wire| {
        wire.close(0);
        wire.open(0, index, XdpMode::Generic);
    });
    assert!(reaches(&lab), "opened anew: announced");
    wire.ask(|wire| wire.rests = true);
    assert!(reaches(&lab), "announced");
    assert!(!wire.ask(|wire| wire.waiter.attends_any()));
    wire.assert_all_accounted_for();
}

#[test]
fn an_interface_deleted_under_traffic_loses_no_chunk_and_can_come_back() {
    if !is_root() {
        return;
    }
    let lab = Lab::new(2, JUMBO);
    let wire = Running::start(&lab, XdpMode::Generic);
    let stop = flood(&lab, 20_000);
    wait_until("traffic flows", || wire.ask(|wire| wire.forwarded) > 100);
    lab.host.command("ip link del v2");
    wait_until("the loss is told", || {
        wire.ask(|wire| wire.lost[1]) == Some(InterfaceLost::Gone)
    });
    wire.ask(|wire| {
        wire.close(1);
        let index = wire.redirect.unclaimed().expect("pins");
        assert_eq!(index, [], "the attachment is still ours");
    });
    drop(stop);
    std::thread::sleep(Duration::from_millis(50));
    wire.assert_all_accounted_for();

    lab.connect(2, JUMBO);
    lab.pods[1].command("ip neigh replace 10.99.0.1 lladdr 02:00:00:00:00:01 dev eth0");
    let index = lab.index(2);
    wire.ask(move |wire| wire.open(1, index, XdpMode::Generic));
    assert!(reaches(&lab));
    wire.assert_all_accounted_for();
}

#[test]
fn an_interface_that_is_down_is_told_from_one_that_is_gone() {
    if !is_root() {
        return;
    }
    let lab = Lab::new(2, 1500);
    let wire = Running::start(&lab, XdpMode::Generic);
    lab.host.command("ip link set v2 down");
    let stop = flood(&lab, 100);
    wait_until("the loss is told", || {
        wire.ask(|wire| wire.lost[1]) == Some(InterfaceLost::Down)
    });
    drop(stop);
    lab.host.command("ip link set v2 up");
    wait_until("traffic resumes", || reaches(&lab));
    wire.assert_all_accounted_for();
}

#[test]
fn without_a_socket_nothing_passes_and_the_next_daemon_takes_over() {
    if !is_root() {
        return;
    }
    let lab = Lab::new(2, 1500);
    // A host that would bridge, so that a frame passed on to it reaches the other pod.
    for line in ["ip link add bridge0 type bridge", "ip link set bridge0 up"] {
        lab.host.command(line);
    }
    lab.host.command("ip link set v1 master bridge0");
    lab.host.command("ip link set v2 master bridge0");
    wait_until("the host's bridge joins the pods", || reaches(&lab));

    let indices = [lab.index(1), lab.index(2)];
    let attach = move |redirect: &mut Redirect| {
        [0, 1].map(|side| {
            let (name, index) = (format!("v{}", side + 1), indices[side]);
            redirect
                .attach(
                    &name,
                    index,
                    side as u32,
                    InterfaceKind::Whole,
                    XdpMode::Generic,
                )
                .expect("the program attaches")
        })
    };
    let mut redirect = lab.host.run(move || {
        let mut redirect = Redirect::load(Path::new(PINS)).expect("the kernel program");
        assert_eq!(attach(&mut redirect), [Attachment::New; 2]);
        assert_eq!(attach(&mut redirect), [Attachment::Kept; 2]);
        redirect
    });
    assert!(!reaches(&lab), "attached, but without sockets");
    assert!(redirect.counters().expect("counters").no_socket > 0);
    redirect.unset_socket(0).expect("a slot without a socket");
    drop(redirect);
    assert!(!reaches(&lab), "the daemon is gone, the program stays");

    let pins = lab.host.run(|| {
        let redirect = Redirect::load(Path::new(PINS)).expect("the kernel program");
        redirect.unclaimed().expect("pins")
    });
    let mut names: Vec<&str> = pins.iter().map(|pin| pin.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["v1", "v2"]);

    let taken = lab.host.run(move || {
        let mut redirect = Redirect::load(Path::new(PINS)).expect("the kernel program");
        let taken = attach(&mut redirect);
        assert_eq!(redirect.unclaimed().expect("pins"), []);
        taken
    });
    assert_eq!(taken, [Attachment::TakenOver; 2]);
    assert!(!reaches(&lab), "taken over, but without sockets");

    let wire = Running::start(&lab, XdpMode::Generic);
    assert!(reaches(&lab), "with sockets");
    drop(wire);
    assert!(!reaches(&lab), "the sockets are gone");
    lab.host.run(move || {
        let mut redirect = Redirect::load(Path::new(PINS)).expect("the kernel program");
        for index in indices {
            redirect.detach(index).expect("detach");
            redirect
                .detach(index)
                .expect("detaching what is not attached");
        }
        assert_eq!(redirect.unclaimed().expect("pins"), []);
    });
    wait_until("detached", || reaches(&lab));
}

#[test]
fn what_cannot_be_attached_is_told_with_the_reason() {
    if !is_root() {
        return;
    }
    let lab = Lab::new(1, 1500);
    let index = lab.index(1);
    let errors = lab.host.run(move || {
        let load = |pins| Redirect::load(Path::new(pins)).expect("the kernel program");
        let (mut ours, mut other) = (load(PINS), load("/sys/fs/bpf/another/one"));
        let kind = InterfaceKind::Whole;
        ours.attach("v1", index, 0, kind, XdpMode::Generic)
            .expect("the program attaches");
        let fails = |redirect: &mut Redirect, index, slot, mode| {
            redirect
                .attach("v1", index, slot, kind, mode)
                .expect_err("cannot be")
                .to_string()
        };
        vec![
            fails(&mut other, index, 0, XdpMode::Generic),
            fails(&mut ours, index, 0, XdpMode::Native),
            fails(&mut ours, index + 99, 0, XdpMode::Generic),
            fails(&mut ours, index, 4096, XdpMode::Generic),
            ours.set_socket(4096, std::io::stdin())
                .expect_err("too large")
                .to_string(),
            ours.add_prefix("10.0.0.0".parse().expect("address"), 33)
                .expect_err("33")
                .to_string(),
            Redirect::load(Path::new("/tmp/portcullis-pins"))
                .expect_err("no bpffs")
                .to_string(),
        ]
    });
    assert_eq!(
        errors,
        [
            "v1: attaching in mode generic: another XDP program is attached (`bpftool net show` \
             names it)"
                .to_owned(),
            format!(
                "v1: expected XDP mode native, found it attached in mode generic: detach it first \
                 (remove {PINS}/link-v1-{index}-generic), which opens the interface for a moment"
            ),
            "v1: attaching in mode generic: the interface is gone".to_owned(),
            "v1: expected a slot below 4096, found 4096".to_owned(),
            "SOCKETS, slot 4096: the index is 4096 but `max_entries` is 4096".to_owned(),
            "10.0.0.0/33: expected a prefix length up to 32, found 33".to_owned(),
            errors[6].clone(),
        ]
    );
    assert!(
        errors[6].contains("mount -t bpf bpf /sys/fs/bpf"),
        "{}",
        errors[6]
    );
}

#[test]
fn an_attachment_to_an_interface_that_is_gone_is_forgotten() {
    if !is_root() {
        return;
    }
    let lab = Lab::new(2, 1500);
    let indices = [lab.index(1), lab.index(2)];
    lab.host.run(move || {
        let mut redirect = Redirect::load(Path::new(PINS)).expect("the kernel program");
        for (name, index) in ["v1", "v2"].into_iter().zip(indices) {
            redirect
                .attach(name, index, 0, InterfaceKind::Whole, XdpMode::Generic)
                .expect("the program attaches");
        }
    });
    lab.host.command("ip link del v1");
    lab.host.command("ip link set v2 down");
    lab.host.command("ip link set v2 name renamed");
    let pins = lab.host.run(move || {
        let mut redirect = Redirect::load(Path::new(PINS)).expect("the kernel program");
        let taken = redirect
            .attach(
                "renamed",
                indices[1],
                0,
                InterfaceKind::Whole,
                XdpMode::Generic,
            )
            .expect("the program attaches");
        assert_eq!(taken, Attachment::TakenOver);
        drop(redirect);
        Redirect::load(Path::new(PINS))
            .expect("the kernel program")
            .unclaimed()
            .expect("pins")
    });
    let (name, mode) = ("renamed".to_owned(), XdpMode::Generic);
    assert_eq!(
        pins,
        [Pin {
            name,
            index: indices[1],
            mode
        }]
    );
}

#[test]
fn an_uplink_gives_us_what_is_ours_and_the_host_the_rest() {
    if !is_root() {
        return;
    }
    let lab = Lab::new(1, 1500);
    let index = lab.index(1);
    lab.host.set("ipv6/conf/v1/disable_ipv6", "0");
    lab.pods[0].set("ipv6/conf/eth0/disable_ipv6", "0");
    lab.host.command("ip addr add 10.99.0.200/24 dev v1");
    lab.host.command("ip addr add fd99::200/64 dev v1 nodad");
    lab.pods[0].command("ip addr add fd99::1/64 dev eth0 nodad");
    for ours in ["10.99.0.65", "10.99.0.127", "10.99.0.70", "fd99::aa:1"] {
        let line = format!("ip neigh replace {ours} lladdr 02:00:00:00:00:99 dev eth0");
        lab.pods[0].command(&line);
    }
    let mut redirect = lab.host.run(move || {
        let mut redirect = Redirect::load(Path::new(PINS)).expect("the kernel program");
        let prefixes = [("10.99.0.64", 26), ("10.99.0.70", 32), ("fd99::aa:0", 112)];
        for (network, length) in prefixes {
            redirect
                .add_prefix(network.parse().expect("address"), length)
                .expect("room");
        }
        redirect
            .attach("v1", index, 3, InterfaceKind::Uplink, XdpMode::Generic)
            .expect("the program attaches");
        redirect
    });
    // ARP and neighbour discovery pass to the host, or these would not work.
    wait_until("the host answers", || {
        lab.pods[0].try_command("ping -c 1 -W 1 -q 10.99.0.200")
    });
    wait_until("the host answers", || {
        lab.pods[0].try_command("ping -c 1 -W 1 -q fd99::200")
    });
    assert_eq!(redirect.counters().expect("counters").no_socket, 0);

    let receive = |redirect: &mut Redirect, to: &'static str| {
        let before = redirect.counters().expect("counters");
        lab.pods[0].run(move || {
            let any = if to.contains(':') {
                "[::]:0"
            } else {
                "0.0.0.0:0"
            };
            UdpSocket::bind(any)
                .expect("bind")
                .send_to(b"ours?", (to, PORT))
                .expect("send");
        });
        let after = redirect.counters().expect("counters");
        (
            after.redirected - before.redirected,
            after.no_socket - before.no_socket,
        )
    };
    assert_eq!(
        receive(&mut redirect, "10.99.0.65"),
        (0, 1),
        "ours, without a socket"
    );
    let (umem, socket) = lab.host.run(|| {
        let umem = Umem::new(&settings()).expect("memory");
        let mut socket = Socket::open(&umem, "v1", 3).expect("a socket");
        socket.refill(&mut FreeFrames::new(&umem));
        (umem, socket)
    });
    redirect.set_socket(3, &socket).expect("a place in the map");
    for to in ["10.99.0.65", "10.99.0.127", "10.99.0.70", "fd99::aa:1"] {
        assert_eq!(receive(&mut redirect, to), (1, 0), "{to}");
    }
    assert_eq!(
        receive(&mut redirect, "10.99.0.200"),
        (0, 0),
        "the host's own"
    );

    // A removed prefix uncovers the shorter one; without that, the address is the host's.
    for (network, length, expected) in [("10.99.0.70", 32, (1, 0)), ("10.99.0.64", 26, (0, 0))] {
        redirect
            .remove_prefix(network.parse().expect("address"), length)
            .expect("remove");
        redirect
            .remove_prefix(network.parse().expect("address"), length)
            .expect("again");
        assert_eq!(
            receive(&mut redirect, "10.99.0.70"),
            expected,
            "{network}/{length}"
        );
    }
    drop(socket);
    assert_eq!(umem.census().free, umem.census().total);
}

#[test]
fn a_frame_made_here_is_received_by_a_pod() {
    if !is_root() {
        return;
    }
    let lab = Lab::new(2, JUMBO);
    let receiver = lab.pods[1].run(|| UdpSocket::bind(("10.99.0.2", PORT)).expect("bind"));
    receiver
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("timeout");
    let wire = Running::start(&lab, XdpMode::Generic);
    wire.ask(|wire| {
        let packet = udp_packet(b"made here");
        let empty = wire.free.take().expect("free memory");
        let out = wire.sockets[1].as_mut().expect("open");
        let mut frame = out
            .transmit(empty)
            .expect_err("the kernel would lose an empty frame");
        frame.view(&wire.umem).bytes().head[..packet.len()].copy_from_slice(&packet);
        wire.free.set_length(&mut frame, packet.len());
        assert_eq!((frame.length(), frame.pieces()), (packet.len(), 1));
        assert_eq!(frame.view(&wire.umem).bytes().length(), packet.len());
        out.transmit(frame).expect("room");
    });
    let mut buffer = [0; 64];
    let length = receiver.recv(&mut buffer).expect("the datagram");
    assert_eq!(&buffer[..length], b"made here");
}

/// Datagrams with a partial checksum, made here, as they arrive where nobody else finishes them.
fn arrived_partial(lab: &Lab, wire: &Running, payloads: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let tap = lab.pods[1].run(|| {
        let (family, kind) = (AddressFamily::Packet, SockType::Raw);
        let protocol = Some(SockProtocol::EthAll);
        socket(family, kind, SockFlag::empty(), protocol).expect("a packet socket")
    });
    let patience = TimeVal::new(5, 0);
    setsockopt(&tap, sockopt::ReceiveTimeout, &patience).expect("timeout");
    let packets: Vec<Vec<u8>> = payloads.iter().map(|bytes| partial_packet(bytes)).collect();
    let sent = packets.clone();
    wire.ask(move |wire| {
        for packet in packets {
            let mut frame = wire.free.take().expect("free memory");
            frame.view(&wire.umem).bytes().head[..packet.len()].copy_from_slice(&packet);
            wire.free.set_length(&mut frame, packet.len());
            let out = wire.sockets[1].as_mut().expect("open");
            out.transmit_partial(frame, 34, 6).expect("room");
        }
    });
    let mut buffer = [0; 2048];
    let mut receive = |sent: &Vec<u8>| loop {
        let length = recv(tap.as_raw_fd(), &mut buffer, MsgFlags::empty()).expect("a frame");
        // Others, such as ARP, are not ours.
        if buffer[..length].starts_with(&sent[..34]) {
            return buffer[..length].to_vec();
        }
    };
    sent.iter().map(&mut receive).collect()
}

#[test]
fn a_partial_checksum_is_finished_by_the_kernel_or_handed_on_as_such() {
    if !is_root() {
        return;
    }
    let lab = Lab::new(2, JUMBO);
    let receiver = lab.pods[1].run(|| UdpSocket::bind(("10.99.0.2", PORT)).expect("bind"));
    let patience = Some(Duration::from_secs(2));
    receiver.set_read_timeout(patience).expect("timeout");
    let wire = Running::start(&lab, XdpMode::Generic);
    assert!(wire.ask(|wire| wire.umem.finishes_checksums()));
    // The sum of the last comes out as zero, which UDP would read as "none". [RFC 768]
    let mut zero = vec![0, 0];
    let rest = word_sum(&partial_packet(&zero)[34..]);
    zero.copy_from_slice(&(!rest).to_be_bytes());
    let payloads = vec![b"even".to_vec(), b"odd".to_vec(), vec![9; 1400], zero];
    // First as a veth pair does it: nobody ever finishes them, and the pod knows. Then as a card
    // without the ability to do so.
    for is_finished in [false, true] {
        if is_finished {
            lab.host.command("ethtool -K v2 tx off");
        }
        let arrived = arrived_partial(&lab, &wire, payloads.clone());
        for (payload, packet) in payloads.iter().zip(&arrived) {
            let mut buffer = [0; 2048];
            let length = receiver.recv(&mut buffer).expect("the datagram");
            assert_eq!(&buffer[..length], payload);
            let mut whole = partial_packet(payload);
            if is_finished {
                let sum = match !word_sum(&whole[34..]) {
                    0 => 0xffff,
                    sum => sum,
                };
                whole[40..42].copy_from_slice(&sum.to_be_bytes());
            }
            assert_eq!(*packet, whole, "{is_finished}");
        }
        assert_eq!(arrived[3][40..42] == [0xff; 2], is_finished);
    }
    wire.assert_all_accounted_for();
}

#[test]
fn memory_without_metadata_finishes_no_checksums() {
    if !is_root() {
        return;
    }
    let lab = Lab::new(1, 1500);
    let finishes = lab.host.run(|| {
        let software = UmemSettings {
            offload_checksums: false,
            ..settings()
        };
        Umem::new(&software).expect("memory").finishes_checksums()
    });
    assert!(!finishes);
}

/// The folded sum of words, the last one filled up with a zero.
fn word_sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2);
    let words = words.map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The same packet with the partial checksum that a pod leaves to its card.
fn partial_packet(payload: &[u8]) -> Vec<u8> {
    let mut packet = udp_packet(payload);
    let mut pseudo_header = packet[26..34].to_vec();
    pseudo_header.extend([0, 17]);
    pseudo_header.extend((8 + payload.len() as u16).to_be_bytes());
    packet[40..42].copy_from_slice(&word_sum(&pseudo_header).to_be_bytes());
    packet
}

/// Ethernet, IPv4 and UDP from 10.99.0.1 to 10.99.0.2, without a UDP checksum.
fn udp_packet(payload: &[u8]) -> Vec<u8> {
    let total = 28 + payload.len() as u16;
    let mut packet = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    let mut header = vec![0x45, 0];
    header.extend(total.to_be_bytes());
    header.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 10, 99, 0, 1, 10, 99, 0, 2]);
    let words = header
        .chunks(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(header);
    packet.extend(9999_u16.to_be_bytes());
    packet.extend(PORT.to_be_bytes());
    packet.extend((8 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}
