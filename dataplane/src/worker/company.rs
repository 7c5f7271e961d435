//! Whether a worker has its core to itself.

use portcullis_engine::Now;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// A core is shared when the worker waited for it for this part of the time, in percent. Alone, it
/// only waits for the kernel's own threads.
const WAITED_MAX_PERCENT: u64 = 5;
/// It is looked at this often while there is work, in nanoseconds. Who shares the core changes as fast
/// as applications begin to talk.
const LOOK_EVERY: u64 = 10_000_000;
/// After this long without a look nothing is known of who is there now.
const KNOWN_FOR: u64 = 50_000_000;

/// How long the worker had to wait for its core.
#[derive(Debug)]
pub(super) struct Company {
    /// Without it the core counts as shared.
    file: Option<File>,
    waited: u64,
    seen: Now,
    is_alone: bool,
}

impl Company {
    /// Of the thread that calls this.
    pub fn of_this_thread(now: Now) -> Self {
        let mut company = Self {
            file: File::open("/proc/thread-self/schedstat").ok(),
            waited: 0,
            seen: now,
            is_alone: false,
        };
        company.waited = company.read().unwrap_or(0);
        company
    }

    /// Whether the worker had its core to itself when that was last looked at. To be asked after
    /// each turn with work: costs a system call every 10 ms.
    pub fn is_alone(&mut self, now: Now) -> bool {
        let span = now.0.saturating_sub(self.seen.0);
        if span < LOOK_EVERY {
            return self.is_alone;
        }
        self.seen = now;
        let Some(waited) = self.read() else {
            self.is_alone = false;
            return false;
        };
        let new = waited.saturating_sub(std::mem::replace(&mut self.waited, waited));
        self.is_alone = span < KNOWN_FOR && new * 100 <= span * WAITED_MAX_PERCENT;
        self.is_alone
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
    fn who_has_waited_or_has_not_looked_for_long_is_not_alone() {
        let mut company = Company::of_this_thread(Now(0));
        assert!(company.file.is_some());
        assert!(!company.is_alone(Now(LOOK_EVERY - 1)), "not known yet");
        // As if nothing had been waited, whatever the kernel has counted.
        company.waited = u64::MAX;
        assert!(company.is_alone(Now(LOOK_EVERY)));
        assert!(company.is_alone(Now(LOOK_EVERY + 1)), "still as it was");
        company.waited = u64::MAX;
        assert!(
            !company.is_alone(Now(LOOK_EVERY + KNOWN_FOR)),
            "too long ago"
        );
        company.waited = u64::MAX;
        assert!(company.is_alone(Now(2 * LOOK_EVERY + KNOWN_FOR)));
        company.file = None;
        assert!(!company.is_alone(Now(3 * LOOK_EVERY + KNOWN_FOR)));
    }
}
