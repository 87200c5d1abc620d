//! Loads the programs with their globals set, attaches them, and says what works and what does not.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::thread;

use aya::maps::{MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::{BtfTracePoint, ProgramError};
use aya::{Btf, Ebpf, EbpfError, EbpfLoader, VerifierLogLevel};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;
use tracer_common::globals::{Filter, Settings};
use tracer_common::names;
use tracer_common::wire::{COVERED, Drops};
use zerocopy::IntoBytes;

use super::constants;
use super::drops;
pub use super::drops::Untold;
use super::hooks::HOOKS;
pub use super::hooks::Hook;
use super::layout::Resolved;
use super::preflight;
use super::refusal::in_words;
use super::ring::{self, Reader};
use crate::privileges;

/// The programs, compiled for the kernel's virtual machine.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("TCPTRAIL_EBPF_OBJECT"));

/// Level of aya-log messages, read by the programs (`aya_log::LEVEL`); 0 compiles them away.
const LOG_OFF: u8 = 0;
const LOG_DEBUG: u8 = 4;

/// Why the programs are not running. Each text is a sentence with what can be done.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The object or a map.
    #[error("the kernel refused the eBPF maps or program code: {0}")]
    Object(#[from] EbpfError),
    /// Kernels before 5.11 charge maps and programs to the locked memory of their owner.
    #[error(
        "the kernel refused the eBPF maps: Linux before 5.11 counts them as locked memory, and the limit is {0} KiB. Give tcptrail CAP_SYS_RESOURCE too, or raise the limit as root first (ulimit -l unlimited)"
    )]
    LockedMemory(u64),
    /// Came with 5.8; some distributions' older kernels have it.
    #[error(
        "the kernel refused the BPF ring buffer for the events ({0}): it needs Linux 5.8 or later, or an older kernel to which the distribution has added it"
    )]
    NoRing(io::Error),
    /// The kernel's BTF as aya reads it.
    #[error("the kernel's BTF cannot be read: {0}")]
    Btf(#[from] aya::BtfError),
    /// A program nothing works without.
    #[error(
        "the kernel refused the program {program}: {reason}; `tcptrail doctor` tries every hook and says more"
    )]
    Refused {
        /// Which.
        program: &'static str,
        /// The kernel's words.
        reason: String,
    },
    /// The kernel's structs are larger than any that are known.
    #[error(
        "the programs cannot be fitted to this kernel: {0}. Please report it with what `tcptrail doctor` says"
    )]
    TooFar(#[from] constants::TooFar),
    /// The object lacks what this binary expects of it.
    #[error("the eBPF object has no {0}: build tcptrail again without TCPTRAIL_EBPF_OBJECT")]
    Incomplete(&'static str),
}

/// What to load.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the programs let through.
    pub filter: Filter,
    /// Size of the ring buffer: a power of two, at least a page.
    pub ring_bytes: u32,
    /// Whether the programs' debug messages are wanted.
    pub debug: bool,
    /// Whether segments that the kernel drops are wanted.
    pub drops: bool,
    /// Whether short walks are to show half-closed sockets too.
    pub half_closed: bool,
    /// Whether the walk over descriptors counts those that are no TCP sockets, by kind.
    pub descriptors: bool,
}

/// The running programs. Dropping it detaches them.
pub struct Programs {
    ebpf: Ebpf,
    /// Every tracepoint that was tried.
    pub hooks: Vec<Hook>,
    drops: PerCpuArray<MapData, Drops>,
    paces: drops::Paces,
    /// The second program on state changes is attached.
    covered: bool,
}

/// Loads and attaches everything; the ring is handed out for reading.
///
/// # Errors
/// When nothing can be traced. A hook that is merely useful and refused is in `hooks`.
pub fn load(
    resolved: &Resolved,
    options: &Options,
    btf: &Btf,
) -> Result<(Programs, Reader), LoadError> {
    raise_memlock();
    let mut ebpf = load_object(resolved, options, btf)?;
    verify_largest(&mut ebpf, btf);
    let mut hooks = Vec::new();
    for (name, required, cost) in HOOKS {
        if name == names::KFREE_SKB && !options.drops {
            continue;
        }
        let outcome = if name == names::KFREE_SKB && !resolved.tells_drops() {
            Err("this kernel does not say why it drops packets".to_owned())
        } else if resolved.has_tracepoint(name) {
            attach(&mut ebpf, name, name, btf)
        } else {
            Err("this kernel has no such tracepoint".to_owned())
        };
        if let (true, Err(reason)) = (required, &outcome) {
            return Err(LoadError::Refused { program: name, reason: reason.clone() });
        }
        hooks.push(Hook { name, required, cost, outcome });
    }
    // After the first one, so that the kernel runs it after.
    let covered = attach(&mut ebpf, names::SET_STATE_MISSED, names::SET_STATE, btf).is_ok();
    let ring = take_map(&mut ebpf, names::RING)?;
    let drops = take_map(&mut ebpf, names::DROPS)?;
    let ring = Reader(RingBuf::try_from(ring).map_err(EbpfError::from)?);
    let drops = PerCpuArray::try_from(drops).map_err(EbpfError::from)?;
    let paces = take_map(&mut ebpf, names::DROP_PACE)?;
    let paces = drops::Paces(PerCpuArray::try_from(paces).map_err(EbpfError::from)?);
    Ok((Programs { ebpf, hooks, drops, paces, covered }, ring))
}

