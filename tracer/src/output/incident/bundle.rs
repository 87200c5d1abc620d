//! The archive of an incident: a tar of files, compressed with zstd. A folder holds the same files.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ruzstd::decoding::StreamingDecoder;
use ruzstd::encoding::{CompressionLevel, compress};
use thiserror::Error;

/// How the names of archives end.
pub const SUFFIX: &str = ".tar.zst";
/// Most bytes read of one file in a bundle; a recording may be long, the rest is small.
const MOST_BYTES: u64 = 4 << 30;
/// A tar is made of blocks of so many bytes.
const BLOCK: u64 = 512;
/// Most files read of a bundle.
const MOST_FILES: usize = 1_000;

/// Why a bundle cannot be read or written.
#[derive(Debug, Error)]
pub enum BundleError {
    /// The archive or folder cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no zstd stream.
    #[error("it is not a bundle of `tcptrail incident`: {0}")]
    NotOne(String),
    /// A file is missing that the page needs.
    #[error("{0} is missing: it is not a bundle of `tcptrail incident`")]
    Missing(&'static str),
    /// More than a bundle holds.
    #[error("it holds more than a bundle of `tcptrail incident` does")]
    TooMuch,
}

/// What a file of a bundle holds.
#[derive(Debug)]
enum Content {
    Bytes(Vec<u8>),
    /// Too long for memory, as a recording may be: read when the bundle is written.
    File(File),
}

/// The files of a bundle by name, without folders.
#[derive(Debug, Default)]
pub struct Bundle {
    files: BTreeMap<String, Content>,
}

impl Bundle {
    /// Adds a file.
    pub fn add(&mut self, name: &str, bytes: Vec<u8>) {
        self.files.insert(name.to_owned(), Content::Bytes(bytes));
    }

    /// Adds a file that is on disk already.
    pub fn add_file(&mut self, name: &str, file: File) {
        self.files.insert(name.to_owned(), Content::File(file));
    }

