//! A place: a thread in namespaces of its own, where jobs and commands run.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

type Job = Box<dyn FnOnce() + Send>;

/// How long a command may run.
const COMMAND_MAX: Duration = Duration::from_secs(60);

/// Network and mount namespaces, alive as long as their thread. Commands that were started here
/// are killed when it ends.
#[derive(Debug)]
pub struct Place {
    name: String,
    jobs: mpsc::Sender<Job>,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Whether it ended with status 0, in time.
    pub is_success: bool,
    /// What it printed.
    pub stdout: String,
    /// What it printed on its standard error.
    pub stderr: String,
}

impl Place {
    /// A network namespace with nothing in it but a loopback interface that is down, and a private
    /// mount namespace: /run is empty, /sys shows this network, /sys/fs/bpf is its own.
    ///
    /// # Panics
    /// Without the rights of root.
    #[must_use]
    pub fn isolated(name: &str) -> Self {
        Self::start(name.to_owned(), || {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("unshare, as root");
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private mounts");
            for (kind, target) in [("tmpfs", "/run"), ("sysfs", "/sys"), ("bpf", "/sys/fs/bpf")] {
                mount(
                    Some("lab"),
                    target,
                    Some(kind),
                    MsFlags::empty(),
                    None::<&str>,
                )
                .unwrap_or_else(|error| panic!("mount {kind} on {target}: {error}"));
            }
            fs::create_dir("/run/netns").expect("the new /run is empty");
        })
    }

    /// The named network namespace of `node`, in its mount namespace.
    ///
    /// # Panics
    /// When there is none with this name.
    #[must_use]
    pub fn inside(node: &Self, netns: &str) -> Self {
        let (name, path) = (netns.to_owned(), format!("/run/netns/{netns}"));
        // A thread starts in the namespaces of the thread that starts it.
        node.call(move || {
            Self::start(name, move || {
                let file = File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
                setns(file, CloneFlags::CLONE_NEWNET).expect("setns, as root");
            })
        })
    }

    fn start(name: String, enter: impl FnOnce() + Send + 'static) -> Self {
        let (jobs, todo) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                enter();
                tell.send(()).expect("`start` waits");
                todo.iter().for_each(|job| job());
            })
            .expect("a thread can be started");
        told.recv()
            .unwrap_or_else(|_| panic!("{name} could not be entered"));
        Self { name, jobs }
    }

    /// Runs a short job on the place's own thread.
    ///
    /// # Panics
    /// When the job did.
    pub fn call<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let job = move || {
            // The caller may have given up; then nobody wants the answer.
            let _ = tell.send(job());
        };
        self.jobs
            .send(Box::new(job))
            .unwrap_or_else(|_| panic!("{} has ended", self.name));
        told.recv()
            .unwrap_or_else(|_| panic!("{} ended during a job", self.name))
    }

    /// Starts a job on a thread of its own.
    pub fn thread<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.call(move || thread::spawn(job))
    }

    /// Runs a command of words without quotes to its end.
    pub fn run(&self, line: &str) -> Ran {
        self.run_words(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs a command that must succeed, and gives what it printed.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn must(&self, line: &str) -> String {
        let ran = self.run(line);
        assert!(
            ran.is_success,
            "{}: `{line}`: {}{}",
            self.name, ran.stdout, ran.stderr
        );
        ran.stdout
    }

    /// Runs a command to its end; it is killed after a minute.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run_words(&self, words: &[&str]) -> Ran {
        let child = self.start_words(words, Stdio::piped(), Stdio::piped());
        let pid = Pid::from_raw(child.id().try_into().expect("a process id"));
        let (tell, told) = mpsc::channel();
        thread::spawn(move || tell.send(child.wait_with_output()));
        let (is_in_time, output) = match told.recv_timeout(COMMAND_MAX) {
            Ok(output) => (true, output),
            Err(_) => {
                // It may have ended just now; then there is nobody to kill.
                let _ = kill(pid, Signal::SIGKILL);
                (false, told.recv().expect("the waiting thread answers"))
            }
        };
        let output = output.expect("the command's end can be waited for");
        Ran {
            is_success: is_in_time && output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts a command that runs on; it is killed when the place ends.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(&self, line: &str) -> Child {
        self.spawn_words(
            &line.split_whitespace().collect::<Vec<_>>(),
            Stdio::null(),
            Stdio::inherit(),
        )
    }

    /// Starts a command that serves until the place ends.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn serve(&self, line: &str) {
        let mut child = self.spawn(line);
        // Somebody has to take note of its end; what its status was is nobody's business.
        thread::spawn(move || child.wait());
    }

    /// Starts a command that runs on, with its output where the caller wants it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn_words(&self, words: &[&str], stdout: Stdio, stderr: Stdio) -> Child {
        let child = self.start_words(words, stdout, stderr);
        // Until `setpriv` has asked for it, no signal would come with the end of the place. A child
        // that has not yet become `setpriv` still has the name of the thread.
        let comm = format!("/proc/{}/comm", child.id());
        let thread_name = self.name.get(..15).unwrap_or(&self.name);
        crate::eventually("a command is bound to its place", || {
            fs::read_to_string(&comm).map_or(true, |name| {
                ![thread_name, "setpriv"].contains(&name.trim())
            })
        });
        child
    }

    fn start_words(&self, words: &[&str], stdout: Stdio, stderr: Stdio) -> Child {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        // The signal comes when the *thread* ends that started the child: so it is this one.
        self.call(move || {
            Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "--"])
                .args(&words)
                .stdin(Stdio::null())
                .stdout(stdout)
                .stderr(stderr)
                .spawn()
        })
        .unwrap_or_else(|error| panic!("{}: cannot start: {error}", self.name))
    }

    /// Writes a file in the place's mount namespace.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        let (path, bytes) = (path.to_owned(), bytes.into());
        self.call(move || {
            fs::write(&path, bytes).unwrap_or_else(|error| panic!("write {path}: {error}"));
        });
    }

    /// Reads a file in the place's mount namespace; empty when there is none.
    #[must_use]
    pub fn read(&self, path: &str) -> String {
        let path = path.to_owned();
        let bytes = self.call(move || fs::read(path).unwrap_or_default());
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The name, as in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}
