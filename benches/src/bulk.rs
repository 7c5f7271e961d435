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
    /// # Errors
    /// A connection fails.
    ///
    /// # Panics
    /// When the port is taken.
    pub fn start(pair: &Pair, streams: usize) -> io::Result<Self> {
        let to = pair.server_at(BULK_PORT);
        let listener = pair.server().call(move || TcpListener::bind(to));
        let listener = listener.expect("the port is free");
        let mut bulk = Self {
            is_over: Arc::new(AtomicBool::new(false)),
            received: Arc::new(AtomicU64::new(0)),
            threads: Vec::new(),
        };
        for _ in 0..streams {
            if let Err(error) = bulk.open(pair, &listener) {
                // What the other streams say of it is the same, or nothing.
                let _ = bulk.end();
                return Err(error);
            }
        }
        Ok(bulk)
    }

    fn open(&mut self, pair: &Pair, listener: &TcpListener) -> io::Result<()> {
        let to = pair.server_at(BULK_PORT);
        let connecting = pair.client.place.thread(move || connect(to));
        let sender = connecting.join().expect("it does not panic")?;
        let (receiver, _) = listener.accept()?;
        let count = self.received.clone();
        self.threads.push(pair.server().thread(move || {
            pin(WORKER_CORE);
            receive(receiver, &count)
        }));
        let until = self.is_over.clone();
        self.threads.push(pair.client.place.thread(move || {
            pin(CLIENT_CORE);
            send(sender, &until)
        }));
        Ok(())
    }

    /// Bytes that the server has read.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Ends the streams.
    ///
    /// # Errors
    /// One of them had failed.
    ///
    /// # Panics
    /// Never: no stream's thread does.
    pub fn end(self) -> io::Result<()> {
        self.is_over.store(true, Relaxed);
        let ends = self.threads.into_iter().map(JoinHandle::join);
        // All are waited for, whatever the first says.
        let ends: Vec<_> = ends.map(|end| end.expect("it does not panic")).collect();
        ends.into_iter().collect()
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
