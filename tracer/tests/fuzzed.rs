//! The checks of `tests/fuzz`, without a fuzzer: every seed, every input that once failed, and a few
//! seconds of random damage to them. `cargo xtask fuzz` goes on from there.

// Some of it serves only the fuzzer.
#[allow(dead_code, unreachable_pub, missing_docs, reason = "shared with a crate of its own")]
#[path = "../../tests/fuzz/checks.rs"]
mod checks;

use std::time::{Duration, Instant};

/// Enough for some thousand inputs; the fuzzer proper runs millions.
const TIME: Duration = Duration::from_secs(3);

/// xorshift64: the same damage each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as usize
    }

    fn below(&mut self, limit: usize) -> usize {
        self.next() % limit.max(1)
    }

    /// Bits flipped, bytes made extreme, parts left out, doubled, or taken from another seed.
    fn damage(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let length = self.below(bytes.len() - at + 1).min(1 << self.below(9));
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..at + length)),
                2 => {
                    let part = bytes[at..at + length].to_vec();
                    bytes.splice(at..at, part);
                }
                3 => {
                    let from = self.below(other.len());
                    let part = &other[from..other.len().min(from + length)];
                    bytes.splice(at..at + length, part.iter().copied());
                }
                kind => {
                    let extreme = [0, 1, 0x7f, 0x80, 0xff][self.below(5)];
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = if kind == 4 { extreme } else { *byte ^ 1 << self.below(8) };
                    }
                }
            }
        }
    }
}

fn run(target: &str) {
    let check = checks::ALL.iter().find(|(name, _)| *name == target).expect("a target").1;
    let mut seeds = checks::seeds(target);
    assert!(!seeds.is_empty(), "{target} has no seeds");
    seeds.extend(checks::found(target));
    seeds.iter().for_each(|seed| check(seed));
    let began = Instant::now();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut count = 0_u64;
    while began.elapsed() < TIME {
        let mut input = seeds[random.below(seeds.len())].clone();
        let other = &seeds[random.below(seeds.len())];
        random.damage(&mut input, other);
        if std::panic::catch_unwind(|| check(&input)).is_err() {
            let file = std::env::temp_dir().join(format!("tcptrail-{target}-{count}"));
            std::fs::write(&file, &input).expect("the temporary directory takes a file");
            panic!("{target}: {} fails: put it into tests/fuzz/found/{target}", file.display());
        }
        count += 1;
    }
    println!("{target}: {} seeds, {count} damaged", seeds.len());
}

#[test]
fn wire() {
    run("wire");
}

#[test]
fn recording() {
    run("recording");
}

#[test]
fn columns() {
    run("columns");
}

#[test]
fn session() {
    run("session");
}

#[test]
fn btf() {
    run("btf");
}

#[test]
fn filter() {
    run("filter");
}

#[test]
fn cli() {
    run("cli");
}

#[test]
fn perf_map() {
    run("perf_map");
}

#[test]
fn files() {
    run("files");
}

#[test]
fn http() {
    run("http");
}

#[test]
fn config_file() {
    run("config_file");
}

#[test]
fn containers() {
    run("containers");
}

#[test]
fn names() {
    run("names");
}

/// Not a test: what `cargo xtask fuzz` begins with.
#[test]
#[ignore = "writes the seeds of all targets to where TCPTRAIL_FUZZ_SEEDS says"]
fn write_seeds() {
    let to = std::env::var_os("TCPTRAIL_FUZZ_SEEDS").expect("TCPTRAIL_FUZZ_SEEDS");
    for (target, _) in checks::ALL {
        let dir = std::path::Path::new(&to).join(target);
        std::fs::create_dir_all(&dir).expect("a directory");
        let all = checks::seeds(target).into_iter().chain(checks::found(target));
        for (number, seed) in all.enumerate() {
            std::fs::write(dir.join(format!("seed-{number}")), seed).expect("a file");
        }
    }
}

#[test]
fn jvm_streams() {
    run("jvm_streams");
}
