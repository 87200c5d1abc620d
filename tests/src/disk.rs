//! File systems of their own: one that can be filled, and one that can stand still.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A tmpfs, unmounted when dropped.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts one of so many bytes there.
    ///
    /// # Errors
    /// When `mount` does not, which needs root.
    pub fn mount(path: &Path, bytes: u64) -> Result<Disk> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "tmpfs"]).arg(path);
        ensure!(mount.status()?.success(), "{mount:?}");
        Ok(Disk { path: path.to_owned() })
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }

    /// Takes what room there is, to the last byte. May be repeated, for what others free meanwhile.
    ///
    /// # Errors
    /// When there can be no file.
    pub fn fill(&self) -> Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(self.filler())?;
        while file.write_all(&[b'x'; 4096]).is_ok() {}
        while file.write_all(b"x").is_ok() {}
        Ok(())
    }

    /// Gives it back.
    ///
    /// # Errors
    /// When it was not filled.
    pub fn empty(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("it was not filled")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// An ext4 file system in a file, unmounted when dropped.
#[derive(Debug)]
pub struct Stopped {
    path: PathBuf,
    /// The file it is in.
    _image: tempfile::NamedTempFile,
}

impl Stopped {
    /// Whether there can be one; says why not.
    #[must_use]
    pub fn is_possible() -> bool {
        let loops = Path::new("/dev/loop-control").exists();
        if !loops {
            println!("skipped: needs loop devices");
        }
        loops && crate::ready(&["mkfs.ext4", "mount", "umount", "fsfreeze"])
    }

    /// Mounts one of so many bytes there. It does not stand still yet.
    ///
    /// # Errors
    /// When it cannot be made or mounted, which needs root and loop devices.
    pub fn mount(path: &Path, bytes: u64) -> Result<Stopped> {
        let image = tempfile::NamedTempFile::new()?;
        image.as_file().set_len(bytes)?;
        let run = |command: &mut Command| -> Result<()> {
            ensure!(command.status()?.success(), "{command:?}");
            Ok(())
        };
        run(Command::new("mkfs.ext4").arg("-q").arg(image.path()))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(image.path()).arg(path))?;
        Ok(Stopped { path: path.to_owned(), _image: image })
    }

    /// Whoever writes waits from now on (`freeze_super`).
    ///
    /// # Errors
    /// When `fsfreeze` fails.
    pub fn stop(&self) -> Result<()> {
        let status = Command::new("fsfreeze").arg("-f").arg(&self.path).status()?;
        ensure!(status.success(), "fsfreeze: {status}");
        Ok(())
    }

    /// Goes on.
    ///
    /// # Errors
    /// When it did not stand still.
    pub fn go_on(&self) -> Result<()> {
        let status =
            Command::new("fsfreeze").arg("-u").arg(&self.path).stderr(Stdio::null()).status()?;
        ensure!(status.success(), "fsfreeze: {status}");
        Ok(())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // Else whoever writes could not even be killed.
        let _ = self.go_on();
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