    /// The bytes of a file that is in memory, as all are of a bundle that was read.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        match self.files.get(name)? {
            Content::Bytes(bytes) => Some(bytes),
            Content::File(_) => None,
        }
    }

    /// A file's bytes.
    ///
    /// # Errors
    /// When it is missing.
    pub fn need(&self, name: &'static str) -> Result<&[u8], BundleError> {
        self.get(name).ok_or(BundleError::Missing(name))
    }

    /// Takes a file out.
    ///
    /// # Errors
    /// When it is missing.
    pub fn take(&mut self, name: &'static str) -> Result<Vec<u8>, BundleError> {
        match self.files.remove(name) {
            Some(Content::Bytes(bytes)) => Ok(bytes),
            _ => Err(BundleError::Missing(name)),
        }
    }

    /// The names of its files, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Writes it. `seconds` since 1970 is the time of the files in an archive.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(self, mut place: Place, seconds: u64) -> Result<(), BundleError> {
        match place.archive.take() {
            Some(file) => self.write_archive(file, &place.path, seconds)?,
            None => self.write_folder(&place.path)?,
        }
        place.written = true;
        Ok(())
    }

    fn write_archive(self, file: File, path: &Path, seconds: u64) -> Result<(), BundleError> {
        let stem = path.file_name().and_then(|name| name.to_str()).unwrap_or("incident");
        let folder =
            stem.strip_suffix(SUFFIX).filter(|stem| !stem.is_empty()).unwrap_or("incident");
        let mut tar: Box<dyn Read> = Box::new(io::empty());
        for (name, content) in self.files {
            let (size, bytes): (u64, Box<dyn Read>) = match content {
                Content::Bytes(bytes) => (bytes.len() as u64, Box::new(io::Cursor::new(bytes))),
                Content::File(mut file) => {
                    let size = file.seek(io::SeekFrom::End(0))?;
                    file.rewind()?;
                    (size, Box::new(file.take(size)))
                }
            };
            let mut header = tar::Header::new_gnu();
            header.set_path(format!("{folder}/{name}"))?;
            header.set_size(size);
            header.set_mode(0o600);
            header.set_mtime(seconds);
            header.set_cksum();
            let head = io::Cursor::new(header.as_bytes().to_vec());
            let padding = io::repeat(0).take(size.next_multiple_of(BLOCK) - size);
            tar = Box::new(tar.chain(head).chain(bytes).chain(padding));
        }
        // Two empty blocks end a tar.
        let tar = tar.chain(io::repeat(0).take(2 * BLOCK));
        let mut failed = None;
        let reader = Remembering { inner: tar, failed: &mut failed };
        let mut out = Written { file: io::BufWriter::new(file), failed: None };
        compress(reader, &mut out, CompressionLevel::Fastest);
        let flushed = out.file.flush();
        failed.or(out.failed).map_or(flushed, Err).map_err(BundleError::from)
    }

    fn write_folder(self, path: &Path) -> Result<(), BundleError> {
        for (name, content) in self.files {
            let mut file = new_file(&path.join(name))?;
            match content {
                Content::Bytes(bytes) => file.write_all(&bytes)?,
                Content::File(mut from) => {
                    from.rewind()?;
                    io::copy(&mut from, &mut file)?;
                }
            }
        }
        Ok(())
    }

    /// Reads an archive or a folder.
    ///
    /// # Errors
    /// When it cannot be read, or is something else.
    pub fn read(path: &Path) -> Result<Bundle, BundleError> {
        if fs::metadata(path)?.is_dir() { Bundle::read_folder(path) } else { read_archive(path) }
    }

    fn read_folder(path: &Path) -> Result<Bundle, BundleError> {
        let mut bundle = Bundle::default();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let (Ok(name), true) = (entry.file_name().into_string(), entry.file_type()?.is_file())
            else {
                continue;
            };
            bundle.take_in(&name, &mut File::open(entry.path())?)?;
        }
        Ok(bundle)
    }

    fn take_in(&mut self, name: &str, from: &mut impl Read) -> Result<(), BundleError> {
        let mut bytes = Vec::new();
        from.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
        if self.files.len() >= MOST_FILES || bytes.len() as u64 > MOST_BYTES {
            return Err(BundleError::TooMuch);
        }
        self.add(name, bytes);
        Ok(())
    }
}

fn read_archive(path: &Path) -> Result<Bundle, BundleError> {
    let not_one = |error: &dyn std::fmt::Display| BundleError::NotOne(error.to_string());
    let file = io::BufReader::new(File::open(path)?);
    let stream = StreamingDecoder::new(file).map_err(|error| not_one(&error))?;
    let mut bundle = Bundle::default();
    let mut archive = tar::Archive::new(stream);
    for entry in archive.entries().map_err(|error| not_one(&error))? {
        let mut entry = entry.map_err(|error| not_one(&error))?;
        let name = entry.path().ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
        if let (Some(name), true) = (name, entry.header().entry_type().is_file()) {
            bundle.take_in(&name, &mut entry)?;
        }
    }
    Ok(bundle)
}

/// Where a bundle will be: an archive when the name ends in `.tar.zst`, else a folder. Only the user may read
/// either. It is made at once, so that a place that cannot be written is known before the watch; when nothing is
/// written into it, it goes again.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    /// Of an archive, until it is written.
    archive: Option<File>,
    written: bool,
}

impl Place {
    /// Makes it.
    ///
    /// # Errors
    /// When it cannot be made, or is there already: what is there is somebody's.
    pub fn make(path: &Path) -> io::Result<Place> {
        let is_archive = path.to_str().is_some_and(|path| path.ends_with(SUFFIX));
        let archive = if is_archive {
            Some(new_file(path)?)
        } else {
            fs::DirBuilder::new().mode(0o700).create(path)?;
            None
        };
        Ok(Place { path: path.to_owned(), archive, written: false })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file without a name beside it, for what is too long for memory.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self) -> io::Result<File> {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let options =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&name);
        let file = options?;
        fs::remove_file(&name)?;
        Ok(file)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.written {
            // It may be gone, or hold what others put there: then it stays.
            let _ = match self.archive {
                Some(_) => fs::remove_file(&self.path),
                None => fs::remove_dir(&self.path),
            };
        }
    }
}

