//! The programs that take stacks: an object of its own, loaded only where stacks are wanted.

mod settings;

use std::fs;
use std::io;

use aya::maps::{HashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::{FExit, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader};
use tracer_common::names;
use tracer_common::stack::{CodeRange, StackSettings};
use zerocopy::IntoBytes;

use crate::filter::Filter;
use crate::kernel::btf::Btf;
use crate::kernel::layout::Resolved;
use crate::kernel::loader::{
    Hook, LoadError, VERIFIER_LOG, attach, raise_memlock, recursion_misses, refused_object,
    take_map,
};
use crate::kernel::preflight::{VMLINUX_BTF, is_preemptible};
use crate::kernel::refusal::in_words;
use crate::kernel::ring::Reader;

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("TCPTRAIL_STACKS_OBJECT"));

/// Where `tcp_recvmsg` tells of a reader.
const READ: &str = "tcp_rcv_space_adjust";
/// Where a thread tells that it has sent (Linux 6.3).
const SEND: &str = "sock_send_length";
/// Room for stacks on their way: a new one takes 2.6 KiB, with memory 23, one that is known 80 bytes. Connects only.
const RING_BYTES: u32 = 4 << 20;
/// With accepts, reads and sends.
const RING_BYTES_OF_ALL: u32 = 8 << 20;

/// As the kernel's maps hold it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Pod<T>(T);

#[expect(unsafe_code, reason = "aya asks for a promise about the type")]
// SAFETY: integers without padding.
unsafe impl aya::Pod for Pod<CodeRange> {}

/// The running programs. Dropping it detaches them.
pub struct StackPrograms {
    ebpf: Ebpf,
    /// Every hook that was tried.
    pub hooks: Vec<Hook>,
    drops: PerCpuArray<MapData, u64>,
    interpreters: HashMap<MapData, u32, Pod<CodeRange>>,
    known: HashMap<MapData, u64, u8>,
}

/// Loads and attaches what this kernel permits; the ring is handed out for reading. `accepted`: also who
/// accepts sockets and reads from them is wanted, whatever that takes.
///
/// # Errors
/// When no stack can be taken at all. What is merely missing is in `hooks`.
pub fn load(
    resolved: &Resolved,
    filter: &Filter,
    accepted: bool,
    aya_btf: &aya::Btf,
) -> Result<(StackPrograms, Reader), LoadError> {
    raise_memlock();
    let refused = |reason: String| LoadError::Refused { program: names::STACK_CONNECT, reason };
    let bytes = fs::read(VMLINUX_BTF).map_err(|error| refused(error.to_string()))?;
    let btf = Btf::parse(bytes).map_err(|error| refused(error.to_string()))?;
    let settings = settings::settings(&btf, resolved, filter).map_err(refused)?;
    let mut ebpf = EbpfLoader::new()
        .btf(Some(aya_btf))
        .verifier_log_level(VERIFIER_LOG)
        .override_global(names::STACK_SETTINGS, settings.as_bytes(), true)
        .map_max_entries(names::STACK_RING, if accepted { RING_BYTES_OF_ALL } else { RING_BYTES })
        .load(OBJECT)
        .map_err(refused_object)?;
    let connect = attach(&mut ebpf, names::STACK_CONNECT, names::SET_STATE, aya_btf);
    if let Err(reason) = &connect {
        return Err(refused(reason.clone()));
    }
    // Second programs are for what is skipped when a task is preempted; without one, more of it is. Where
    // nobody is, the verifier is spared the work.
    let twice = is_preemptible();
    if twice {
        let _ = attach(&mut ebpf, names::STACK_CONNECT_MISSED, names::SET_STATE, aya_btf);
    }
    let mut hooks =
        vec![hook("tp_btf/inet_sock_set_state", "the code that connects is unknown", connect)];
    if accepted {
        let read = if btf.has_typedef("btf_trace_tcp_rcv_space_adjust") {
            let read = attach(&mut ebpf, names::STACK_READ, READ, aya_btf);
            if twice {
                let _ = attach(&mut ebpf, names::STACK_READ_MISSED, READ, aya_btf);
            }
            read
        } else {
            Err("this kernel has no such tracepoint".to_owned())
        };
        hooks.push(hook(
            "tp_btf/tcp_rcv_space_adjust",
            "the code that reads from sockets is unknown",
            read,
        ));
        let has_send = btf.has_typedef("btf_trace_sock_send_length");
        accept_hooks(&mut ebpf, &settings, (twice, has_send), aya_btf, &mut hooks);
    }
    let ring = take_map(&mut ebpf, names::STACK_RING)?;
    let drops = take_map(&mut ebpf, names::STACK_DROPS)?;
    let interpreters = take_map(&mut ebpf, names::INTERPRETERS)?;
    let known = take_map(&mut ebpf, names::STACK_KNOWN)?;
    let ring = Reader(RingBuf::try_from(ring).map_err(EbpfError::from)?);
    let drops = PerCpuArray::try_from(drops).map_err(EbpfError::from)?;
    let interpreters = HashMap::try_from(interpreters).map_err(EbpfError::from)?;
    let known = HashMap::try_from(known).map_err(EbpfError::from)?;
    Ok((StackPrograms { ebpf, hooks, drops, interpreters, known }, ring))
}

