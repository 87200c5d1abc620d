//! `doctor`: everything tcptrail needs from this kernel, each tried for real.

mod check;
mod programs;

use std::io::Write;

use crate::doctor::check::Checks;
use crate::kernel::cgroups::{self, Mounts};
use crate::kernel::{conntrack, destroy, netns, preflight};
use crate::text::Terminal;

/// Tries everything and prints a line each. Exit code 0 when tracing works.
#[must_use]
pub fn run(json: bool) -> u8 {
    let terminal = Terminal::of_stdout(std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty()));
    u8::from(!report(&mut std::io::stdout(), json, terminal))
}

/// Tries everything; the lines as they are in a file.
#[must_use]
pub fn text() -> String {
    let mut out = Vec::new();
    report(&mut out, false, Terminal { width: None, color: false });
    String::from_utf8_lossy(&out).into_owned()
}

/// Tries everything, and writes the lines for a terminal or as JSON. Returns whether tracing works.
fn report(out: &mut dyn Write, json: bool, terminal: Terminal) -> bool {
    let mut checks = Checks::new(out, json, terminal);
    examine(&mut checks);
    if !json {
        let verdict = match (checks.works, checks.complete) {
            (true, true) => "Everything works.\n",
            (true, false) => "Tracing works; what is missing is named above.\n",
            (false, _) => "Tracing does not work here; the first line marked NO says why.\n",
        };
        checks.write(verdict.as_bytes());
    }
    checks.works
}

fn examine(checks: &mut Checks<'_>) {
    let (release, machine) = preflight::kernel_names();
    checks.push("kernel", true, Ok(format!("{release} {machine}")));

    let capabilities = preflight::Capabilities::of_this_process();
    let permitted = capabilities.bpf && capabilities.perfmon;
    checks.push("privileges", true, match (permitted, capabilities.sys_admin) {
        (true, true) => Ok("CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN".into()),
        (true, false) => Ok("CAP_BPF, CAP_PERFMON; without CAP_SYS_ADMIN only sockets of this network namespace are listed".into()),
        (false, _) => Err("no CAP_BPF and CAP_PERFMON: run as root (sudo tcptrail doctor)".into()),
    });

    let resolved = match preflight::resolve() {
        Ok(resolved) => {
            checks.push("BTF", true, Ok(preflight::VMLINUX_BTF.into()));
            for missing in &resolved.missing {
                checks.push(
                    &missing.field,
                    false,
                    Err(format!("not in this kernel: {}", missing.cost)),
                );
            }
            for (name, cost) in resolved.lacks() {
                checks.push(name, false, Err(format!("not in this kernel: {cost}")));
            }
            resolved
        }
        Err(error) => {
            checks.push("BTF", true, Err(error.to_string()));
            return;
        }
    };
    if permitted {
        programs::try_programs(checks, &resolved);
    }
    let ends = destroy::probe().map_err(|reason| format!("{reason}: kill does not work"));
    let ended = || "a connection made on loopback was ended: kill works".to_owned();
    checks.push("SOCK_DESTROY", false, ends.map(|()| ended()));
    if resolved.layout.cgroup != 0 {
        checks.push("cgroups", false, cgroup_names(&cgroups::mounts()));
    }
    checks.push("conntrack", false, conntrack::probe());
    let namespaces = netns::all().len();
    checks.push("network namespaces", false, Ok(format!("{namespaces} found")));
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
