//! A prober: asks by UDP a hundred times a second, and remembers when answers came.

use crate::place::Place;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often it asks.
const PERIOD: Duration = Duration::from_millis(10);

/// Asks an echo server until dropped.
#[derive(Debug)]
pub struct Prober {
    is_ended: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    answers: Arc<Mutex<Vec<Instant>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Prober {
    /// Starts to ask `to`, from any place.
    ///
    /// # Panics
    /// When the place has no socket to give.
    #[must_use]
    pub fn start(place: &Place, to: SocketAddr) -> Self {
        let any = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        let socket = place.call(move || UdpSocket::bind(any)).expect("a socket");
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("a timeout");
        let ears = socket.try_clone().expect("a second handle");
        let (is_ended, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let answers = Arc::new(Mutex::new(Vec::new()));
        let (ended, count) = (is_ended.clone(), sent.clone());
        let asking = thread::spawn(move || {
            while !ended.load(Relaxed) {
                // Unreachable is what may be expected; answers are what counts.
                let _ = socket.send_to(b"probe", to);
                count.fetch_add(1, Relaxed);
                thread::sleep(PERIOD);
            }
        });
        let (ended, heard) = (is_ended.clone(), answers.clone());
        let hearing = thread::spawn(move || {
            let mut bytes = [0; 64];
            while !ended.load(Relaxed) {
                if ears.recv(&mut bytes).is_ok() {
                    heard
                        .lock()
                        .expect("no thread panicked with it")
                        .push(Instant::now());
                }
            }
        });
        Self {
            is_ended,
            sent,
            answers,
            threads: vec![asking, hearing],
        }
    }

    /// Questions asked so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Answers that came later than `since`.
    ///
    /// # Panics
    /// Never: nothing panics with the lock held.
    #[must_use]
    pub fn answers_since(&self, since: Instant) -> usize {
        let answers = self.answers.lock().expect("no thread panicked with it");
        answers.iter().filter(|&&when| when > since).count()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.is_ended.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // Its panic, if any, has been printed.
            let _ = thread.join();
        }
    }
}
