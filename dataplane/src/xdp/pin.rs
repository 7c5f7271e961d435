//! Where attachments are kept while no daemon runs: files in a BPF file system.

use super::XdpMode;
use super::error::XdpError;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// `BPF_FS_MAGIC`, linux/magic.h.
const BPF_FS: u32 = 0xcafe_4a11;

/// The file of one attachment: `link-<interface>-<index>-<mode>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The interface's name when it was attached.
    pub name: String,
    /// The interface's index: what identifies it.
    pub index: u32,
    /// The mode that the program was attached in.
    pub mode: XdpMode,
}

impl Pin {
    pub(super) fn file_name(&self) -> String {
        format!("link-{}-{}-{}", self.name, self.index, self.mode.key())
    }

    /// Reads a file's name; None when it is not an attachment's.
    fn parse(file: &str) -> Option<Self> {
        // From the end, because an interface's name may hold dashes.
        let (rest, mode) = file.strip_prefix("link-")?.rsplit_once('-')?;
        let (name, index) = rest.rsplit_once('-')?;
        let (index, mode) = (index.parse().ok()?, XdpMode::of_key(mode)?);
        Some(Self {
            name: name.to_owned(),
            index,
            mode,
        })
    }
}

/// The attachments that are kept in a directory.
pub(super) fn pins(directory: &Path) -> Result<Vec<Pin>, XdpError> {
    let failed = |error: &std::io::Error| XdpError::caused(directory.display(), error);
    let mut pins = Vec::new();
    for file in fs::read_dir(directory).map_err(|error| failed(&error))? {
        let name = file.map_err(|error| failed(&error))?.file_name();
        pins.extend(name.to_str().and_then(Pin::parse));
    }
    Ok(pins)
}

/// Removes an attachment's file; the attachment ends when nobody has it open either.
pub(super) fn remove(path: &Path) -> Result<(), XdpError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(XdpError::caused(path.display(), &error))
        }
        _ => Ok(()),
    }
}

/// Makes sure that `directory` exists and lies in a BPF file system, where attachments outlive
/// the daemon.
///
/// # Errors
/// It lies elsewhere (the error names the command that helps), or cannot be made.
pub fn ensure_bpffs(directory: &Path) -> Result<(), XdpError> {
    let existing = directory.ancestors().find(|path| path.exists());
    let existing: PathBuf = existing.unwrap_or(Path::new("/")).to_owned();
    let found = rustix::fs::statfs(&existing)
        .map_err(|error| XdpError::caused(existing.display(), &error))?;
    if found.f_type as u32 != BPF_FS {
        return Err(XdpError::new(
            directory.display(),
            format!(
                "expected a BPF file system, found type {:#x} at {}: run \
                 `mount -t bpf bpf /sys/fs/bpf`, or choose a directory in one",
                found.f_type,
                existing.display()
            ),
        ));
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| XdpError::caused(directory.display(), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_tells_interface_index_and_mode() {
        for (name, index, mode) in [
            ("eth0", 2, XdpMode::Native),
            ("a-b-9", 4_000_000_000, XdpMode::Generic),
        ] {
            let pin = Pin {
                name: name.to_owned(),
                index,
                mode,
            };
            assert_eq!(Pin::parse(&pin.file_name()), Some(pin));
        }
    }

    #[test]
    fn other_files_are_left_alone() {
        for file in [
            "link-eth0",
            "link-eth0-2",
            "link-eth0-x-generic",
            "link-eth0-2-best",
            "map",
        ] {
            assert_eq!(Pin::parse(file), None, "{file}");
        }
    }

    #[test]
    fn a_directory_elsewhere_is_refused_with_the_command_that_helps() {
        let error = ensure_bpffs(Path::new("/proc/portcullis"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("/proc/portcullis: expected a BPF file system, found"),
            "{error}"
        );
        assert!(error.contains("`mount -t bpf bpf /sys/fs/bpf`"), "{error}");
    }
}
