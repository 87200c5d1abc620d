//! The directory of the flight recorder: its lock, its segments, its file of findings.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock, statvfs};

use crate::output::recorder::keep::{self, Limits, Part};
use crate::record_format::segments::{self, FINDINGS, LOCK, MOST_FINDINGS, Noted};

/// Most findings remembered; the oldest are forgotten first.
const MOST_NOTED: usize = 4096;

/// A disk counts as full with less room than this, so that the oldest segment goes before a write fails: the share of
/// it, and the bounds of that.
const RESERVE_SHARE: u64 = 64;
const RESERVE: (u64, u64) = (256 << 10, 4 << 20);

/// The directory, which nobody else writes.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Locked for as long as it is open.
    _lock: File,
    /// Complete segments, the oldest first.
    parts: Vec<(Part, PathBuf)>,
    noted: Vec<Noted>,
    /// A segment could not be removed, which was said.
    told: bool,
}

impl Directory {
    /// Makes it where it is missing, and locks it.
    ///
    /// # Errors
    /// When it cannot be written, others may write it, or another tcptrail records there.
    pub(super) fn open(path: &Path) -> Result<Directory> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        let meta = fs::metadata(path)?;
        if !meta.is_dir() {
            bail!("not a directory");
        }
        if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
            bail!("other users may write there: make a directory of this user with mode 0700");
        }
        let lock = create(&path.join(LOCK), false).context(LOCK)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!("another tcptrail records there: give each its own directory");
        }
        let mut parts = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(begin) = name.to_str().and_then(segments::begin) else { continue };
            let meta = entry.metadata()?;
            let written = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            let end = i64::try_from(written.as_nanos()).unwrap_or(i64::MAX).max(begin);
            parts.push((Part { begin, end, bytes: meta.len() }, entry.path()));
        }
        parts.sort_unstable_by_key(|(part, _)| part.begin);
        let mut text = Vec::new();
        if let Ok(file) = File::open(path.join(FINDINGS)) {
            file.take(MOST_FINDINGS).read_to_end(&mut text)?;
        }
        let noted = segments::noted(&String::from_utf8_lossy(&text));
        Ok(Directory { path: path.to_owned(), _lock: lock, parts, noted, told: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A new segment's file; of two that begin at the same time the second is named a nanosecond later.
    pub(super) fn create(&self, mut begin: i64) -> io::Result<(Arc<File>, PathBuf)> {
        loop {
            let name = segments::name(begin).ok_or(io::ErrorKind::InvalidInput)?;
            let path = self.path.join(name);
            match create(&path, true) {
                Ok(file) => return Ok((Arc::new(file), path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => begin += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// A segment is complete.
    pub(super) fn add(&mut self, part: Part, path: PathBuf) {
        self.parts.push((part, path));
    }

    /// How many there are, and their bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        let bytes = self.parts.iter().map(|(part, _)| part.bytes).sum();
        (self.parts.len() as u64, bytes)
    }

    /// Removes what is beyond the limits.
    pub(super) fn keep(&mut self, limits: &Limits, now: i64, open: u64) {
        let parts: Vec<Part> = self.parts.iter().map(|(part, _)| *part).collect();
        let mut gone = keep::to_remove(&parts, &self.appeared(), limits, now, open);
        gone.sort_unstable();
        for at in gone.into_iter().rev() {
            self.remove(at);
        }
    }

    /// Whether the disk has room, after the oldest segments but `least` went where it had none.
    pub(super) fn make_room(&mut self, pin: i64, least: usize) -> bool {
        while !self.has_room() {
            let parts: Vec<Part> = self.parts.iter().map(|(part, _)| *part).collect();
            let first = keep::first_to_go(&parts, &self.appeared(), pin);
            let Some(first) = first.filter(|_| parts.len() > least) else { return false };
            self.remove(first);
        }
        true
    }

    fn has_room(&self) -> bool {
        // One that does not say has room until a write fails.
        let Ok(disk) = statvfs(&self.path) else { return true };
        let all = disk.f_blocks.saturating_mul(disk.f_frsize);
        let least = (all / RESERVE_SHARE).clamp(RESERVE.0, RESERVE.1);
        disk.f_bavail.saturating_mul(disk.f_frsize) >= least
    }

    fn appeared(&self) -> Vec<i64> {
        let pins = self.noted.iter().filter(|noted| noted.pins && !noted.ended);
        pins.map(|noted| noted.wall_ns).collect()
    }

    fn remove(&mut self, at: usize) {
        let (_, path) = self.parts.remove(at);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound && !self.told => {
                self.told = true;
                eprintln!(
                    "tcptrail: {} cannot be removed: {error}; the recorder takes more room than --keep-size says",
                    path.display()
                );
            }
            _ => {}
        }
    }

    /// Adds a finding to the file. It is tried again when the next segment begins, should it fail now.
    pub(super) fn note(&mut self, noted: Noted) {
        let line = line(&noted);
        self.noted.push(noted);
        if self.noted.len() > MOST_NOTED {
            self.noted.remove(0);
        }
        let file = options(false).append(true).open(self.path.join(FINDINGS));
        let _ = file.and_then(|mut file| file.write_all(&line));
    }

    /// Forgets findings of whose time nothing is left, and writes the file anew.
    pub(super) fn forget(&mut self, now: i64) {
        let oldest = self.parts.first().map_or(now, |(part, _)| part.begin);
        self.noted.retain(|noted| noted.wall_ns >= oldest);
        let text: Vec<u8> = self.noted.iter().flat_map(line).collect();
        let (new, path) = (self.path.join("findings.new"), self.path.join(FINDINGS));
        let written = fs::remove_file(&new)
            .or(Ok(()))
            .and_then(|()| create(&new, true))
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| fs::rename(&new, &path));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
    }
}

fn line(noted: &Noted) -> Vec<u8> {
    let mut line = serde_json::to_vec(noted).unwrap_or_default();
    line.push(b'\n');
    line
}

fn options(new: bool) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).create_new(new).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options
}

fn create(path: &Path, new: bool) -> io::Result<File> {
    options(new).open(path)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn noted(wall_ns: i64) -> Noted {
        Noted {
            time: String::new(),
            wall_ns,
            ended: false,
            found_ns: wall_ns,
            pins: true,
            id: wall_ns.to_string(),
            code: "TT101".into(),
            verdict: String::new(),
        }
    }

    #[test]
    fn what_was_there_before_is_found_again_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recorder");
        let mut first = Directory::open(&path).unwrap();
        for begin in [3_000, 1_000, 2_000] {
            let (mut file, path) = first.create(begin).unwrap();
            file.write_all(&[0; 10]).unwrap();
            first.add(Part { begin, end: begin + 1, bytes: 10 }, path);
        }
        first.note(noted(500));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        // Two at a time would remove each other's.
        let error = Directory::open(&path).unwrap_err().to_string();
        assert!(error.contains("another tcptrail"), "{error}");
        drop(first);
        fs::write(path.join("mine.tcpt"), "precious").unwrap();
        let mut again = Directory::open(&path).unwrap();
        assert_eq!(again.size(), (3, 30));
        assert_eq!(again.appeared(), [500]);
        // By the time of the files nothing is old, so only the size counts.
        let limits = Limits { age: i64::MAX, bytes: 10, pin: 0 };
        again.keep(&limits, i64::MAX, 0);
        assert_eq!(again.size(), (1, 10));
        again.forget(i64::MAX);
        drop(again);
        let last = Directory::open(&path).unwrap();
        assert_eq!((last.size(), last.appeared()), ((1, 10), vec![]));
        assert!(path.join(segments::name(3_000).unwrap()).exists());
        assert_eq!(fs::read(path.join("mine.tcpt")).unwrap(), b"precious");
    }

    #[test]
    fn segments_of_the_same_time_do_not_overwrite_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(&dir.path().join("x")).unwrap();
        let (_, one) = directory.create(5).unwrap();
        let (_, other) = directory.create(5).unwrap();
        assert_ne!(one, other);
    }

    #[test]
    fn a_directory_that_others_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = Directory::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("other users"), "{error}");
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(Directory::open(&file).unwrap_err().to_string().contains("not a directory"));
    }
}
