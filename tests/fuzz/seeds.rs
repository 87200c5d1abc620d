//! Writes the seeds of every target into `CORPUS/TARGET/`, beside what fuzzing found since.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let corpus = PathBuf::from(env::args_os().nth(1).unwrap_or_else(|| "corpus".into()));
    for (target, _) in checks::ALL {
        let dir = corpus.join(target);
        fs::create_dir_all(&dir)?;
        let seeds = checks::seeds(target).into_iter().chain(checks::found(target));
        for (number, seed) in seeds.enumerate() {
            fs::write(dir.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
