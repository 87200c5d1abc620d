//! A live run. `start` makes everything, `run` is the loop, `end` ends it. `duties` says what is due when;
//! `intake` takes records and rows, `walks` asks for walks, `losses` counts what was lost, `naming`,
//! `stacks` and `dumps` ask for names and threads, `remotes` for what is known of remote ends (`translations` says of
//! which), `origin` says what run it is.

mod backlog;
mod dumps;
mod duties;
mod end;
mod intake;
mod looks;
mod losses;
mod naming;
mod origin;
mod remotes;
mod run;
mod stacks;
mod start;
mod translations;
mod walks;

use anyhow::Result;

use crate::config::{Config, Show};
use crate::kernel::{destroy, memory};
use crate::output::{Output, listed};

/// Runs until the time is up, a signal comes, or nobody reads any more. Returns the exit code.
///
/// # Errors
/// When nothing can be traced, or the recording cannot be made.
pub fn run(config: &Config, ring_bytes: u32) -> Result<u8> {
    run_with(config, ring_bytes, |config| {
        // While it may: privileges are given up once everything runs.
        let hands = matches!(config.show, Show::Top(_)).then(destroy::start);
        listed::outputs(config, true, hands)
    })
}

/// As [`run`], with outputs that `make` makes. It is called once this kernel is known to have what is
/// needed, and before anything runs in it.
///
/// # Errors
/// As [`run`], and what `make` returns.
pub fn run_with(
    config: &Config,
    ring_bytes: u32,
    make: impl FnOnce(&Config) -> Result<Vec<Box<dyn Output>>>,
) -> Result<u8> {
    memory::keep_no_large_blocks();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut live = start::start(config, ring_bytes, Box::new(make))?;
        memory::give_back();
        if config.show == Show::Nothing {
            say_that_it_records(config);
        }
        match live.run().await {
            Ok(()) => Ok(end::finish(live).await),
            Err(error) => {
                // What an output has done to the terminal is undone before the error is said.
                end::give_up(live);
                Err(error)
            }
        }
    })
}

fn say_that_it_records(config: &Config) {
    eprintln!("tcptrail: recording; Ctrl-C to stop");
    if config.filter.is_partly_for_views() {
        eprintln!(
            "tcptrail: --pid, --comm, --state, --role, --min-duration, --how and --failed choose what is shown, not what is recorded: give them to replay"
        );
    }
}
