//! `kernels`: the live tests in real kernels under QEMU, and a table of what came of them.
//!
//! Each kernel boots with a root of its own in memory: this machine's tools and libraries, the release
//! binary, and the compiled live tests. The processor is emulated, so nothing measured there means
//! anything; the tests are told so (`TCPTRAIL_SLOW_MACHINE`) and widen their tolerances, not their
//! truths.

mod arch;
mod cross;
mod emulator;
mod foreign;
mod guest;
mod initrd;
mod packages;
mod plan;
mod root;
mod stage;
mod table;

use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{build, ebpf, setup};
use arch::Arch;
use emulator::Emulator;
use guest::{Machine, Report};
use packages::Kernel;
use plan::Plan;
use root::Running;

/// Programs this verb uses, and Debian's packages that have them.
const TOOLS: [(&str, &str); 7] = [
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
    ("strip", "binutils"),
    ("setpriv", "util-linux"),
];

#[derive(Args)]
pub(crate) struct Options {
    /// Series of kernels, for instance 6.12; by default 5.10, 6.1, 6.12, 6.16, 6.18 and 7.2. For aarch64 6.1, 6.12
    /// and 6.12-16k, which has pages of 16 KiB.
    series: Vec<String>,
    /// Architecture of the guests: x86_64 or aarch64, which is emulated the slowest.
    #[arg(long, default_value = std::env::consts::ARCH)]
    arch: String,
    /// Only live tests whose name contains one of these (repeatable).
    #[arg(long = "test", value_name = "NAME")]
    tests: Vec<String>,
    /// Only the selection that continuous integration runs.
    #[arg(long)]
    quick: bool,
    /// Guests at a time.
    #[arg(long, default_value_t = 2)]
    guests: usize,
    /// Tests at a time in each guest.
    #[arg(long, default_value_t = 4)]
    jobs: usize,
    /// Processors of each guest. With two a kernel that changes its own code while the other processor
    /// runs it panics now and then: QEMU's emulation, not the kernel.
    #[arg(long, default_value_t = 1)]
    cpus: usize,
    /// Begin no test after this many minutes, which the kernels share; what was not begun is shown.
    #[arg(long, value_name = "MINUTES")]
    minutes: Option<u32>,
    /// Run this shell command in the guests instead of the tests, and print what it says.
    #[arg(long, value_name = "COMMAND")]
    shell: Option<String>,
}

pub(crate) fn verb(options: &Options) -> Result<ExitCode> {
    let arch = Arch::of(&options.arch)?;
    setup::test_tools();
    if arch.is_own() {
        build::all()?;
    } else {
        ebpf::refresh()?;
        foreign::required()?;
    }
    run(options, arch)
}

/// Everything but the build.
fn run(options: &Options, arch: Arch) -> Result<ExitCode> {
    setup::required(&TOOLS, "kernels in QEMU")?;
    let emulator = Emulator::of(arch)?;
    let series: Vec<&str> = if options.series.is_empty() {
        arch.series().to_vec()
    } else {
        options.series.iter().map(String::as_str).collect()
    };
    let plan = Plan::new(arch, &options.tests, options.quick)?;
    let kernels = packages::get(arch, &series)?;
    let guests = options.guests.max(1);
    let running = Running { jobs: options.jobs, shell: options.shell.as_deref() };
    let base = if arch.is_own() {
        root::image(&plan, &running)?
    } else {
        foreign::image(arch, &plan, &running)?
    };

    if options.shell.is_none() {
        let count = plan.tests().count();
        eprintln!("xtask: {count} live tests in each of {} kernels", kernels.len());
    }
    let end = options.minutes.map(|minutes| Instant::now() + Duration::from_secs(60) * minutes);
    let waiting = Mutex::new(kernels.iter());
    let reports: Vec<Result<(&Kernel, Report)>> = thread::scope(|scope| {
        let guests: Vec<_> = (0..guests)
            .map(|_| {
                scope.spawn(|| {
                    let mut done = Vec::new();
                    while let Some((kernel, behind)) = next(&waiting) {
                        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
                        let seconds = left.map(|left| share(left, behind, guests));
                        let machine =
                            Machine { arch, cpus: options.cpus, seconds, emulator: &emulator };
                        let report = guest::run(kernel, &base, &plan, &machine)
                            .with_context(|| format!("kernel {}", kernel.release));
                        done.push(report.map(|report| (kernel, report)));
                    }
                    done
                })
            })
            .collect();
        guests.into_iter().flat_map(|guest| guest.join().unwrap_or_default()).collect()
    });
    let mut reports = reports.into_iter().collect::<Result<Vec<_>>>()?;
    if reports.len() != kernels.len() {
        bail!("a guest's thread panicked: see above");
    }
    reports.sort_by_key(|(kernel, _)| kernels.iter().position(|one| one.release == kernel.release));
    if options.shell.is_some() {
        for (kernel, report) in &reports {
            println!("--- {}\n{}", kernel.release, report.said);
        }
        return Ok(ExitCode::SUCCESS);
    }
    table::print(&plan, &reports);
    let good = reports.iter().all(|(_, report)| report.is_good(&plan, end.is_some()));
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The next kernel, and how many wait behind it.
fn next<'a>(waiting: &Mutex<std::slice::Iter<'a, Kernel>>) -> Option<(&'a Kernel, usize)> {
    let mut waiting = waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let kernel = waiting.next()?;
    Some((kernel, waiting.len()))
}

/// Seconds that a kernel has of the time that is `left` for it and those behind it.
fn share(left: Duration, behind: usize, guests: usize) -> u64 {
    let rounds = (behind + 1).div_ceil(guests).max(1);
    left.as_secs() / u64::try_from(rounds).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_kernel_leaves_is_for_those_behind_it() {
        let check = |left, behind, guests, expect| {
            assert_eq!(share(Duration::from_secs(left), behind, guests), expect);
        };
        // Six kernels, two at a time, eight minutes.
        check(480, 5, 2, 160);
        check(480, 4, 2, 160);
        check(360, 3, 2, 180);
        check(355, 2, 2, 177);
        check(170, 1, 2, 170);
        check(160, 0, 2, 160);
        check(0, 0, 2, 0);
        check(60, 2, 1, 20);
    }
}