/// Has the kernel verify both programs on state changes at the same time: that takes longer than all others together.
/// What is refused is said when it is attached.
fn verify_largest(ebpf: &mut Ebpf, btf: &Btf) {
    thread::scope(|scope| {
        for (name, program) in ebpf.programs_mut() {
            let largest = name == names::SET_STATE || name == names::SET_STATE_MISSED;
            if let (true, Ok(program)) = (largest, <&mut BtfTracePoint>::try_from(program)) {
                let verify = move || program.load(names::SET_STATE, btf);
                // Without a thread it is done later.
                let _ = thread::Builder::new().spawn_scoped(scope, verify);
            }
        }
    });
}

/// The kernel's BTF as aya wants it.
pub type KernelBtf = Btf;

/// Reads it, for [`load`] and the poller.
///
/// # Errors
/// When it cannot be read or makes no sense.
pub fn kernel_btf() -> Result<KernelBtf, LoadError> {
    Ok(Btf::from_sys_fs()?)
}

pub(super) fn take_map(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, LoadError> {
    ebpf.take_map(name).ok_or(LoadError::Incomplete(name))
}

/// Processes whose descriptors are counted; of more, nothing is said.
const MOST_PROCESSES: u32 = 8_192;

/// Why a program is refused is said at this level, too, and not every instruction on the way there: aya asks
/// again with a log when a load fails, and with a larger one until it fits. A signal fails a load
/// (`bpf_check` ends with EAGAIN); with all instructions Ctrl-C then took two seconds.
pub(super) const VERIFIER_LOG: VerifierLogLevel = VerifierLogLevel::STATS;

/// Parses the object, sets the globals and makes the maps; loads no program.
pub(super) fn load_object(
    resolved: &Resolved,
    options: &Options,
    btf: &Btf,
) -> Result<Ebpf, LoadError> {
    let settings = Settings {
        wake_bytes: ring::wake_bytes(options.ring_bytes),
        // In a millisecond a hundredth of a default ring can fill, in a hundredth of a second all of it.
        ask_every_ns: (options.ring_bytes >> 4).min(1_000_000),
        wake_every_ns: ring::WAKE_EVERY_NS,
        busy_bytes: ring::busy_bytes(ring::wake_bytes(options.ring_bytes)),
        cookie_helper: u32::from(resolved.cookie_helper),
        reset_reason: u32::from(resolved.send_reset_has_reason),
        retransmit_error: u32::from(resolved.retransmit_has_error),
        sock_from_file: u32::from(resolved.sock_from_file),
        task_btf: u32::from(resolved.task_btf),
        half_closed: u32::from(options.half_closed),
        descriptors: u32::from(options.descriptors),
        debug: u32::from(options.debug),
    };
    let level = if options.debug { LOG_DEBUG } else { LOG_OFF };
    let drops = drops::settings(resolved);
    let globals = [
        (names::LAYOUT, resolved.layout.as_bytes()),
        (names::FILTER, options.filter.as_bytes()),
        (names::SETTINGS, settings.as_bytes()),
        (names::DROP_SETTINGS, drops.as_bytes()),
    ];
    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(btf))
        .verifier_log_level(VERIFIER_LOG)
        .override_global(aya_log::LEVEL, &level, false)
        .map_max_entries(names::RING, options.ring_bytes)
        .map_max_entries(names::DESCRIPTORS, if options.descriptors { MOST_PROCESSES } else { 1 });
    for (name, value) in globals {
        loader.override_global(name, value, true);
    }
    let code = constants::put_in(OBJECT, &resolved.layout, &globals)?;
    loader.load(code.bytes()).map_err(refused_object)
}

/// What a refused object means.
pub(super) fn refused_object(error: EbpfError) -> LoadError {
    let old = preflight::version(&preflight::kernel_names().0).is_some_and(|it| it < (5, 11));
    let limit = getrlimit(Resource::Memlock).current;
    match (limit, is_not_permitted(&error)) {
        // A limit that we could not raise, on a kernel that looks at it (`bpf_map_charge_init`).
        (Some(limit), true) if old => LoadError::LockedMemory(limit / 1024),
        // An unknown type of map (`find_and_alloc_map`).
        _ if is_no_ring(&error) => LoadError::NoRing(io::Error::from_raw_os_error(EINVAL)),
        _ => LoadError::Object(error),
    }
}

/// What the kernel says of a type of map that it does not know.
const EINVAL: i32 = rustix::io::Errno::INVAL.raw_os_error();

