//! Development tasks of tcptrail. This file only dispatches; each verb is a module.

mod apt;
mod bench;
mod build;
mod collectors;
mod command;
mod dist;
mod ebpf;
mod ebpf_cargo;
mod fuzz;
mod jdks;
mod kernels;
mod lint;
mod mirror;
mod picture;
mod pypi;
mod roots;

mod run;
mod setup;
mod soak;
mod test;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Development tasks of tcptrail.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install the compiler of the eBPF programs, for who changes them.
    Setup {
        /// Also install what linting and the live tests need.
        #[arg(long)]
        tests: bool,
    },
    /// Build the release binary, with the eBPF programs that are committed.
    Build,
    /// Build the eBPF programs and put the objects where they are committed: tracer/ebpf.
    Ebpf {
        /// Change nothing: say whether the committed objects are what the sources make.
        #[arg(long)]
        check: bool,
    },
    /// Make a release: static binaries, packages, an image, a bill of materials, checksums.
    Dist {
        /// Only for this architecture, x86_64 or aarch64 (repeatable).
        #[arg(long = "arch", value_name = "ARCH")]
        architectures: Vec<String>,
        /// Make it again in another folder, and compare the checksums.
        #[arg(long)]
        verify: bool,
    },
    /// Install and run the release in clean roots: Debian 11, 12 and 13, one without a C library, busybox, nothing.
    Roots(roots::Options),
    /// Build, then run tcptrail as root.
    Run {
        /// Arguments for tcptrail.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Check formatting and lints, then run every test.
    Test {
        /// Arguments for the test runner.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Run the live tests in real kernels, under QEMU.
    Kernels(kernels::Options),
    /// Check formatting and lints of user space and of the eBPF programs.
    Lint,
    /// Build, then measure what tcptrail costs, beside the floor and other tracers.
    #[command(disable_help_flag = true)]
    Bench {
        /// `--static`: measure the binary that is shipped, not the release build. All other arguments are for the bench
        /// program; `--help` names them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Fuzz everything that reads what strangers made: bytes of the kernel, files, names, arguments.
    Fuzz {
        /// One target only; all of them when left out.
        target: Option<String>,
        /// Inputs for each target.
        #[arg(long, default_value_t = 10_000_000)]
        runs: u64,
        /// End each target after this many seconds all the same.
        #[arg(long)]
        seconds: Option<u64>,
        /// With AddressSanitizer, which is several times slower.
        #[arg(long)]
        address: bool,
    },
    /// Build, then put a mixed load on tcptrail for half an hour and see what becomes of it.
    #[command(disable_help_flag = true)]
    Soak {
        /// Arguments for the soak program: `--duration 30m`; `--report` instead reports a recording of a million
        /// connections and opens it in Chromium; `--verdicts [--minutes 10] [--only pools|wrk|deploy]` runs
        /// healthy software instead, of which nothing may be called a leak.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Make a picture (SVG) of a screen: `tmux capture-pane -e -p | cargo xtask picture > docs/top.svg`.
    Picture,
    /// Run one test binary, through sudo if it is a live test (called by the test runner).
    #[command(hide = true)]
    TestRunner {
        /// The test binary and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        args: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    if let Some(code) = ebpf_cargo::as_rustc() {
        return code;
    }
    let done = match Cli::parse().verb {
        Verb::Setup { tests } => setup::verb(tests),
        Verb::Build => build::verb(),
        Verb::Ebpf { check } => ebpf::verb(check),
        Verb::Dist { architectures, verify } => dist::verb(&architectures, verify),
        Verb::Roots(options) => roots::verb(&options),
        Verb::Run { args } => run::verb(&args),
        Verb::Test { args } => test::verb(&args),
        Verb::Kernels(options) => kernels::verb(&options),
        Verb::Lint => lint::verb(),
        Verb::Bench { args } => bench::verb(&args),
        Verb::Fuzz { target, runs, seconds, address } => {
            fuzz::verb(target.as_deref(), &fuzz::Options { runs, seconds, address })
        }
        Verb::Soak { args } => soak::verb(&args),
        Verb::Picture => picture::verb(),
        Verb::TestRunner { args } => test::runner(&args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            // `{:#}` keeps the chain on one line and, unlike Debug, prints no backtrace.
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
