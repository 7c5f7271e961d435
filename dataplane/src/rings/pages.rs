//! Asks the kernel for large pages where memory is read in no order.

use rustix::mm::{Advice, madvise};

/// Smallest page there is.
const PAGE: usize = 4096;

/// Has the kernel back these bytes with pages of 2 MB as far as it can: a table of flows is read all
/// over, and of small pages the processor knows only a few thousand by heart. Known flows of a
/// million cost 175 ns a packet instead of 400. [measured: docs/profile.md]
///
/// To be called before the memory is used; without large pages all runs the same, only slower.
pub fn want_large_pages(start: *const u8, length: usize) {
    let first = (start as usize).next_multiple_of(PAGE);
    let end = (start as usize + length) / PAGE * PAGE;
    if first < end {
        let start = start.wrapping_add(first - start as usize).cast_mut();
        // SAFETY: this advice never changes what the memory holds, whatever the address.
        let _ = unsafe { madvise(start.cast(), end - first, Advice::LinuxHugepage) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// What the kernel notes of the mapping that an address is in. [proc_pid_smaps(5)]
    fn flags_at(address: usize) -> String {
        let text = fs::read_to_string("/proc/self/smaps").expect("our mappings");
        let mut is_there = false;
        for line in text.lines() {
            let bounds = line.split_once(' ').and_then(|(b, _)| b.split_once('-'));
            let number = |text| usize::from_str_radix(text, 16).ok();
            if let Some((first, end)) = bounds.and_then(|(a, b)| number(a).zip(number(b))) {
                is_there = (first..end).contains(&address);
            } else if is_there && let Some(flags) = line.strip_prefix("VmFlags:") {
                return format!("{flags} ");
            }
        }
        panic!("no mapping at {address:#x}");
    }

    #[test]
    fn large_pages_are_asked_for_within_the_memory_and_not_beside_it() {
        if !Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
            return;
        }
        let memory: Vec<u8> = Vec::with_capacity(8 << 20);
        let start = memory.as_ptr() as usize;
        let (first, length) = (start + 100, 4 << 20);
        want_large_pages(first as *const u8, length);
        assert!(flags_at(first + PAGE).contains(" hg "));
        assert!(flags_at(first + length - PAGE).contains(" hg "));
        assert!(!flags_at(first + length + PAGE).contains(" hg "));
        // Less than a page: nothing to do.
        want_large_pages(first as *const u8, 100);
    }
}