fn is_no_ring(error: &EbpfError) -> bool {
    matches!(
        error,
        EbpfError::MapError(MapError::CreateError { name, io_error })
            if name == names::RING && io_error.raw_os_error() == Some(EINVAL)
    )
}

fn is_not_permitted(error: &EbpfError) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        let errno = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        if errno == Some(rustix::io::Errno::PERM.raw_os_error()) {
            return true;
        }
        source = error.source();
    }
    false
}

pub(super) fn attach(
    ebpf: &mut Ebpf,
    name: &str,
    tracepoint: &str,
    btf: &Btf,
) -> Result<(), String> {
    let program: &mut BtfTracePoint = ebpf
        .program_mut(name)
        .ok_or("not in the eBPF object")?
        .try_into()
        .map_err(|error: ProgramError| in_words(&error))?;
    match program.load(tracepoint, btf) {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => {}
        Err(error) => return Err(in_words(&error)),
    }
    program.attach().map_err(|error| in_words(&error))?;
    Ok(())
}

impl Programs {
    /// Records lost so far because the ring was full, all CPUs and kinds together.
    ///
    /// # Errors
    /// When the kernel does not let us read the map.
    pub fn dropped(&self) -> io::Result<u64> {
        Ok(self.counts()?.iter().skip(COVERED + 1).sum())
    }

    /// Whether reading a map needs a capability here, not only its descriptor.
    ///
    /// # Errors
    /// When the capabilities of this thread cannot be told.
    pub fn want_capability(&self) -> io::Result<bool> {
        privileges::is_refused_without(|| self.counts().is_ok())
    }

    /// Drops that were counted and are in no line: the last of a flood.
    ///
    /// # Errors
    /// When the kernel does not let us read the map.
    pub fn untold_drops(&self) -> io::Result<Untold> {
        self.paces.untold()
    }

    fn counts(&self) -> io::Result<Drops> {
        let per_cpu = self.drops.get(&0, 0).map_err(io::Error::other)?;
        let mut sums = Drops::default();
        for counts in per_cpu.iter() {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum = sum.saturating_add(*count);
            }
        }
        Ok(sums)
    }

    /// Events lost so far because the kernel skipped a program that was already running on that
    /// CPU; from `fdinfo`, where kernels since 5.12 say it. What the second program on state
    /// changes saw is not lost.
    ///
    /// # Errors
    /// When the kernel does not let us read the map.
    pub fn recursion_losses(&self) -> io::Result<u64> {
        let misses = self
            .hooks
            .iter()
            .map(|hook| Ok(recursion_misses(&self.ebpf, hook.name)?.unwrap_or(0)))
            .sum::<io::Result<u64>>()?;
        // Read after the misses: never more covered than were missed by then, but for those since.
        let covered = if self.covered { self.counts()?[COVERED] } else { 0 };
        Ok(misses.saturating_sub(covered))
    }

    /// The programs' debug messages, to be printed on stderr; needs [`Options::debug`].
    ///
    /// # Errors
    /// When their ring cannot be read.
    pub fn debug_messages(&mut self) -> Result<DebugMessages, aya_log::Error> {
        log::set_max_level(log::LevelFilter::Debug);
        let stderr: &'static dyn log::Log = &Stderr;
        aya_log::EbpfLogger::init_with_logger(&mut self.ebpf, stderr).map(DebugMessages)
    }
}

/// How often the kernel skipped a program that was already running on that CPU, since 5.12; `None` for a
/// program that is not loaded.
///
/// # Errors
/// When procfs takes us for another user: no figure is not a figure of 0.
pub(super) fn recursion_misses(ebpf: &Ebpf, name: &str) -> io::Result<Option<u64>> {
    let Some(fd) = ebpf.program(name).and_then(|program| program.fd().ok()) else {
        return Ok(None);
    };
    let mut file = File::open(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd()))?;
    // Some hundred bytes, which the kernel gives in one piece; left to itself a reader takes five, each second.
    let mut info = [0; 4096];
    let length = file.read(&mut info)?;
    let misses = String::from_utf8_lossy(info.get(..length).unwrap_or_default())
        .lines()
        .find_map(|line| line.strip_prefix("recursion_misses:"))
        .and_then(|count| count.trim().parse().ok());
    Ok(Some(misses.unwrap_or(0)))
}

/// Kernels before 5.11 charge maps to the locked-memory limit. Refused is not fatal: later kernels
/// need nothing, and on earlier ones the map's own error says it.
pub(super) fn raise_memlock() {
    let limit = getrlimit(Resource::Memlock);
    if limit.current.is_some() {
        let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
    }
}

/// Debug messages of the programs on their way to stderr.
pub struct DebugMessages(aya_log::EbpfLogger<&'static dyn log::Log>);

impl DebugMessages {
    /// Prints what has come in.
    pub fn flush(&mut self) {
        self.0.flush();
    }
}

/// One message a line.
struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("tcptrail: ebpf: {}", record.args());
    }

    fn flush(&self) {}
}
