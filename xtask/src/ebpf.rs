//! `ebpf`: the eBPF objects that are committed, and whether they are what their sources make.
//!
//! `tracer/ebpf` holds the objects, their checksums (`SHA256SUMS`) and the checksums of all they were made
//! from (`SOURCES`). Whether the sources have changed since can be told without a compiler for eBPF; whether
//! the objects are what the sources make, with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::command::{must, root};
use crate::ebpf_cargo::{built, ebpf_cargo_for, ebpf_target};
use crate::setup::{self, LINKER_VERSION, NIGHTLY, Toolchain};

/// What cargo makes of the eBPF crate, and what tracer's build script takes.
const OBJECTS: [(&str, &str); 2] =
    [("tcptrail-ebpf", "tcptrail-ebpf.o"), ("tcptrail-stacks", "tcptrail-stacks.o")];
/// What the objects are made from, files and directories.
const SOURCES: [&str; 5] = [
    "tracer-common/Cargo.toml",
    "tracer-common/src",
    "tracer-ebpf/Cargo.lock",
    "tracer-ebpf/Cargo.toml",
    "tracer-ebpf/src",
];
/// Of kernels whose objects are compared: one set is for all.
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];
const REMEDY: &str = "run `cargo xtask ebpf` and commit tracer/ebpf with the change";

