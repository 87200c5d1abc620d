//! tcptrail: parses the command line, runs, and turns the outcome into an exit code.

use std::process::ExitCode;

use clap::Parser;
use tracer::cli::{Cli, Command};
use tracer::config::{self, Source};
use tracer::doctor;
use tracer::source::live;
use tracer::source::recording::replay;

/// Exit code for a command line that cannot be.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Some(Command::Doctor)) {
        return match config::no_options(&cli.common) {
            Ok(()) => ExitCode::from(doctor::run(cli.common.json)),
            Err(error) => wrong_usage(&error),
        };
    }
    let config = match config::resolve(cli.command, &cli.common) {
        Ok(config) => config,
        Err(error) => return wrong_usage(&error),
    };
    let outcome = match &config.source {
        Source::Live { ring_bytes } => live::run(&config, *ring_bytes),
        Source::File(path) => replay::run(&config, path),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("tcptrail: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn wrong_usage(error: &config::UsageError) -> ExitCode {
    eprintln!("tcptrail: {error}");
    ExitCode::from(USAGE)
}