fn hook(name: &'static str, cost: &'static str, outcome: Result<(), String>) -> Hook {
    Hook { name, required: false, cost, outcome }
}

/// The end of `inet_csk_accept` costs only who accepts; the end of system calls costs every call on the
/// machine a little, and is for kernels that permit no programs on functions.
fn accept_hooks(
    ebpf: &mut Ebpf,
    settings: &StackSettings,
    (twice, has_send): (bool, bool),
    btf: &aya::Btf,
    hooks: &mut Vec<Hook>,
) {
    let fexit = match settings.accept_args {
        2 => attach_fexit(ebpf, names::STACK_ACCEPT, btf),
        4 => attach_fexit(ebpf, names::STACK_ACCEPT_4, btf),
        _ => Err("its arguments are unknown".to_owned()),
    };
    let permitted = fexit.is_ok();
    if permitted && twice {
        let second = match settings.accept_args {
            2 => names::STACK_ACCEPT_MISSED,
            _ => names::STACK_ACCEPT_4_MISSED,
        };
        let _ = attach_fexit(ebpf, second, btf);
    }
    let cost =
        "tcptrail uses sys_exit instead, which makes every system call on the machine slower";
    hooks.push(hook("fexit/inet_csk_accept", cost, fexit));
    if permitted {
        let sends = if has_send {
            attach(ebpf, names::STACK_SEND, SEND, btf)
        } else {
            Err("this kernel has no such tracepoint (6.3 and later do)".to_owned())
        };
        let cost = "tcptrail sees the methods that handle requests only when they connect or read";
        hooks.push(hook("tp_btf/sock_send_length", cost, sends));
        return;
    }
    let way = [
        settings.task_files,
        settings.fdt_fd,
        settings.files_fdt,
        settings.file_private,
        settings.socket_sk,
        settings.regs_syscall,
    ];
    let outcome = if settings.accept == 0 || way.contains(&0) {
        Err("the kernel's way from a file descriptor to its socket is unknown".to_owned())
    } else {
        attach(ebpf, names::STACK_ACCEPT_EXIT, "sys_exit", btf)
    };
    hooks.push(hook(
        "tp_btf/sys_exit",
        "the code that accepts is unknown; only the code that reads is known",
        outcome,
    ));
}

fn attach_fexit(ebpf: &mut Ebpf, name: &str, btf: &aya::Btf) -> Result<(), String> {
    let program: &mut FExit = ebpf
        .program_mut(name)
        .ok_or("not in the eBPF object")?
        .try_into()
        .map_err(|error: ProgramError| in_words(&error))?;
    program.load("inet_csk_accept", btf).map_err(|error| in_words(&error))?;
    program.attach().map_err(|error| in_words(&error))?;
    Ok(())
}

impl StackPrograms {
    /// Stacks lost so far because the ring was full.
    ///
    /// # Errors
    /// When the kernel does not let us read the map.
    pub fn dropped(&self) -> io::Result<u64> {
        let per_cpu = self.drops.get(&0, 0).map_err(io::Error::other)?;
        Ok(per_cpu.iter().sum())
    }

    /// How many openings the kernel may have skipped both programs for: at most that many, since it counts
    /// every call, also those that are of no interest. Where nobody is preempted only those are skipped.
    ///
    /// # Errors
    /// When procfs does not say it.
    pub fn skipped(&self) -> io::Result<u64> {
        const PAIRS: [(&str, &str); 3] = [
            (names::STACK_CONNECT, names::STACK_CONNECT_MISSED),
            (names::STACK_ACCEPT, names::STACK_ACCEPT_MISSED),
            (names::STACK_ACCEPT_4, names::STACK_ACCEPT_4_MISSED),
        ];
        if !is_preemptible() {
            return Ok(0);
        }
        let mut sum = 0;
        for (first, second) in PAIRS {
            let first = recursion_misses(&self.ebpf, first)?.unwrap_or(0);
            let second = recursion_misses(&self.ebpf, second)?;
            sum += second.map_or(first, |second| second.min(first));
        }
        Ok(sum)
    }

    /// Tells the programs where a process has HotSpot's code, or, with empty ranges, that it has none.
    pub fn set_interpreter(&mut self, pid: u32, range: CodeRange) {
        // A full map costs only that more of the stack is written.
        let _ = self.interpreters.insert(pid, Pod(range), 0);
    }

    /// Stacks that were let go here are to be written whole when they are seen again.
    pub fn forget_stacks(&mut self, hashes: &[u64]) {
        for hash in hashes {
            // It may have had to give way to others.
            let _ = self.known.remove(hash);
        }
    }

    /// Forgets a process that has ended.
    pub fn forget(&mut self, pid: u32) {
        let _ = self.interpreters.remove(&pid);
    }
}
