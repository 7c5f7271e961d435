//! The embedded source: a directory of YAML files, watched.

use super::source::{Source, SourceError, SourceFile, SourceState};
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// The name of the file that holds the node's settings.
pub const CONFIG_FILE: &str = "config.yaml";

/// Files that are read from one directory.
const FILES_MAX: usize = 10_000;
/// Bytes that are read from one file.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Several files that are put down together shall be seen together.
const SETTLE: Duration = Duration::from_millis(40);
/// A file that is held open for writing is waited for, but not for ever.
const SETTLE_MAX: Duration = Duration::from_secs(2);

/// A watched directory.
pub struct Directory {
    path: PathBuf,
    events: Receiver<notify::Result<notify::Event>>,
    /// Dropped with the directory: ends the watch.
    _watcher: RecommendedWatcher,
    /// What was found last: what is the same needs no second look.
    last: Option<Result<SourceState, SourceError>>,
}

impl Directory {
    /// Begins to watch.
    ///
    /// # Errors
    /// When the directory does not exist or cannot be watched.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let fault = |fault: String| SourceError {
            place: path.display().to_string(),
            fault,
        };
        if !path.is_dir() {
            return Err(fault("expected a directory of manifests".into()));
        }
        let (tell, events) = channel();
        let mut watcher =
            notify::recommended_watcher(tell).map_err(|e| fault(format!("cannot watch: {e}")))?;
        watcher
            .watch(path, RecursiveMode::NonRecursive)
            .map_err(|e| fault(format!("cannot watch: {e}")))?;
        Ok(Self {
            path: path.to_owned(),
            events,
            _watcher: watcher,
            last: None,
        })
    }

    /// Waits for a change, and then until nobody has a file open for writing: half a policy must
    /// never be read as a whole one.
    fn wait(&self) {
        let mut open = HashSet::new();
        loop {
            match self.events.recv() {
                Ok(event) if note(&event, &mut open) => break,
                Ok(_) => {}
                // The watcher is gone; without it only a restart sees changes.
                Err(_) => std::thread::park(),
            }
        }
        let since = Instant::now();
        while since.elapsed() < SETTLE_MAX {
            match self.events.recv_timeout(SETTLE) {
                Ok(event) => {
                    note(&event, &mut open);
                }
                Err(RecvTimeoutError::Timeout) if open.is_empty() => return,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

impl Source for Directory {
    fn next(&mut self) -> Result<SourceState, SourceError> {
        loop {
            if self.last.is_some() {
                self.wait();
            }
            let state = read_state(&self.path);
            if self.last.as_ref() != Some(&state) {
                self.last = Some(state.clone());
                return state;
            }
        }
    }
}

/// Reads what a directory holds now.
///
/// # Errors
/// When it cannot be read, or holds more than is read at one time.
pub fn read_state(directory: &Path) -> Result<SourceState, SourceError> {
    let fault = |place: &Path, e: &dyn std::fmt::Display| SourceError {
        place: place.display().to_string(),
        fault: e.to_string(),
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(|e| fault(directory, &e))? {
        let path = entry.map_err(|e| fault(directory, &e))?.path();
        if is_manifest(&path) && path.is_file() {
            paths.push(path);
        }
    }
    if paths.len() > FILES_MAX {
        let found = format!(
            "expected at most {FILES_MAX} manifests, found {}",
            paths.len()
        );
        return Err(fault(directory, &found));
    }
    paths.sort();
    let mut state = SourceState::default();
    for path in paths {
        let length = fs::metadata(&path).map_err(|e| fault(&path, &e))?.len();
        if length > FILE_BYTES_MAX {
            let found = format!("expected at most {FILE_BYTES_MAX} bytes, found {length}");
            return Err(fault(&path, &found));
        }
        let text = fs::read_to_string(&path).map_err(|e| fault(&path, &e))?;
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let file = SourceFile { name, text };
        if file.name == CONFIG_FILE {
            state.config = Some(file);
        } else {
            state.files.push(file);
        }
    }
    Ok(state)
}

/// Editors leave `.web.yaml.swp`, `#web.yaml#` and `web.yaml~` beside the files they change.
fn is_manifest(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let suffix = path.extension().unwrap_or_default();
    !name.starts_with('.') && (suffix == "yaml" || suffix == "yml" || suffix == "json")
}

/// Keeps account of who is writing: a file is open from its first change to its close. Says whether
/// anything may have changed; reading, ours too, changes nothing.
fn note(event: &notify::Result<notify::Event>, open: &mut HashSet<PathBuf>) -> bool {
    // An error of the watcher may have cost events.
    let Ok(event) = event else { return true };
    let is_reading = match event.kind {
        EventKind::Access(kind) => kind != AccessKind::Close(AccessMode::Write),
        _ => false,
    };
    if is_reading || !event.paths.iter().any(|path| is_manifest(path)) {
        return event.need_rescan();
    }
    for path in event.paths.iter().filter(|path| is_manifest(path)) {
        match event.kind {
            EventKind::Modify(notify::event::ModifyKind::Data(_))
            | EventKind::Create(notify::event::CreateKind::File) => {
                open.insert(path.clone());
            }
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Remove(_)
            | EventKind::Modify(notify::event::ModifyKind::Name(_)) => {
                open.remove(path);
            }
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("portcullis-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn the_first_call_reads_and_the_second_waits_for_a_change() {
        let path = directory("first");
        fs::write(path.join("a.yaml"), "a").unwrap();
        fs::write(path.join("config.yaml"), "c").unwrap();
        fs::write(path.join(".a.yaml.swp"), "no").unwrap();
        fs::write(path.join("notes.txt"), "no").unwrap();
        let mut source = Directory::open(&path).unwrap();
        let config = Some(SourceFile {
            name: "config.yaml".into(),
            text: "c".into(),
        });
        let a = SourceFile {
            name: "a.yaml".into(),
            text: "a".into(),
        };
        assert_eq!(
            source.next().unwrap(),
            SourceState {
                config: config.clone(),
                files: vec![a.clone()]
            }
        );
        fs::write(path.join("b.yaml.tmp"), "b").unwrap();
        fs::rename(path.join("b.yaml.tmp"), path.join("b.yaml")).unwrap();
        let b = SourceFile {
            name: "b.yaml".into(),
            text: "b".into(),
        };
        assert_eq!(
            source.next().unwrap(),
            SourceState {
                config,
                files: vec![a, b]
            }
        );
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_file_that_is_still_being_written_is_waited_for() {
        use std::io::Write;
        let path = directory("writing");
        let mut source = Directory::open(&path).unwrap();
        assert_eq!(source.next().unwrap(), SourceState::default());
        let target = path.join("slow.yaml");
        let writer = std::thread::spawn(move || {
            let mut file = fs::File::create(target).unwrap();
            for part in ["one ", "two ", "three"] {
                file.write_all(part.as_bytes()).unwrap();
                std::thread::sleep(SETTLE * 3);
            }
        });
        let whole = SourceFile {
            name: "slow.yaml".into(),
            text: "one two three".into(),
        };
        assert_eq!(source.next().unwrap().files, vec![whole]);
        writer.join().unwrap();
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let error = Directory::open(Path::new("/nowhere/at/all")).err().unwrap();
        assert_eq!(
            error.to_string(),
            "/nowhere/at/all: expected a directory of manifests"
        );
    }
}
