//! Shared memory: who holds which chunk when sockets come and go and memory runs out.

use crate::lab::{Namespace, is_root};
use portcullis::rings::{
    CHUNK_ROOM, Census, Frame, FreeFrames, RING_ENTRIES_FILL, Socket, Umem, UmemSettings, Waiter,
};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// A namespace with so many interfaces `d0`, `d1`, …, each one end of a pair.
fn host(interfaces: usize) -> Namespace {
    let host = Namespace::new();
    host.set("ipv6/conf/default/disable_ipv6", "1");
    host.command("ip link set lo up");
    for number in 0..interfaces {
        host.command(&format!(
            "ip link add d{number} up type veth peer name e{number}"
        ));
    }
    host
}

fn memory(frames: u32, transmit_reserve: u32) -> Arc<Umem> {
    let settings = UmemSettings {
        frames,
        transmit_reserve,
        ..UmemSettings::default()
    };
    Umem::new(&settings).expect("memory")
}

fn census(free: u32, held: u32, rings: u32) -> Census {
    Census {
        total: free + held + rings,
        free,
        held,
        rings,
        lost: 0,
    }
}

#[test]
fn sockets_that_come_and_go_lose_no_chunk() {
    if !is_root() {
        return;
    }
    host(1).run(|| {
        let umem = memory(1024, 64);
        let mut free = FreeFrames::new(&umem);
        for cycle in 0..30 {
            let mut socket = Socket::open(&umem, "d0", 5).expect("a socket");
            socket.refill(&mut free);
            for _ in 0..cycle {
                let mut frame = free.take().expect("free memory");
                free.set_length(&mut frame, 60);
                socket.transmit(frame).expect("room");
            }
            // Half of the time closed with frames in the transmit ring.
            if cycle % 2 == 0 {
                socket.kick(&mut free).expect("the interface is there");
            }
            let rings = socket.counters().receive_chunks + socket.counters().transmit_chunks;
            assert_eq!(umem.census(), census(1024 - rings, 0, rings));
            drop(socket);
            assert_eq!(umem.census(), census(1024, 0, 0));
        }
        drop(free);
        assert_eq!(umem.pooled() + umem.remaining(), 1024);
    });
}

#[test]
fn what_the_kernel_sent_comes_back() {
    if !is_root() {
        return;
    }
    host(1).run(|| {
        let umem = memory(1024, 64);
        let mut free = FreeFrames::new(&umem);
        let mut socket = Socket::open(&umem, "d0", 0).expect("a socket");
        for _ in 0..200 {
            let mut frame = free.take().expect("free memory");
            frame.view(&umem).bytes().head[..60].fill(2);
            free.set_length(&mut frame, 60);
            socket.transmit(frame).expect("room");
        }
        assert!(socket.has_pending());
        assert_eq!(umem.census(), census(824, 0, 200));
        // The kernel takes 32 packets a call; a kick ends when the ring is empty.
        socket.kick(&mut free).expect("the interface is there");
        assert!(!socket.has_pending());
        assert_eq!(umem.census(), census(1024, 0, 0));
    });
}

#[test]
fn a_full_transmit_ring_gives_the_frame_back() {
    if !is_root() {
        return;
    }
    host(1).run(|| {
        let umem = memory(4096, 64);
        let mut free = FreeFrames::new(&umem);
        let mut socket = Socket::open(&umem, "d0", 0).expect("a socket");
        let made = |free: &mut FreeFrames| {
            let mut frame = free.take().expect("free memory");
            free.set_length(&mut frame, CHUNK_ROOM);
            frame
        };
        for _ in 0..2048 {
            socket.transmit(made(&mut free)).expect("room");
        }
        let frame = socket
            .transmit(made(&mut free))
            .expect_err("the ring is full");
        assert_eq!(umem.census(), census(2047, 1, 2048));
        free.release(frame);
        drop(socket);
        assert_eq!(umem.census(), census(4096, 0, 0));
    });
}

#[test]
fn memory_that_runs_out_is_told_and_comes_back() {
    if !is_root() {
        return;
    }
    host(2).run(|| {
        let umem = memory(128, 100);
        let mut free = FreeFrames::new(&umem);
        let mut socket = Socket::open(&umem, "d0", 0).expect("a socket");
        let mut second = Socket::open(&umem, "d1", 1).expect("a socket");
        socket.refill(&mut free);
        second.refill(&mut free);
        // The second finds only the reserve in the pool, of which half is not for receiving.
        assert_eq!(socket.counters().receive_chunks, 32);
        assert_eq!(second.counters().receive_chunks, 14);
        let mut frames: Vec<Frame> = std::iter::from_fn(|| free.take()).collect();
        assert_eq!(frames.len(), 128 - 46);
        assert_eq!(umem.census(), census(0, 82, 46));
        frames.drain(..).for_each(|frame| free.release(frame));
        assert_eq!(umem.census(), census(82, 0, 46));
    });
}

