//! The folder that becomes the guests' root: what is copied there, with the libraries it links.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{find, must, quietly, root};

/// What the Python programs of live tests import.
const PYTHON: &str =
    "import atexit, ctypes, encodings.idna, fcntl, os, resource, signal, socket, struct, sys, threading, time
print(sys.executable)
for module in list(sys.modules.values()):
    print(getattr(module, '__file__', None) or '')";
/// What Debian's Java libraries are linked from, and what tests name.
const JARS: &str = "/usr/share/java";

/// A folder that becomes the root.
pub(super) struct Stage {
    pub(super) dir: PathBuf,
}

/// Shared libraries that programs link.
pub(super) type Libraries = BTreeSet<PathBuf>;

impl Stage {
    /// One with nothing in it.
    pub(super) fn empty(dir: PathBuf) -> Result<Stage> {
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        Ok(Stage { dir })
    }

    /// Makes a folder.
    pub(super) fn folder(&self, name: &str) -> Result<()> {
        Ok(fs::create_dir_all(self.dir.join(name))?)
    }

    /// Copies a file to the same path.
    pub(super) fn copy(&self, path: &Path) -> Result<()> {
        let to = self.dir.join(path.strip_prefix("/").unwrap_or(path));
        fs::create_dir_all(to.parent().context("a path")?)?;
        fs::copy(path, &to).with_context(|| format!("could not copy {}", path.display()))?;
        Ok(())
    }

    /// Copies a program without what only debuggers read.
    pub(super) fn strip(&self, program: &Path, to: &str) -> Result<()> {
        let mut strip = Command::new("strip");
        strip.args(["--strip-debug", "-o"]).arg(self.dir.join(to)).arg(program);
        must(&mut strip, "strip a program", "install binutils")
    }

    /// Copies Python and the modules that tests import, compiled: on an emulated processor that would
    /// take longer than what is tested. Says which libraries it links.
    pub(super) fn python(&self) -> Result<Libraries> {
        let mut libraries = BTreeSet::new();
        let Some(found) = find("python3") else { return Ok(libraries) };
        let said = quietly(Command::new(found).args(["-I", "-c", PYTHON]));
        let said = said.context("python3 does not import what tests do")?;
        let mut files = said.lines().filter(|line| line.starts_with('/')).map(PathBuf::from);
        // It finds its modules from where it is.
        let python = fs::canonicalize(files.next().context("python3 does not say where it is")?)?;
        self.copy(&python)?;
        symlink(&python, self.dir.join("bin/python3"))?;
        libraries.extend(libraries_of(&python));
        let mut compile = Command::new(&python);
        compile.args(["-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]);
        for file in files {
            self.copy(&file)?;
            if file.extension().is_some_and(|kind| kind == "so") {
                libraries.extend(libraries_of(&file));
            } else {
                compile.arg(self.dir.join(file.strip_prefix("/")?));
            }
        }
        must(&mut compile, "compile Python's modules", "install all of python3")?;
        Ok(libraries)
    }

    /// Copies the Java and C programs of the live tests, which `compiler` compiles. Says which libraries they
    /// link.
    pub(super) fn fixtures(&self, compiler: &Path) -> Result<Libraries> {
        must(
            &mut Command::new(compiler),
            "compile the programs of the live tests",
            "see what it says above",
        )?;
        let mut libraries = BTreeSet::new();
        // First the sources: what is compiled is newer.
        self.tree(&root().join("tests/fixtures/java"), &mut libraries)?;
        self.tree(&root().join("tests/fixtures/native"), &mut libraries)?;
        let compiled = root().join("target/fixtures");
        if compiled.is_dir() {
            self.tree(&compiled, &mut libraries)?;
        }
        Ok(libraries)
    }

    /// Copies the JVM and the libraries of the Java programs. Says which libraries it links.
    pub(super) fn java(&self) -> Result<Libraries> {
        let mut libraries = BTreeSet::new();
        if let Some(java) = find("java").and_then(|java| fs::canonicalize(java).ok()) {
            // Of /usr/lib/jvm/NAME/bin/java; its libraries are found from there.
            let home = java.parent().and_then(Path::parent).context("java is not in a JDK")?;
            for name in ["java", "jcmd"] {
                let program = home.join("bin").join(name);
                if program.is_file() {
                    self.copy(&program)?;
                    symlink(&program, self.dir.join("bin").join(name))?;
                    libraries.extend(libraries_of(&program));
                }
            }
            self.tree(&home.join("lib"), &mut libraries)?;
            self.tree(&home.join("conf"), &mut libraries)?;
            if Path::new(JARS).is_dir() {
                for entry in fs::read_dir(JARS)? {
                    let path = entry?.path();
                    if path.is_file() {
                        self.copy(&path)?;
                    }
                }
            }
        }
        Ok(libraries)
    }

    /// Copies what is below a directory, files for links, and adds what its shared objects link.
    fn tree(&self, dir: &Path, libraries: &mut Libraries) -> Result<()> {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        // A stamp begins with a dot and has to be the last.
        entries.sort_by(|one, other| other.cmp(one));
        for path in entries {
            if path.is_dir() {
                self.tree(&path, libraries)?;
            } else if path.is_file() {
                self.copy(&path)?;
                if path.extension().is_some_and(|kind| kind == "so") {
                    libraries.extend(libraries_of(&path));
                }
            }
        }
        Ok(())
    }

    pub(super) fn write(&self, name: &str, text: &str, mode: u32) -> Result<()> {
        let path = self.dir.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(())
    }
}

/// What the dynamic linker loads for a program.
pub(super) fn libraries_of(program: &Path) -> Vec<PathBuf> {
    let list = quietly(Command::new("ldd").arg(program)).unwrap_or_default();
    list.lines()
        .flat_map(str::split_whitespace)
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

/// Those of these names that stand beside the C library.
pub(super) fn libraries_beside(known: &Libraries, names: &[&str]) -> Vec<PathBuf> {
    let Some(libc) = known.iter().find(|path| path.ends_with("libc.so.6")) else {
        return Vec::new();
    };
    names.iter().map(|name| libc.with_file_name(name)).filter(|path| path.is_file()).collect()
}

/// Packs a directory as the kernel unpacks it, everything root's.
pub(super) fn archive(dir: &Path, to: &Path) -> Result<()> {
    let mut pack = Command::new("bash");
    pack.args([
        "-c",
        "set -o pipefail; find . -print0 | cpio --null --create --format=newc --owner=0:0 --quiet",
    ])
    .current_dir(dir)
    .stdout(fs::File::create(to)?);
    must(&mut pack, "pack the guests' root", "check the disk's free space")
}
