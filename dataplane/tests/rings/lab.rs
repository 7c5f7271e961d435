//! A private host and pods: network namespaces that live in threads, and end with them.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{geteuid, gettid};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

/// Says so, loudly, when the tests cannot run.
pub fn is_root() -> bool {
    let root = geteuid().is_root();
    if !root {
        eprintln!(
            "SKIPPED: this test makes network namespaces and loads a kernel program: run it as root"
        );
    }
    root
}

/// A network and mount namespace with a BPF file system of its own, alive as long as its thread.
pub struct Namespace {
    path: String,
    jobs: mpsc::Sender<Box<dyn FnOnce() + Send>>,
}

impl Namespace {
    pub fn new() -> Self {
        let (jobs, work) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("unshare");
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
            mount(
                Some("bpf"),
                "/sys/fs/bpf",
                Some("bpf"),
                MsFlags::empty(),
                none,
            )
            .expect("bpffs");
            let path = format!("/proc/{}/task/{}/ns/net", std::process::id(), gettid());
            tell.send(path).expect("the maker waits");
            work.iter().for_each(|job| job());
        });
        Self {
            path: told.recv().expect("a namespace"),
            jobs,
        }
    }

    /// Starts `job` in the namespace, on a thread of its own.
    pub fn spawn<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let (tell, told) = mpsc::channel();
        // A thread starts in the namespaces of the thread that starts it.
        let start = move || tell.send(thread::spawn(job)).expect("the caller waits");
        self.jobs
            .send(Box::new(start))
            .expect("the namespace lives");
        told.recv().expect("a thread")
    }

    /// Runs `job` in the namespace and gives its result.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        match self.spawn(job).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs a command that must succeed.
    pub fn command(&self, line: &str) {
        assert!(self.try_command(line), "{line}");
    }

    /// Runs a command and says whether it succeeded.
    pub fn try_command(&self, line: &str) -> bool {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let job = move || Command::new(&words[0]).args(&words[1..]).output();
        self.run(job).expect("the command exists").status.success()
    }

    /// What a command prints.
    pub fn output(&self, line: &str) -> String {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let job = move || Command::new(&words[0]).args(&words[1..]).output();
        let output = self.run(job).expect("the command exists");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Writes a kernel setting of the namespace.
    pub fn set(&self, setting: &str, value: &'static str) {
        let path = Path::new("/proc/sys/net").join(setting);
        self.run(move || std::fs::write(path, value))
            .expect("the setting exists");
    }
}

/// A host with pods on veth pairs: pod `n` is 10.99.0.n with MAC 02::n behind the host's `v<n>`.
pub struct Lab {
    pub host: Namespace,
    pub pods: Vec<Namespace>,
}

impl Lab {
    /// A host and `count` pods with devices of `mtu` bytes, which know each other's MAC address
    /// and finish their own checksums.
    pub fn new(count: usize, mtu: u32) -> Self {
        let host = Namespace::new();
        host.set("ipv6/conf/all/disable_ipv6", "1");
        host.set("ipv6/conf/default/disable_ipv6", "1");
        host.command("ip link set lo up");
        let mut lab = Self {
            host,
            pods: Vec::new(),
        };
        for number in 1..=count {
            lab.pods.push(Namespace::new());
            lab.connect(number, mtu);
        }
        for own in 1..=count {
            for other in (1..=count).filter(|&other| other != own) {
                lab.pods[own - 1].command(&format!(
                    "ip neigh replace 10.99.0.{other} lladdr 02:00:00:00:00:0{other} dev eth0"
                ));
            }
        }
        lab
    }

    /// Gives pod `number` its veth pair.
    pub fn connect(&self, number: usize, mtu: u32) {
        let pod = &self.pods[number - 1];
        pod.set("ipv6/conf/all/disable_ipv6", "1");
        pod.set("ipv6/conf/default/disable_ipv6", "1");
        self.host.command(&format!(
            "ip link add v{number} mtu {mtu} type veth peer name eth0 \
             address 02:00:00:00:00:0{number} mtu {mtu} netns {}",
            pod.path
        ));
        self.host.command(&format!("ip link set v{number} up"));
        pod.command("ip link set eth0 up");
        pod.command(&format!("ip addr add 10.99.0.{number}/24 dev eth0"));
        pod.command("ethtool -K eth0 tx off");
    }

    /// The index of the host's interface to pod `number`.
    pub fn index(&self, number: usize) -> u32 {
        let path = format!("/sys/class/net/v{number}/ifindex");
        let line = self.host.output(&format!("ip -o link show v{number}"));
        let index = line
            .split(':')
            .next()
            .and_then(|index| index.trim().parse().ok());
        index.unwrap_or_else(|| panic!("{path}: {line}"))
    }
}