#[test]
fn workers_even_out_their_free_memory() {
    if !is_root() {
        return;
    }
    host(0).run(|| {
        let umem = memory(512, 64);
        let (taker, giver) = (umem.clone(), umem.clone());
        // One only takes and one only gives: 100 times all the memory passes through the pool.
        let (hand, handed) = std::sync::mpsc::sync_channel::<Frame>(64);
        let takes = thread::spawn(move || {
            let mut free = FreeFrames::new(&taker);
            let mut taken = 0;
            while taken < 51_200 {
                match free.take() {
                    Some(frame) => {
                        taken += 1;
                        hand.send(frame).expect("the giver lives");
                    }
                    None => thread::yield_now(),
                }
            }
        });
        let gives = thread::spawn(move || {
            let mut free = FreeFrames::new(&giver);
            handed.iter().for_each(|frame| free.release(frame));
        });
        takes.join().expect("the taker");
        gives.join().expect("the giver");
        assert_eq!(umem.census(), census(512, 0, 0));
        assert_eq!((umem.pooled(), umem.remaining()), (512, 0));
    });
}

#[test]
fn settings_and_sockets_that_cannot_be_are_refused_with_the_reason() {
    if !is_root() {
        return;
    }
    let errors = host(1).run(|| {
        let refused =
            |settings: UmemSettings| Umem::new(&settings).expect_err("refused").to_string();
        let default = UmemSettings::default;
        let umem = memory(128, 64);
        let _socket = Socket::open(&umem, "d0", 7).expect("a socket");
        let open = |name, slot| {
            Socket::open(&umem, name, slot)
                .expect_err("refused")
                .to_string()
        };
        vec![
            refused(UmemSettings {
                frames: 100,
                ..default()
            }),
            refused(UmemSettings {
                fill_idle: RING_ENTRIES_FILL + 1,
                ..default()
            }),
            refused(UmemSettings {
                transmit_reserve: 16_384,
                ..default()
            }),
            refused(UmemSettings {
                anchor: "none".to_owned(),
                ..default()
            }),
            open("e0", 7),
            open("e0", 70_000),
            open("d1", 8),
            open("d0", 8),
        ]
    });
    assert_eq!(
        errors,
        [
            "frames: expected a multiple of 64 up to 16777216, found 100".to_owned(),
            "fill_idle: expected 1 to 4096, found 4097".to_owned(),
            "transmit_reserve: expected less than 16384 frames, found 16384".to_owned(),
            "none: No such device (os error 19)".to_owned(),
            "e0: slot 7 is in use or too large".to_owned(),
            "e0: slot 70000 is in use or too large".to_owned(),
            "d1: No such device (os error 19)".to_owned(),
            "d0: queue 0 has a socket of ours already".to_owned(),
        ]
    );
}

#[test]
#[should_panic(expected = "the frame is of other memory")]
fn a_frame_of_other_memory_is_not_viewed() {
    if !is_root() {
        panic!("the frame is of other memory: not tested without root");
    }
    let hosts = [host(0), host(0)];
    let umems = hosts.each_ref().map(|host| host.run(|| memory(128, 64)));
    let mut frame = FreeFrames::new(&umems[0]).take().expect("free memory");
    // The frame itself is not lost, only this thread.
    let other = umems[1].clone();
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        frame.view(&other);
    }));
    FreeFrames::new(&umems[0]).release(frame);
    std::panic::resume_unwind(seen.expect_err("viewed"));
}

#[test]
fn work_on_the_bytes_of_a_frame_sees_what_a_view_shows() {
    if !is_root() {
        return;
    }
    host(0).run(|| {
        let umem = memory(128, 64);
        let mut free = FreeFrames::new(&umem);
        let mut frame = free.take().expect("a free frame");
        frame.with_bytes(&umem, |bytes| {
            assert_eq!(bytes.head.len(), CHUNK_ROOM);
            bytes.head[..3].copy_from_slice(&[1, 2, 3]);
        });
        free.set_length(&mut frame, 3);
        let seen = frame.with_bytes(&umem, |bytes| (bytes.bytes().to_vec(), bytes.tail.len()));
        assert_eq!(seen, (vec![1, 2, 3], 0));
        assert_eq!(frame.view(&umem).bytes().bytes(), [1, 2, 3]);
        free.release(frame);
    });
}

#[test]
fn a_waiter_tells_of_its_waker_and_of_nothing_else() {
    let mut waiter = Waiter::new().expect("a waiter");
    let waker = waiter.waker();
    let begun = Instant::now();
    assert!(
        !waiter
            .wait(Some(Duration::from_millis(20)))
            .expect("a wait")
    );
    assert!(begun.elapsed() >= Duration::from_millis(20));
    let ringer = thread::spawn(move || {
        waker.wake();
        waker.clone().wake();
    });
    assert!(waiter.wait(None).expect("a wait"));
    ringer.join().expect("the ringer");
    assert_eq!(waiter.ready().count(), 0);
    // However often it was rung meanwhile, once heard it is silent.
    let _ = waiter.wait(Some(Duration::ZERO)).expect("a wait");
    assert!(!waiter.wait(Some(Duration::ZERO)).expect("a wait"));
}

#[test]
fn a_second_daemon_on_the_same_host_is_refused() {
    if !is_root() {
        return;
    }
    let (error, waited) = host(0).run(|| {
        let _first = memory(128, 64);
        let begun = Instant::now();
        let error = Umem::new(&UmemSettings::default())
            .expect_err("refused")
            .to_string();
        (error, begun.elapsed())
    });
    assert_eq!(
        error,
        "lo: another process has had a socket on it for 3 s: a second daemon?"
    );
    assert!(
        waited >= Duration::from_secs(3),
        "a restarted daemon is waited for: {waited:?}"
    );
}
