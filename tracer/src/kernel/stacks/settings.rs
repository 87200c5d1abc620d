//! What the programs that take stacks need to know of this kernel, and of what is wanted.

use tracer_common::stack::{StackSettings, TASK_SLOTS};

use crate::event::Comm;
use crate::filter::Filter;
use crate::kernel::btf::Btf;
use crate::kernel::layout::Resolved;

/// A stack of the same reader of a socket is taken again after this time.
const READ_EVERY_MS: u32 = 1_000;
/// Stacks that are taken of what a thread does after it has read a request.
const HANDLER_SAMPLES: u32 = 4;

/// All settings. The error says what is missing here.
pub(super) fn settings(
    btf: &Btf,
    resolved: &Resolved,
    filter: &Filter,
) -> Result<StackSettings, String> {
    let layout = &resolved.layout;
    let mut settings = StackSettings {
        protocol: layout.protocol,
        cookie: layout.cookie,
        cookie_helper: u32::from(resolved.cookie_helper),
        task_leader: required(btf, "task_struct", "group_leader")?,
        task_comm: required(btf, "task_struct", "comm")?,
        task_files: optional(btf, "task_struct", "files"),
        files_fdt: optional(btf, "files_struct", "fdt"),
        fdt_fd: optional(btf, "fdtable", "fd"),
        file_private: optional(btf, "file", "private_data"),
        socket_sk: optional(btf, "socket", "sk"),
        socket_file: optional(btf, "socket", "file"),
        regs_helper: u32::from(btf.has_func("bpf_task_pt_regs")),
        task_stack: optional(btf, "task_struct", "stack"),
        // The result stands behind the arguments. The number changed with 6.10.
        accept_args: accept_args(btf),
        read_every_ms: READ_EVERY_MS,
        handler_samples: HANDLER_SAMPLES,
        write_seq: optional(btf, "tcp_sock", "write_seq"),
        ..StackSettings::default()
    };
    registers(btf, &mut settings)?;
    wanted(filter, &mut settings);
    Ok(settings)
}

/// The offset of a field.
fn required(btf: &Btf, root: &str, path: &str) -> Result<u32, String> {
    btf.field(root, path).map(|field| field.offset).map_err(|error| error.to_string())
}

/// The offset of a field, 0 when this kernel has none.
fn optional(btf: &Btf, root: &str, path: &str) -> u32 {
    btf.field(root, path).map_or(0, |field| field.offset)
}

/// Where the user's registers are, and the numbers of the system calls that accept.
fn registers(btf: &Btf, settings: &mut StackSettings) -> Result<(), String> {
    if cfg!(target_arch = "x86_64") {
        settings.regs_fp = required(btf, "pt_regs", "bp")?;
        settings.regs_sp = required(btf, "pt_regs", "sp")?;
        settings.regs_ip = required(btf, "pt_regs", "ip")?;
        settings.regs_syscall = optional(btf, "pt_regs", "orig_ax");
        (settings.accept, settings.accept4) = (43, 288);
        // THREAD_SIZE less a `struct pt_regs`: right before 5.15 brought the helper.
        settings.stack_regs = (16 << 10) - 168;
    } else if cfg!(target_arch = "aarch64") {
        settings.regs_fp = required(btf, "pt_regs", "regs")? + 29 * 8;
        settings.regs_link = settings.regs_fp + 8;
        settings.regs_sp = required(btf, "pt_regs", "sp")?;
        settings.regs_ip = required(btf, "pt_regs", "pc")?;
        settings.regs_syscall = optional(btf, "pt_regs", "syscallno");
        (settings.accept, settings.accept4) = (202, 242);
        if settings.regs_helper == 0 {
            return Err(
                "this kernel does not let programs see a thread's registers (5.15 and later do)"
                    .into(),
            );
        }
    } else {
        return Err(format!("tcptrail cannot take stacks on {}", std::env::consts::ARCH));
    }
    Ok(())
}

/// Processes and names that the programs filter by. More than they have room for is left to user space.
fn wanted(filter: &Filter, settings: &mut StackSettings) {
    if filter.pids.len() <= TASK_SLOTS {
        settings.pid_count = u32::try_from(filter.pids.len()).unwrap_or(0);
        for (slot, pid) in settings.pids.iter_mut().zip(&filter.pids) {
            *slot = *pid;
        }
    }
    if filter.comms.len() <= TASK_SLOTS {
        settings.comm_count = u32::try_from(filter.comms.len()).unwrap_or(0);
        for (slot, comm) in settings.comms.iter_mut().zip(&filter.comms) {
            let name = Comm::new(comm).0;
            let half =
                |at: usize| name[at..].first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
            *slot = [half(0), half(8)];
        }
    }
}

fn accept_args(btf: &Btf) -> u32 {
    match btf.params("inet_csk_accept") {
        Some(2) => 2,
        Some(4) => 4,
        _ => 0,
    }
}
