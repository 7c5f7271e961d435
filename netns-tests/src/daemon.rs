//! The daemon of a Lab: started, killed, stopped, asked whether it is ready.

use crate::binary::portcullis;
use crate::lab::{BPFFS_DIRECTORY, LOG_FILE, Lab, SOCKET_FILE, STATE_DIRECTORY};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::process::{Child, ExitStatus, Stdio};

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Daemon(Child);

impl Daemon {
    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id().try_into().expect("a process id"));
        kill(pid, signal).expect("our own child can be signalled");
    }

    /// Ends it in any case.
    pub(crate) fn end(mut self) {
        // It may have ended by itself; waiting for it is then all that is left.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Lab {
    /// Starts the daemon and waits until every worker has the first tables.
    ///
    /// # Panics
    /// When it runs already, ends at once, or is not ready in time.
    #[track_caller]
    pub fn start_daemon(&self) {
        let mut running = self.daemon.lock().expect("no test thread panicked with it");
        assert!(running.is_none(), "the daemon runs already");
        let binary = portcullis().to_str().expect("the path is text");
        let log = self
            .node
            .call(|| File::options().create(true).append(true).open(LOG_FILE));
        let log = log.expect("the log can be written");
        let words = [
            binary,
            "run",
            "--state",
            STATE_DIRECTORY,
            "--socket",
            SOCKET_FILE,
            "--bpffs",
            BPFFS_DIRECTORY,
        ];
        let child = self.node.spawn_words(
            &words,
            Stdio::from(log.try_clone().expect("a second handle")),
            Stdio::from(log),
        );
        *running = Some(Daemon(child));
        drop(running);
        crate::eventually("the daemon is ready", || {
            self.assert_alive();
            self.try_status().is_ok_and(|status| status.is_ready())
        });
        for netns in self
            .node
            .must("ip netns list")
            .lines()
            .filter_map(|l| l.split(' ').next())
        {
            self.await_link(netns);
        }
    }

    /// Kills the daemon as the kernel's memory killer would: with no time to tidy up.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill_daemon(&self) {
        self.end_daemon(Signal::SIGKILL);
    }

    /// Asks the daemon to end, and gives its status.
    ///
    /// # Panics
    /// When it does not run.
    pub fn stop_daemon(&self) -> ExitStatus {
        self.end_daemon(Signal::SIGTERM)
    }

    /// The daemon's process id, for figures.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn daemon_pid(&self) -> u32 {
        let running = self.daemon.lock().expect("no test thread panicked with it");
        running.as_ref().expect("the daemon runs").0.id()
    }

    /// Whether it was started and not ended since.
    #[must_use]
    pub fn is_daemon_running(&self) -> bool {
        self.daemon.lock().is_ok_and(|running| running.is_some())
    }

    /// That the daemon has not ended by itself.
    ///
    /// # Panics
    /// When it has.
    #[track_caller]
    pub fn assert_alive(&self) {
        let mut running = self.daemon.lock().expect("no test thread panicked with it");
        let daemon = running.as_mut().expect("the daemon was started");
        let ended = daemon.0.try_wait().expect("our own child can be asked");
        assert_eq!(
            ended,
            None,
            "the daemon ended: {}",
            self.node.read(LOG_FILE)
        );
    }

    fn end_daemon(&self, signal: Signal) -> ExitStatus {
        let mut running = self.daemon.lock().expect("no test thread panicked with it");
        let mut daemon = running.take().expect("the daemon runs");
        daemon.signal(signal);
        daemon.0.wait().expect("our own child can be waited for")
    }
}
