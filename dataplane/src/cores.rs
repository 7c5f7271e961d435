//! Which cores workers are pinned to when the settings do not say.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A core as the kernel describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Core {
    /// Its number.
    pub id: usize,
    /// The lowest number among those that share its execution units: a physical core's name.
    pub physical: usize,
    /// The memory that is near to it.
    pub node: Option<usize>,
    /// Whether interrupts of the uplink come in there.
    pub takes_interrupts: bool,
}

/// The cores of the workers, and why these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// One for each worker; empty when none is pinned.
    pub cores: Vec<usize>,
    /// For people.
    pub reason: String,
}

/// Cores for so many workers, near to the uplink if there is one.
#[must_use]
pub fn choose(workers: usize, uplink: Option<&str>) -> Choice {
    let (cores, near) = read(Path::new("/sys"), Path::new("/proc"), uplink);
    choose_from(&cores, near, workers)
}

/// The choice as such.
///
/// At least half of the physical cores stay without a worker: a worker that is pinned cannot make
/// way for an application, and the scheduler can still put an application beside it.
fn choose_from(cores: &[Core], near: Option<usize>, workers: usize) -> Choice {
    let all: BTreeSet<usize> = cores.iter().map(|core| core.physical).collect();
    if all.len() < 2 * workers || all.len() < 4 {
        let reason = format!(
            "not pinned: {} physical cores for {workers} workers leave too few to others",
            all.len()
        );
        return Choice {
            cores: Vec::new(),
            reason,
        };
    }
    // One of each physical core, and of those the one that nothing else prefers.
    let mut candidates: Vec<Core> = cores
        .iter()
        .filter(|core| core.id == core.physical)
        .copied()
        .collect();
    candidates.sort_by_key(|core| {
        let is_far = near.is_some() && core.node != near;
        // The kernel's own work prefers the first core.
        (is_far, core.takes_interrupts, core.id == 0, core.id)
    });
    let chosen: Vec<Core> = candidates.into_iter().take(workers).collect();
    let is_near = near.is_some() && chosen.iter().all(|core| core.node == near);
    let is_quiet = chosen.iter().all(|core| !core.takes_interrupts);
    let mut reason = String::from("physical cores");
    if is_near {
        reason.push_str(", near to the uplink's memory");
    }
    if is_quiet {
        reason.push_str(", without its interrupts");
    }
    Choice {
        cores: chosen.into_iter().map(|core| core.id).collect(),
        reason,
    }
}

/// The cores that this process may use, and the memory that the uplink is near to.
fn read(sys: &Path, proc: &Path, uplink: Option<&str>) -> (Vec<Core>, Option<usize>) {
    let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let nodes: Vec<(usize, Vec<usize>)> = numbered(&sys.join("devices/system/node"), "node")
        .map(|node| {
            let path = sys.join(format!("devices/system/node/node{node}/cpulist"));
            (node, list(&text(&path)))
        })
        .collect();
    let device = uplink.map(|uplink| sys.join("class/net").join(uplink).join("device"));
    // Of a device without a place the kernel says -1, and a virtual one has no device.
    let near = device
        .as_ref()
        .and_then(|device| text(&device.join("numa_node")).trim().parse().ok());
    let busy: BTreeSet<usize> = device
        .iter()
        .flat_map(|device| numbered(&device.join("msi_irqs"), ""))
        .flat_map(|number| {
            list(&text(
                &proc.join(format!("irq/{number}/effective_affinity_list")),
            ))
        })
        .collect();
    let allowed = core_affinity::get_core_ids().unwrap_or_default();
    let cores = allowed.into_iter().map(|core| {
        let id = core.id;
        let path = format!("devices/system/cpu/cpu{id}/topology/thread_siblings_list");
        let siblings = list(&text(&sys.join(path)));
        Core {
            id,
            physical: siblings.first().copied().unwrap_or(id),
            node: nodes
                .iter()
                .find(|(_, of_node)| of_node.contains(&id))
                .map(|(node, _)| *node),
            takes_interrupts: busy.contains(&id),
        }
    });
    (cores.collect(), near)
}

/// The numbers of entries that are called `prefix` and a number.
fn numbered(directory: &Path, prefix: &'static str) -> impl Iterator<Item = usize> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let name = entry.file_name();
        name.to_str()?.strip_prefix(prefix)?.parse().ok()
    })
}

/// Reads `0-3,8`.
fn list(text: &str) -> Vec<usize> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            numbers.extend(first..=last);
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sockets of four cores with two threads each: core and core + 8 are one.
    fn server() -> Vec<Core> {
        let core = |id: usize| Core {
            id,
            physical: id % 8,
            node: Some(id % 8 / 4),
            takes_interrupts: id % 8 == 4,
        };
        (0..16).map(core).collect()
    }

    #[test]
    fn workers_have_physical_cores_near_to_the_uplink_and_away_from_its_interrupts() {
        let choice = choose_from(&server(), Some(1), 3);
        let expected = Choice {
            cores: vec![5, 6, 7],
            reason: "physical cores, near to the uplink's memory, without its interrupts".into(),
        };
        assert_eq!(choice, expected);
    }

    #[test]
    fn when_the_near_ones_are_out_the_far_ones_serve_and_the_first_core_comes_last() {
        let choice = choose_from(&server(), Some(0), 4);
        assert_eq!(choice.cores, [1, 2, 3, 0]);
        assert_eq!(choose_from(&server(), None, 2).cores, [1, 2]);
    }

    #[test]
    fn on_a_small_machine_nobody_is_pinned() {
        let core = |id| Core {
            id,
            physical: id,
            node: Some(0),
            takes_interrupts: false,
        };
        let two: Vec<Core> = (0..2).map(core).collect();
        let choice = choose_from(&two, None, 1);
        assert_eq!(choice.cores, Vec::<usize>::new());
        assert!(choice.reason.starts_with("not pinned: 2 physical cores"));
        assert_eq!(choose_from(&server(), None, 5).cores, Vec::<usize>::new());
    }

    #[test]
    fn lists_of_the_kernel_are_read() {
        assert_eq!(list("0-2,8\n"), [0, 1, 2, 8]);
        assert_eq!(list("\n"), Vec::<usize>::new());
    }

    #[test]
    fn this_machine_is_read() {
        let (cores, _) = read(Path::new("/sys"), Path::new("/proc"), None);
        assert!(!cores.is_empty());
        assert!(cores.iter().all(|core| core.physical <= core.id));
    }
}
