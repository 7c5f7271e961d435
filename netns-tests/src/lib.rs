//! Lab: network namespaces, veth pairs, real clients and servers around a real daemon.
//!
//! A [`Lab`] is a node with an uplink to the world beyond it. Its namespaces are held by threads
//! alone, and its files lie on a tmpfs in a private mount namespace, so nothing is left behind
//! however a test ends: not after a panic, not after `kill -9`.
//!
//! ```no_run
//! use netns_tests::Lab;
//! let Some(lab) = Lab::new("") else { return };
//! let api = lab.pod("backend/api", &["app=backend"], &["10.0.1.10"]);
//! let web = lab.pod("frontend/web", &["app=frontend"], &["10.0.1.11"]);
//! api.serve_pages();
//! lab.start_daemon();
//! assert_eq!(web.fetch("http://10.0.1.10/"), Some("page of backend/api\n".into()));
//! ```

mod binary;
mod browser;
mod capture;
mod daemon;
mod follower;
mod lab;
pub mod manifests;
mod place;
mod pod;
mod prober;
mod raw;
mod status;
mod talk;

pub use binary::portcullis;
pub use browser::Browser;
pub use capture::{Capture, Captured};
pub use follower::Follower;
pub use lab::{
    BPFFS_DIRECTORY, LOG_FILE, Lab, NODE_ADDRESSES, POD_CIDRS, SOCKET_FILE, STATE_DIRECTORY,
    WORLD_ADDRESSES,
};
pub use place::{Place, Ran};
pub use pod::{
    Pod, ask_by_udp, connect, counter, echo_by_tcp, echo_by_udp, fetch, gets_nothing, serve_pages,
    tell_peer_by_udp,
};
pub use prober::Prober;
pub use raw::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Tap, ethernet, ipv4, ipv4_fragment, ipv6, ipv6_fragment,
    send_raw, udp, udp_over_ipv6,
};
pub use status::Status;
pub use talk::{Ended, Talk, echo_and_tell};

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How long a change may take to be seen, before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until the answer is yes.
///
/// # Panics
/// When it is not yes within [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(
            since.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a word to an echo server over an open connection, and says whether it came back before the
/// stream's time ran out.
pub fn is_echoed(stream: &mut TcpStream, word: &[u8]) -> bool {
    let mut answer = vec![0; word.len()];
    let exchanged = stream
        .write_all(word)
        .and_then(|()| stream.read_exact(&mut answer));
    exchanged.is_ok() && answer == word
}
