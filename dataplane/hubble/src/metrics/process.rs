//! What the kernel knows of this process: time, memory, open files.

use super::family::Families;
use std::fmt;
use std::fs;

/// The kernel tells times to user space in hundredths of a second on every architecture that we
/// build for. [proc(5), USER_HZ]
const TICKS_A_SECOND: f64 = 100.0;

/// The process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Process {
    cpu_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    open_files: u64,
    /// None where there is no bound.
    open_files_max: Option<u64>,
    threads: u64,
}

/// Writes them under Prometheus' own names and under Cilium's. What cannot be read is left out.
pub(super) fn write(families: &mut Families<'_>, started_seconds: f64) -> fmt::Result {
    let Some(process) = read() else {
        return Ok(());
    };
    for prefix in ["process", "cilium_process"] {
        families.counter(
            &format!("{prefix}_cpu_seconds"),
            "Seconds of processor time that the daemon used, all threads together.",
            [(Vec::new(), process.cpu_seconds)],
        )?;
        families.number(
            &format!("{prefix}_resident_memory_bytes"),
            "Memory that the daemon has in use, packet memory included.",
            process.resident_bytes,
        )?;
        families.number(
            &format!("{prefix}_virtual_memory_bytes"),
            "Address space that the daemon has reserved.",
            process.virtual_bytes,
        )?;
        families.number(
            &format!("{prefix}_open_fds"),
            "Files and sockets that the daemon has open.",
            process.open_files,
        )?;
        families.gauge(
            &format!("{prefix}_max_fds"),
            "Files and sockets that the daemon may have open.",
            process.open_files_max.map(|max| (Vec::new(), max as f64)),
        )?;
        families.gauge(
            &format!("{prefix}_start_time_seconds"),
            "When the daemon started, in seconds since 1970.",
            [(Vec::new(), started_seconds)],
        )?;
    }
    families.number(
        "portcullis_threads",
        "Threads of the daemon.",
        process.threads,
    )
}

fn read() -> Option<Process> {
    let mut process = of_texts(
        &fs::read_to_string("/proc/self/stat").ok()?,
        &fs::read_to_string("/proc/self/status").ok()?,
    )?;
    process.open_files = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    process.open_files_max = open_files_max(&fs::read_to_string("/proc/self/limits").ok()?);
    Some(process)
}

/// The soft limit: `Max open files  1024  1048576  files`.
fn open_files_max(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn of_texts(stat: &str, status: &str) -> Option<Process> {
    // The name may have spaces and brackets of its own, so count from behind it.
    let (_, numbers) = stat.rsplit_once(") ")?;
    let numbers: Vec<&str> = numbers.split(' ').collect();
    let ticks = |place: usize| numbers.get(place)?.parse::<f64>().ok();
    let of_status = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let value = line.trim_start_matches(':').split_whitespace().next()?;
        value.parse::<u64>().ok()
    };
    Some(Process {
        cpu_seconds: (ticks(11)? + ticks(12)?) / TICKS_A_SECOND,
        resident_bytes: of_status("VmRSS")? * 1024,
        virtual_bytes: of_status("VmSize")? * 1024,
        open_files: 0,
        open_files_max: None,
        threads: of_status("Threads")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_whatever_the_process_calls_itself() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 1 2 3";
        let status = "Name:\ta\nVmSize:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t9\n";
        let expected = Process {
            cpu_seconds: 3.0,
            resident_bytes: 1 << 20,
            virtual_bytes: 1 << 21,
            open_files: 0,
            open_files_max: None,
            threads: 9,
        };
        assert_eq!(of_texts(stat, status), Some(expected));
        let limits = "Limit  Soft  Hard  Units\nMax open files            1024                 4096                 files\n";
        assert_eq!(open_files_max(limits), Some(1024));
        assert_eq!(
            open_files_max("Max open files unlimited unlimited files"),
            None
        );
        assert!(read().is_some_and(|process| process.open_files > 0));
    }
}
