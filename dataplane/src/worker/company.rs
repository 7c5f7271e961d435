//! Whether a worker has its core to itself.

use portcullis_engine::Now;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// A core is shared when the worker waited for it for this part of the time, in percent. Alone, it
/// only waits for the kernel's own threads.
const WAITED_MAX_PERCENT: u64 = 5;

/// How long the worker had to wait for its core.
#[derive(Debug)]
pub(super) struct Company {
    /// Without it the core counts as shared.
    file: Option<File>,
    waited: u64,
    seen: Now,
}

impl Company {
    /// Of the thread that calls this.
    pub fn of_this_thread(now: Now) -> Self {
        let mut company = Self {
            file: File::open("/proc/thread-self/schedstat").ok(),
            waited: 0,
            seen: now,
        };
        company.waited = company.read().unwrap_or(0);
        company
    }

    /// Whether the core was shared since the last call. A system call: once a second.
    pub fn is_shared(&mut self, now: Now) -> bool {
        let Some(waited) = self.read() else {
            return true;
        };
        let new = waited.saturating_sub(std::mem::replace(&mut self.waited, waited));
        let span = now
            .0
            .saturating_sub(std::mem::replace(&mut self.seen, now).0);
        new * 100 > span * WAITED_MAX_PERCENT
    }

    /// Nanoseconds that the thread was ready to run and did not. [proc(5), schedstat]
    fn read(&self) -> Option<u64> {
        let mut bytes = [0; 80];
        let length = self.file.as_ref()?.read_at(&mut bytes, 0).ok()?;
        let text = std::str::from_utf8(&bytes[..length]).ok()?;
        text.split_ascii_whitespace().nth(1)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_waited_for_a_tenth_of_the_time_is_not_alone() {
        let mut company = Company::of_this_thread(Now(0));
        assert!(company.file.is_some());
        company.waited = company.read().expect("the kernel counts");
        // As if nothing had been waited in a second, then all that was waited within a nanosecond.
        assert!(!company.is_shared(Now(1 << 40)));
        company.file = None;
        assert!(company.is_shared(Now(1 << 41)));
    }
}
