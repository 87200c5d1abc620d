//! `fuzz`: cargo-fuzz over the targets of `tests/fuzz`, as many inputs as are asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::command::{cargo, must, root, target};
use crate::setup;

/// Longest input that is made, where the fuzzer's own limit (4,096, or the longest seed) is of no use:
/// what takes many events or fields to go wrong.
const LONGEST: [(&str, u32); 2] = [("session", 2048), ("btf", 40_000)];
/// No target may need more memory than this, nor ask for more in one piece.
const MEMORY_MB: u32 = 1024;
const PIECE_MB: u32 = 256;

/// How to fuzz.
pub(crate) struct Options {
    /// Inputs for each target.
    pub(crate) runs: u64,
    /// A target's run ends after this time all the same.
    pub(crate) seconds: Option<u64>,
    /// With AddressSanitizer: several times slower.
    pub(crate) address: bool,
}

pub(crate) fn verb(wanted: Option<&str>, options: &Options) -> Result<ExitCode> {
    let fuzzer = setup::fuzzer()?;
    let fuzz_dir = root().join("tests/fuzz");
    let all = targets()?;
    let chosen: Vec<&String> =
        all.iter().filter(|name| wanted.is_none_or(|wanted| wanted == name.as_str())).collect();
    if chosen.is_empty() {
        bail!("no such target: choose one of {}", all.join(", "));
    }
    let sanitizer = if options.address { "address" } else { "none" };
    let out = target().join("fuzz").join(sanitizer);
    let mut compile = Command::new(fuzzer);
    compile.args(["fuzz", "build", "--release", "--sanitizer", sanitizer, "--fuzz-dir"]);
    compile.arg(&fuzz_dir).arg("--target-dir").arg(&out).current_dir(root());
    // The fuzzer's flags are unstable ones; this lets the stable compiler have them.
    compile.env("RUSTC_BOOTSTRAP", "1");
    must(&mut compile, "build the fuzz targets", "fix what the compiler says above")?;

    let binaries = binaries(&out)?;
    let corpus = target().join("fuzz/corpus");
    let mut seeds = cargo();
    seeds.args(["test", "--quiet", "--package", "tracer", "--test", "fuzzed", "--"]);
    seeds.args(["--ignored", "write_seeds"]).env("TCPTRAIL_FUZZ_SEEDS", &corpus);
    must(&mut seeds, "write the seeds", "check the permissions there")?;
    for name in chosen {
        let found = fuzz_dir.join("found").join(name);
        fs::create_dir_all(&found)?;
        let began = Instant::now();
        let mut run = Command::new(binaries.join(name));
        run.arg(corpus.join(name));
        run.arg(format!("-runs={}", options.runs));
        run.args(options.seconds.map(|seconds| format!("-max_total_time={seconds}")));
        let longest = LONGEST.iter().find(|(target, _)| target == name);
        run.args(longest.map(|(_, length)| format!("-max_len={length}")));
        run.arg(format!("-rss_limit_mb={MEMORY_MB}")).arg(format!("-malloc_limit_mb={PIECE_MB}"));
        run.args(["-timeout=10", "-verbosity=0", "-print_final_stats=1"]);
        run.arg(format!("-artifact_prefix={}/", found.display()));
        eprintln!("xtask: fuzzing {name}");
        must(
            &mut run,
            &format!("fuzz {name}"),
            "the input is in tests/fuzz/found: it is a regression test from now on; mend what it found",
        )?;
        eprintln!("xtask: {name}: done in {:.0?}", began.elapsed());
        // Empty unless something was found.
        let _ = fs::remove_dir(&found);
    }
    Ok(ExitCode::SUCCESS)
}

/// Where cargo put them: below the name of this host.
fn binaries(out: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(out).with_context(|| format!("no {}", out.display()))?;
    let places = entries.flatten().map(|entry| entry.path().join("release"));
    places
        .into_iter()
        .find(|place| place.join("wire").is_file())
        .with_context(|| format!("cargo-fuzz left no programs below {}", out.display()))
}

/// The targets, by their files.
fn targets() -> Result<Vec<String>> {
    let dir = root().join("tests/fuzz/fuzz_targets");
    let entries = fs::read_dir(&dir).with_context(|| format!("no {}", dir.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}
