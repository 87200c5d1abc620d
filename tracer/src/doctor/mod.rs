//! `doctor`: everything tcptrail needs from this kernel, each tried for real.

mod check;
mod programs;

use std::io::Write;

use crate::doctor::check::Check;
use crate::kernel::cgroups::{self, Mounts};
use crate::kernel::{destroy, netns, preflight};
use crate::text::Terminal;

/// Tries everything and prints a line each. Exit code 0 when tracing works.
#[must_use]
pub fn run(json: bool) -> u8 {
    let terminal = Terminal::of_stdout(std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty()));
    let (out, works) = report(json, terminal);
    // A reader that has gone has seen enough.
    let _ = std::io::stdout().write_all(&out);
    u8::from(!works)
}

/// Tries everything; the lines as they are in a file.
#[must_use]
pub fn text() -> String {
    let (out, _) = report(false, Terminal { width: None, color: false });
    String::from_utf8_lossy(&out).into_owned()
}

/// Tries everything; the lines for a terminal or as JSON, and whether tracing works.
fn report(json: bool, terminal: Terminal) -> (Vec<u8>, bool) {
    let mut checks = Vec::new();
    examine(&mut checks);
    let works = checks.iter().all(|check| check.outcome.is_ok() || !check.required);
    let mut out = Vec::new();
    for check in &checks {
        if json { check.json(&mut out) } else { check.text(terminal, &mut out) }
    }
    if !json {
        let complete = checks.iter().all(|check| check.outcome.is_ok());
        let verdict = match (works, complete) {
            (true, true) => "Everything works.",
            (true, false) => "Tracing works; what is missing is named above.",
            (false, _) => "Tracing does not work here; the first line marked NO says why.",
        };
        out.extend_from_slice(verdict.as_bytes());
        out.push(b'\n');
    }
    (out, works)
}

fn examine(checks: &mut Vec<Check>) {
    let (release, machine) = preflight::kernel_names();
    Check::push(checks, "kernel", true, Ok(format!("{release} {machine}")));

    let capabilities = preflight::Capabilities::of_this_process();
    let permitted = capabilities.bpf && capabilities.perfmon;
    Check::push(checks, "privileges", true, match (permitted, capabilities.sys_admin) {
        (true, true) => Ok("CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN".into()),
        (true, false) => Ok("CAP_BPF, CAP_PERFMON; without CAP_SYS_ADMIN only sockets of this network namespace are listed".into()),
        (false, _) => Err("no CAP_BPF and CAP_PERFMON: run as root (sudo tcptrail doctor)".into()),
    });

    let resolved = match preflight::resolve() {
        Ok(resolved) => {
            Check::push(checks, "BTF", true, Ok(preflight::VMLINUX_BTF.into()));
            for missing in &resolved.missing {
                Check::push(
                    checks,
                    &missing.field,
                    false,
                    Err(format!("not in this kernel: {}", missing.cost)),
                );
            }
            for (name, cost) in resolved.lacks() {
                Check::push(checks, name, false, Err(format!("not in this kernel: {cost}")));
            }
            resolved
        }
        Err(error) => {
            Check::push(checks, "BTF", true, Err(error.to_string()));
            return;
        }
    };
    if permitted {
        programs::try_programs(checks, &resolved);
    }
    let ends = destroy::probe().map_err(|reason| format!("{reason}: kill does not work"));
    let ended = || "a connection made on loopback was ended: kill works".to_owned();
    Check::push(checks, "SOCK_DESTROY", false, ends.map(|()| ended()));
    if resolved.layout.cgroup != 0 {
        Check::push(checks, "cgroups", false, cgroup_names(&cgroups::mounts()));
    }
    let namespaces = netns::all().len();
    Check::push(checks, "network namespaces", false, Ok(format!("{namespaces} found")));
}

/// Sockets have a cgroup of version 2, by its number; names come from where that is mounted.
fn cgroup_names(mounts: &Mounts) -> Result<String, String> {
    let Some(root) = &mounts.root else {
        return Err(
            "no cgroup version 2 hierarchy is mounted: cgroups and containers have no names, --cgroup does not work"
                .into(),
        );
    };
    let root = root.display();
    if mounts.version_1 {
        return Ok(format!(
            "version 2 at {root}; containers with cgroups of version 1 only are not named"
        ));
    }
    Ok(format!("version 2 at {root}"))
}
