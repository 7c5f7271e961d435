//! A file that grows to a bound, then makes room: `flows.log`, before it `flows.log.1`, and so on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Flows tell who talks to whom: nobody else may read them.
const MODE: u32 = 0o600;
/// How hard full files are pressed: fast, for it is done while more comes.
const COMPRESSION_LEVEL: i32 = 3;

/// How much is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bounds {
    pub bytes_max: u64,
    pub backups_max: u32,
    pub compress: bool,
}

/// The file that is written now, and those before it.
#[derive(Debug)]
pub(super) struct RotatedFile {
    path: PathBuf,
    bounds: Bounds,
    /// None after a failure, until the next attempt.
    file: Option<BufWriter<File>>,
    bytes: u64,
}

impl RotatedFile {
    /// A file that is made with its first line.
    pub fn new(path: PathBuf, bounds: Bounds) -> Self {
        Self {
            path,
            bounds,
            file: None,
            bytes: 0,
        }
    }

    /// Adds a line whole. True when it began another file.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn write(&mut self, line: &[u8]) -> io::Result<bool> {
        if self.file.is_none() {
            self.open()?;
        }
        let length = line.len() as u64;
        let is_full = self.bytes > 0 && self.bytes + length > self.bounds.bytes_max;
        if is_full {
            self.flush()?;
            self.file = None;
            self.make_room()?;
            self.open()?;
        }
        if let Some(file) = &mut self.file {
            let written = file.write_all(line);
            if written.is_err() {
                self.file = None;
            }
            written?;
            self.bytes += length;
        }
        Ok(is_full)
    }

    /// Lets readers see what was written.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        let flushed = self.file.as_mut().map_or(Ok(()), Write::flush);
        if flushed.is_err() {
            self.file = None;
        }
        flushed
    }

    fn open(&mut self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .append(true)
            .mode(MODE)
            .open(&self.path)?;
        // One that was there may be open to others.
        file.set_permissions(fs::Permissions::from_mode(MODE))?;
        self.bytes = file.metadata()?.len();
        self.file = Some(BufWriter::new(file));
        Ok(())
    }

    /// The full file becomes the first backup, each backup the next, and the last one goes.
    fn make_room(&self) -> io::Result<()> {
        let last = self.bounds.backups_max;
        if last == 0 {
            return fs::remove_file(&self.path);
        }
        for suffix in ["", ".zst"] {
            remove(&self.backup(last, suffix))?;
            for number in (1..last).rev() {
                let from = self.backup(number, suffix);
                if from.exists() {
                    fs::rename(from, self.backup(number + 1, suffix))?;
                }
            }
        }
        let first = self.backup(1, "");
        fs::rename(&self.path, &first)?;
        if self.bounds.compress {
            compress(&first, &self.backup(1, ".zst"))?;
        }
        Ok(())
    }

    fn backup(&self, number: u32, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}{suffix}"));
        name.into()
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn compress(from: &Path, to: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let into = options
        .create(true)
        .truncate(true)
        .write(true)
        .mode(MODE)
        .open(to)?;
    zstd::stream::copy_encode(File::open(from)?, into, COMPRESSION_LEVEL)?;
    fs::remove_file(from)
}
