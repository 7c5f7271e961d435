//! Bulk over TCP: streams that send as fast as they can, congestion control cubic.
//!
//! Not iperf3: the harness needs the processor time of exactly the measured part, and short runs.

use crate::machine::{CLIENT_CORE, WORKER_CORE, pin};
use crate::path::Pair;
use crate::policies::BULK_PORT;
use nix::sys::socket::{setsockopt, sockopt};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes of one write, and of one read.
const PIECE: usize = 128 * 1024;
/// How long a stream waits for the other end before the sample is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Streams that send until they are ended.
#[derive(Debug)]
pub struct Bulk {
    is_over: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Bulk {
    /// Opens the streams and starts to send.
    ///
    /// # Panics
    /// When a connection fails.
    #[must_use]
    pub fn start(pair: &Pair, streams: usize) -> Self {
        let to = pair.server_at(BULK_PORT);
        let listener = pair.server().call(move || TcpListener::bind(to));
        let listener = listener.expect("the port is free");
        let is_over = Arc::new(AtomicBool::new(false));
        let received = Arc::new(AtomicU64::new(0));
        let mut threads = Vec::new();
        for _ in 0..streams {
            let connecting = pair.client.place.thread(move || connect(to));
            let sender = connecting.join().expect("it does not panic");
            let sender = sender.expect("it is let in");
            let (receiver, _) = listener.accept().expect("somebody has connected");
            let count = received.clone();
            threads.push(pair.server().thread(move || {
                pin(WORKER_CORE);
                receive(receiver, &count)
            }));
            let until = is_over.clone();
            threads.push(pair.client.place.thread(move || {
                pin(CLIENT_CORE);
                send(sender, &until)
            }));
        }
        Self {
            is_over,
            received,
            threads,
        }
    }

    /// Bytes that the server has read.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Ends the streams.
    ///
    /// # Panics
    /// When one failed.
    pub fn end(self) {
        self.is_over.store(true, Relaxed);
        for thread in self.threads {
            thread
                .join()
                .expect("it does not panic")
                .expect("the stream holds");
        }
    }
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    setsockopt(&stream, sockopt::TcpCongestion, &OsString::from("cubic"))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn send(mut stream: TcpStream, is_over: &AtomicBool) -> io::Result<()> {
    let bytes = vec![0x55; PIECE];
    while !is_over.load(Relaxed) {
        stream.write_all(&bytes)?;
    }
    Ok(())
}

fn receive(mut stream: TcpStream, count: &AtomicU64) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = vec![0; PIECE];
    loop {
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            length => count.fetch_add(length as u64, Relaxed),
        };
    }
}
