//! A process that reads what the daemon tells, with its output in a file of the node.

use crate::binary::portcullis;
use crate::lab::{Lab, SOCKET_FILE};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::process::{Child, ExitStatus, Stdio};

/// A reader that stays; it ends with this.
#[derive(Debug)]
pub struct Follower<'a> {
    lab: &'a Lab,
    child: Child,
    path: String,
}

impl<'a> Follower<'a> {
    /// `portcullis observe --follow` with further arguments. `name` is that of its file.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn observe(lab: &'a Lab, name: &str, arguments: &str) -> Self {
        let binary = portcullis().to_str().expect("the path is text");
        let mut words = vec![binary, "observe", "--follow", "--socket", SOCKET_FILE];
        words.extend(arguments.split_whitespace());
        Self::start(lab, name, &words)
    }

    /// Any command.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(lab: &'a Lab, name: &str, words: &[&str]) -> Self {
        let path = format!("/run/{name}");
        let created = path.clone();
        let file = lab.node.call(|| File::create(created).expect("a file"));
        let child = lab
            .node
            .spawn_words(words, Stdio::from(file), Stdio::inherit());
        Self { lab, child, path }
    }

    /// What it has printed so far.
    #[must_use]
    pub fn text(&self) -> String {
        self.lab.node.read(&self.path)
    }

    /// Stops it where it is, whatever that may be.
    ///
    /// # Panics
    /// When it has ended.
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it has ended.
    pub fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it does not.
    pub fn await_end(&mut self) -> ExitStatus {
        let mut status = None;
        crate::eventually("a reader ends", || {
            status = self.child.try_wait().expect("our own child can be asked");
            status.is_some()
        });
        status.expect("it has ended")
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a process id"));
        kill(pid, signal).expect("our own child can be signalled");
    }
}

impl Drop for Follower<'_> {
    fn drop(&mut self) {
        // It may have ended with the daemon.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
