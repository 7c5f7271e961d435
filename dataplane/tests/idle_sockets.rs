//! What an idle interface costs in memory: a process of its own, because that is measured whole.
//! Needs root.

#[path = "rings/lab.rs"]
#[allow(dead_code, reason = "shared with the other tests, which use all of it")]
mod lab;

use lab::{Namespace, is_root};
use portcullis::rings::{Census, FreeFrames, Socket, Umem, UmemSettings};
use std::fs;
use std::time::Instant;

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("statm");
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("resident pages") * 4096
}

fn census(free: u32, rings: u32) -> Census {
    Census {
        total: free + rings,
        free,
        held: 0,
        rings,
        lost: 0,
    }
}

#[test]
fn two_hundred_and_fifty_idle_sockets_cost_little_memory() {
    if !is_root() {
        return;
    }
    const SOCKETS: u32 = 250;
    let host = Namespace::new();
    host.set("ipv6/conf/default/disable_ipv6", "1");
    host.command("ip link set lo up");
    let lines: String = (0..SOCKETS)
        .map(|number| format!("link add d{number} up type veth peer name e{number}\n"))
        .collect();
    let file = std::env::temp_dir().join(format!("rings-{}", std::process::id()));
    fs::write(&file, lines).expect("a file");
    host.command(&format!("ip -batch {}", file.display()));
    fs::remove_file(&file).expect("the file");
    host.run(|| {
        let umem = Umem::new(&UmemSettings::default()).expect("memory");
        let mut free = FreeFrames::new(&umem);
        let before = resident();
        let begun = Instant::now();
        let open = |slot: u32| {
            let mut socket = Socket::open(&umem, &format!("d{slot}"), slot).expect("a socket");
            socket.refill(&mut free);
            socket
        };
        let sockets: Vec<Socket> = (0..SOCKETS).map(open).collect();
        let (opened, after) = (begun.elapsed(), resident());
        let each = (after - before) / u64::from(SOCKETS);
        let chunks: Vec<u32> =
            sockets.iter().map(|socket| socket.counters().receive_chunks).collect();
        let (fewest, sum) = (chunks.iter().min(), chunks.iter().sum());
        assert_eq!(umem.census(), census(16_384 - sum, sum));
        assert_eq!(fewest, Some(&32));
        assert!(sum <= 16_384 - 2048, "{sum} chunks leave less than the reserve");
        drop(sockets);
        println!(
            "{SOCKETS} sockets: {each} bytes of rings each, {sum} chunks in all; opened in {opened:?}, closed in {:?}",
            begun.elapsed() - opened
        );
        assert_eq!(umem.census(), census(16_384, 0));
        assert!(each < 192 << 10, "{each} bytes for each socket");
    });
}
