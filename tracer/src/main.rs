//! tcptrail: parses the command line, runs, and turns the outcome into an exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use tracer::cli::{Cli, Command, generate, help};
use tracer::config::{self, Show, Source};
use tracer::doctor;
use tracer::explain;
use tracer::source::recording::replay;
use tracer::source::{kill, live};
use tracer::text::Terminal;

/// Exit code for a command line that cannot be.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut cli = Cli::parse();
    if cli.version {
        return done(print(generate::version(cli.common.output.verbose > 0).as_bytes()));
    }
    if let Some(code) = aside(&cli) {
        return code;
    }
    cli = match config::with_file(cli, std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(error) => return wrong_usage(&error),
    };
    let checks = matches!(&cli.command, Some(Command::Serve(args)) if args.check_config);
    let mut config = match config::resolve(cli.command, &cli.common) {
        Ok(config) => config,
        Err(error) => return wrong_usage(&error),
    };
    if checks {
        return done(print(b"the configuration is right\n"));
    }
    if let (Show::Incident(options), Source::Live { .. }) = (&mut config.show, &config.source) {
        options.doctor = doctor::text();
    }
    let outcome = match (&config.source, &config.show) {
        (Source::Live { ring_bytes }, Show::Kill(options)) => {
            kill::run(&config, *ring_bytes, options)
        }
        (Source::Live { ring_bytes }, _) => live::run(&config, *ring_bytes),
        (Source::File(path), _) => replay::run(&config, path),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => failed(&error),
    }
}

/// Commands that show no connections.
fn aside(cli: &Cli) -> Option<ExitCode> {
    Some(match &cli.command {
        Some(Command::Doctor) => match config::no_options("doctor", &cli.common) {
            Ok(()) => ExitCode::from(doctor::run(cli.common.output.json)),
            Err(error) => wrong_usage(&error),
        },
        Some(Command::Explain { code }) => explained(code.as_deref(), cli),
        Some(Command::Help { topic }) => match help::help(topic.as_deref()) {
            Ok(text) => done(print(text.as_bytes())),
            Err(error) => wrong_word(&error),
        },
        Some(Command::Completions { shell }) => {
            generate::completions(*shell, &mut io::stdout());
            ExitCode::SUCCESS
        }
        Some(Command::Man { dir: Some(dir), .. }) => done(generate::man_pages(dir)),
        Some(Command::Man { command, dir: None }) => {
            done(generate::man(command.as_deref(), &mut io::stdout()))
        }
        _ => return None,
    })
}

fn explained(code: Option<&str>, cli: &Cli) -> ExitCode {
    if let Err(error) = config::no_options("explain", &cli.common) {
        return wrong_usage(&error);
    }
    if cli.common.output.json {
        return wrong_word("explain writes text: leave --json out");
    }
    match explain::text(code, Terminal::of_stdout(config::color(&cli.common))) {
        Ok(text) => done(print(&text)),
        Err(error) => wrong_word(&error),
    }
}

fn wrong_word(error: &str) -> ExitCode {
    eprintln!("tcptrail: {error}");
    ExitCode::from(USAGE)
}

fn done(outcome: anyhow::Result<()>) -> ExitCode {
    outcome.map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("tcptrail: {error:#}");
    ExitCode::FAILURE
}

/// To stdout; a reader that has gone has seen enough.
fn print(bytes: &[u8]) -> anyhow::Result<()> {
    match io::stdout().write_all(bytes) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn wrong_usage(error: &config::UsageError) -> ExitCode {
    eprintln!("tcptrail: {error}");
    ExitCode::from(USAGE)
}