/// Makes the committed objects anew, or with `check` says whether they are what the sources make.
pub(crate) fn verb(check: bool) -> Result<ExitCode> {
    let toolchain = setup::toolchain()?;
    if check {
        check_sources()?;
        compare(&toolchain)?;
        eprintln!("xtask: the objects in tracer/ebpf are what the sources make, byte for byte");
    } else {
        make(&toolchain)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the objects anew if their sources have changed. Needs no compiler for eBPF if they have not.
pub(crate) fn refresh() -> Result<()> {
    let changed = changed(&committed_sources(), &sources()?);
    if changed.is_empty() {
        return Ok(());
    }
    eprintln!(
        "xtask: building the eBPF programs, since these have changed: {}",
        changed.join(", ")
    );
    make(&setup::toolchain()?)
}

/// Whether the committed objects were made from the sources that are here, by what is written beside them.
pub(crate) fn check_sources() -> Result<()> {
    let changed = changed(&committed_sources(), &sources()?);
    if !changed.is_empty() {
        bail!(
            "the eBPF objects in tracer/ebpf were not made from the sources that are here ({}): {REMEDY}",
            changed.join(", ")
        );
    }
    let sums = fs::read_to_string(objects().join("SHA256SUMS")).unwrap_or_default();
    if sums != checksums(&objects(), &OBJECTS.map(|(_, object)| object.to_owned()))? {
        bail!(
            "the eBPF objects in tracer/ebpf are not those that SHA256SUMS there names: {REMEDY}"
        );
    }
    Ok(())
}

/// Builds the objects for each architecture and compares them with those that are committed.
pub(crate) fn compare(toolchain: &Toolchain) -> Result<()> {
    for arch in ARCHITECTURES {
        let made = build_for(toolchain, arch)?;
        for (_, object) in OBJECTS {
            let read = |dir: &Path| {
                let path = dir.join(object);
                fs::read(&path).with_context(|| format!("could not read {}", path.display()))
            };
            if read(&made)? != read(&objects())? {
                bail!(
                    "tracer/ebpf/{object} is not what its sources make for {arch} (that is in {}): {REMEDY}",
                    made.display()
                );
            }
        }
    }
    Ok(())
}

fn make(toolchain: &Toolchain) -> Result<()> {
    let made = build_for(toolchain, ARCHITECTURES[0])?;
    let dir = objects();
    fs::create_dir_all(&dir).with_context(|| format!("could not make {}", dir.display()))?;
    for (_, object) in OBJECTS {
        let to = dir.join(object);
        let bytes = fs::read(made.join(object))?;
        // Written only if it differs: else cargo would build the tracer again.
        if fs::read(&to).ok().as_ref() != Some(&bytes) {
            fs::write(&to, bytes).with_context(|| format!("could not write {}", to.display()))?;
        }
    }
    let sums = checksums(&dir, &OBJECTS.map(|(_, object)| object.to_owned()))?;
    fs::write(dir.join("SHA256SUMS"), sums).context("could not write SHA256SUMS")?;
    fs::write(dir.join("SOURCES"), sources()?).context("could not write SOURCES")?;
    Ok(())
}

/// Builds the objects for kernels of `arch`, without debug information but BTF. Returns where they are.
fn build_for(toolchain: &Toolchain, arch: &str) -> Result<PathBuf> {
    let mut cargo = ebpf_cargo_for(toolchain, "build", arch)?;
    must(&mut cargo, "build the eBPF programs", "fix what the compiler says above")?;
    let dir = ebpf_target(arch);
    for (program, object) in OBJECTS {
        let mut strip = Command::new(toolchain.tool("rust-objcopy"));
        strip.arg("--strip-debug").arg(built(arch, program)).arg(dir.join(object));
        strip.env("LD_LIBRARY_PATH", toolchain.sysroot.join("lib"));
        must(&mut strip, "strip an eBPF object", "install the toolchain again")?;
    }
    Ok(dir)
}

fn objects() -> PathBuf {
    root().join("tracer/ebpf")
}

fn committed_sources() -> String {
    fs::read_to_string(objects().join("SOURCES")).unwrap_or_default()
}

/// The text of `SOURCES` as it should be.
fn sources() -> Result<String> {
    let root = root();
    let mut files = Vec::new();
    for source in SOURCES {
        collect(&root, source.to_owned(), &mut files)?;
    }
    files.sort();
    let sums = checksums(&root, &files)?;
    Ok(format!("# made by {NIGHTLY} and bpf-linker {LINKER_VERSION}\n{sums}"))
}

fn collect(root: &Path, path: String, files: &mut Vec<String>) -> Result<()> {
    let full = root.join(&path);
    if !full.is_dir() {
        files.push(path);
        return Ok(());
    }
    for entry in fs::read_dir(&full).with_context(|| format!("could not read {path}"))? {
        let name = entry?.file_name();
        collect(root, format!("{path}/{}", name.to_string_lossy()), files)?;
    }
    Ok(())
}

/// Lines as `sha256sum` prints them for these files below `dir`.
pub(crate) fn checksums(dir: &Path, files: &[String]) -> Result<String> {
    let mut sum = Command::new("sha256sum");
    sum.arg("--").args(files).current_dir(dir);
    let output = sum.output().context("could not start sha256sum: install coreutils")?;
    if !output.status.success() {
        bail!("sha256sum failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).context("a file's name is not UTF-8")
}

/// Which files differ between two texts of `SOURCES`: other bytes, gone, or new.
fn changed(committed: &str, here: &str) -> Vec<String> {
    let only_in = |one: &str, other: &str| -> Vec<String> {
        let known: Vec<&str> = other.lines().collect();
        one.lines()
            .filter(|line| !known.contains(line))
            .map(|line| line.split_once("  ").map_or(line, |(_, file)| file).to_owned())
            .collect()
    };
    let mut files = only_in(committed, here);
    files.extend(only_in(here, committed));
    files.sort();
    files.dedup();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_objects_are_made_from_these_sources() {
        check_sources().expect("objects that fit their sources");
    }

    #[test]
    fn changed_new_and_removed_files_are_named() {
        let committed = "# made by x\n1  a\n2  b\n3  c\n";
        let check = |here: &str, expect: &[&str]| assert_eq!(changed(committed, here), expect);
        check(committed, &[]);
        check("# made by x\n1  a\n9  b\n3  c\n", &["b"]);
        check("# made by x\n1  a\n2  b\n3  c\n4  d\n", &["d"]);
        check("# made by x\n1  a\n2  b\n", &["c"]);
        check("# made by y\n1  a\n2  b\n3  c\n", &["# made by x", "# made by y"]);
        assert_eq!(changed("", "1  a\n"), ["a"]);
    }
}
