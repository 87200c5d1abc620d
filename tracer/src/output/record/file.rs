//! Opens the file of a recording.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Opens a recording's file, empty: a new one that only we may read, or one of ours that there is.
///
/// We are root, and the directory may be everyone's. So no symbolic link is followed, and nothing
/// is written over that is not a regular file, is another user's, or has a second name somewhere.
///
/// # Errors
///
/// When the file cannot be opened, or is one of those; the text says what to do.
pub fn open_output(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        // Not before it is known to be ours.
        .truncate(false)
        .mode(0o600)
        // Without O_NONBLOCK a planted FIFO would hold us here; on regular files it does nothing.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(explain)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(refuse("not a regular file"));
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(refuse("the file belongs to another user: remove it or choose another name"));
    }
    if meta.nlink() > 1 {
        return Err(refuse("the file has a second name (hard link): choose another name"));
    }
    // Whatever it was before: what comes now is for us alone.
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.set_len(0)?;
    Ok(file)
}

fn refuse(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

fn explain(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ELOOP) => refuse("a symbolic link, which is not followed"),
        // A FIFO that nobody reads, or a socket.
        Some(libc::ENXIO) => refuse("not a regular file"),
        _ => error,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    fn refused(path: &Path, why: &str) {
        let error = open_output(path).expect_err("must be refused");
        assert!(error.to_string().contains(why), "{error}");
    }

    #[test]
    fn a_new_file_is_ours_alone_and_an_old_one_is_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rec");
        open_output(&path).unwrap().write_all(b"first").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        open_output(&path).unwrap().write_all(b"2nd").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2nd");
    }

    #[test]
    fn what_a_stranger_may_have_planted_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();

        let link = dir.path().join("link");
        symlink(&victim, &link).unwrap();
        refused(&link, "symbolic link");
        let dangling = dir.path().join("dangling");
        symlink(dir.path().join("nowhere"), &dangling).unwrap();
        refused(&dangling, "symbolic link");
        assert!(!dir.path().join("nowhere").exists());

        let hard = dir.path().join("hard");
        fs::hard_link(&victim, &hard).unwrap();
        refused(&hard, "hard link");

        let fifo = dir.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        refused(&fifo, "not a regular file");
        // With a reader it opens.
        let _reader =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&fifo).unwrap();
        refused(&fifo, "not a regular file");

        refused(Path::new("/dev/null"), "not a regular file");
        assert!(open_output(dir.path()).is_err());
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn another_users_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("theirs");
        fs::write(&path, "precious").unwrap();
        // Only root can give a file away.
        if std::os::unix::fs::chown(&path, Some(12345), None).is_ok() {
            refused(&path, "another user");
            assert_eq!(fs::read(&path).unwrap(), b"precious");
        }
    }
}