/// The compressor panics when what it reads or writes fails: it is told of an end, or of success, and the
/// error is kept.
struct Remembering<'a, R> {
    inner: R,
    failed: &'a mut Option<io::Error>,
}

impl<R: Read> Read for Remembering<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.inner.read(into) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    *self.failed = Some(error);
                    return Ok(0);
                }
            }
        }
    }
}

struct Written<W> {
    file: W,
    failed: Option<io::Error>,
}

impl<W: Write> Write for Written<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed.is_none()
            && let Err(error) = self.file.write_all(bytes)
        {
            self.failed = Some(error);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A new file that only its user may read.
fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Bundle {
        let mut bundle = Bundle::default();
        bundle.add("incident.txt", b"java leaks\n".repeat(1000));
        bundle.add("empty", Vec::new());
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&[7; 1300]).expect("written");
        bundle.add_file("recording.tcpt", file);
        bundle
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let check = |name: &str| {
            let path = dir.path().join(name);
            let place = Place::make(&path).expect("made");
            sample().write(place, 1_700_000_000).expect("written");
            let read = Bundle::read(&path).expect("read");
            assert_eq!(
                read.names().collect::<Vec<_>>(),
                ["empty", "incident.txt", "recording.tcpt"]
            );
            assert_eq!(read.get("incident.txt"), sample().get("incident.txt"), "{name}");
            assert_eq!(read.get("empty"), Some(&[][..]), "{name}");
            assert_eq!(read.get("recording.tcpt"), Some(&[7; 1300][..]), "{name}");
            // What is there is somebody's: it is not overwritten.
            assert!(Place::make(&path).is_err(), "{name}");
        };
        check("incident.tar.zst");
        check("folder");
    }

    #[test]
    fn the_system_s_tar_reads_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.tar.zst");
        sample().write(Place::make(&path).expect("made"), 0).expect("written");
        let listed = std::process::Command::new("tar").arg("--zstd").arg("-tf").arg(&path).output();
        let Ok(listed) = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        else {
            println!("skipped: there is no tar");
            return;
        };
        if listed.is_empty() {
            println!("skipped: tar has no zstd");
            return;
        }
        assert_eq!(listed, "x/empty\nx/incident.txt\nx/recording.tcpt\n");
    }

    #[test]
    fn a_place_that_was_not_needed_is_gone() {
        let dir = tempfile::tempdir().expect("a folder");
        for name in ["x.tar.zst", "x"] {
            let path = dir.path().join(name);
            let place = Place::make(&path).expect("made");
            assert!(path.exists(), "{name}");
            drop(place);
            assert!(!path.exists(), "{name}");
        }
    }

    #[test]
    fn what_is_no_bundle_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.tar.zst");
        fs::write(&path, b"something else").expect("written");
        let error = Bundle::read(&path).expect_err("no bundle").to_string();
        assert!(error.starts_with("it is not a bundle of `tcptrail incident`"), "{error}");
        let missing = sample().need("about.json").expect_err("missing").to_string();
        assert_eq!(missing, "about.json is missing: it is not a bundle of `tcptrail incident`");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// A damaged archive gives an error or fewer files, never a panic.
        #[test]
        fn damage_is_no_harm(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let dir = tempfile::tempdir().expect("a folder");
            let path = dir.path().join("x.tar.zst");
            sample().write(Place::make(&path).expect("made"), 0).expect("written");
            let mut bytes = fs::read(&path).expect("read");
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(cut.index(bytes.len()) + 1);
            fs::write(&path, bytes).expect("written");
            let _ = Bundle::read(&path);
        }
    }
}
