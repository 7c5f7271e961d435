//! A talk: a connection whose client says something again and again and checks that it is echoed.

use crate::place::Place;
use crate::pod::connect;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

/// How and when a connection ended, as one end saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// What the socket said; `UnexpectedEof` for an end in order.
    pub why: ErrorKind,
    /// When.
    pub at: SystemTime,
}

impl Ended {
    fn now(why: ErrorKind) -> Self {
        Self {
            why,
            at: SystemTime::now(),
        }
    }
}

/// The client's end of a connection that talks until it is told to stop, or cannot.
#[derive(Debug)]
pub struct Talk {
    is_stopped: Arc<AtomicBool>,
    exchanges: Arc<AtomicU64>,
    thread: JoinHandle<Option<Ended>>,
}

impl Talk {
    /// Connects any place to an echo server and begins to talk, once in each period.
    ///
    /// # Errors
    /// Refused or not answered in time.
    pub fn start(place: &Place, to: SocketAddr, period: Duration) -> io::Result<Self> {
        let stream = connect(place, to)?;
        let (is_stopped, exchanges) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stop, count) = (is_stopped.clone(), exchanges.clone());
        let thread = thread::spawn(move || talk(stream, period, &stop, &count));
        Ok(Self {
            is_stopped,
            exchanges,
            thread,
        })
    }

    /// Words that have come back right.
    #[must_use]
    pub fn exchanges(&self) -> u64 {
        self.exchanges.load(Relaxed)
    }

    /// Waits for an end that nobody here asked for.
    ///
    /// # Panics
    /// When the talk goes on.
    #[must_use]
    #[track_caller]
    pub fn await_end(self) -> Ended {
        crate::eventually("the connection ends", || self.thread.is_finished());
        let ended = self.thread.join().expect("talking does not panic");
        ended.expect("nobody stopped it")
    }

    /// Stops talking, and gives the end that came before, if one did.
    ///
    /// # Panics
    /// Never: the thread only talks.
    #[must_use]
    pub fn stop(self) -> Option<Ended> {
        self.is_stopped.store(true, Relaxed);
        self.thread.join().expect("talking does not panic")
    }
}

fn talk(
    mut stream: TcpStream,
    period: Duration,
    is_stopped: &AtomicBool,
    exchanges: &AtomicU64,
) -> Option<Ended> {
    while !is_stopped.load(Relaxed) {
        let word = exchanges.load(Relaxed).to_be_bytes();
        let mut answer = [0; 8];
        let exchanged = stream
            .write_all(&word)
            .and_then(|()| stream.read_exact(&mut answer));
        match exchanged {
            Ok(()) if answer == word => exchanges.fetch_add(1, Relaxed),
            Ok(()) => return Some(Ended::now(ErrorKind::InvalidData)),
            Err(error) => return Some(Ended::now(error.kind())),
        };
        thread::sleep(period);
    }
    None
}

/// As `echo_by_tcp`, and tells of the end of each connection as the server saw it.
///
/// # Panics
/// When the port is taken.
#[must_use]
pub fn echo_and_tell(place: &Place, port: u16) -> Receiver<Ended> {
    let listener = place
        .call(move || TcpListener::bind(("::", port)))
        .expect("the port is free");
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let tell = tell.clone();
            thread::spawn(move || {
                let mut bytes = [0; 4096];
                let why = loop {
                    match stream.read(&mut bytes) {
                        Ok(0) => break ErrorKind::UnexpectedEof,
                        Ok(length) => {
                            if let Err(error) = stream.write_all(&bytes[..length]) {
                                break error.kind();
                            }
                        }
                        Err(error) => break error.kind(),
                    }
                };
                // The test may be over.
                let _ = tell.send(Ended::now(why));
            });
        }
    });
    told
}
