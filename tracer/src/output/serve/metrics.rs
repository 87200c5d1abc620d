//! All figures of a snapshot, in families of metrics.

use std::fmt::Error;

use tracer_common::names;

use crate::config::Extra;
use crate::event::{Cause, Direction, LossCause};
use crate::input::{ITER_TCP, Origin};
use crate::output::cost;
use crate::output::serve::families::{Families, Labels};
use crate::output::serve::histogram::seconds;
use crate::output::serve::recorder::recorder;
use crate::output::serve::shared::{REFUSALS, Shared};
use crate::output::serve::snapshot::{Network, Snapshot};

/// As in [`Origin::hooks`].
const HOOKS: [&str; 9] = [
    names::SET_STATE,
    names::RETRANSMIT,
    names::RETRANSMIT_SYNACK,
    names::SEND_RESET,
    names::RECEIVE_RESET,
    names::ERROR_REPORT,
    names::KFREE_SKB,
    ITER_TCP,
    "iter/task_file",
];

/// Writes all of them.
pub(super) fn all(
    families: &mut Families<'_>,
    shared: &Shared,
    snapshot: &Snapshot,
) -> Result<(), Error> {
    sockets(families, snapshot)?;
    lives(families, snapshot)?;
    segments(families, snapshot, &shared.origin)?;
    times(families, snapshot)?;
    findings(families, snapshot, &shared.labels)?;
    limits(families, snapshot)?;
    kernel(families, snapshot, &shared.origin)?;
    shared.recorder.iter().try_for_each(|status| recorder(families, status))?;
    shared.otlp.iter().try_for_each(|status| status.write(families))?;
    ourselves(families, snapshot, shared)
}

fn sockets(families: &mut Families<'_>, snapshot: &Snapshot) -> Result<(), Error> {
    families.gauges(
        "tcptrail_connections",
        "Sockets that exist now, by workload, role (which side opened the connection) and TCP state",
        snapshot.gauges.open.iter().map(|((workload, role, state), count)| {
            (vec![("workload", &**workload), ("role", *role), ("state", *state)], *count)
        }),
    )?;
    families.gauges(
        "tcptrail_workloads_folded",
        "Workloads beyond the limit of 200; they are counted together as _other",
        [(vec![], snapshot.folded as u64)],
    )
}

fn lives(families: &mut Families<'_>, snapshot: &Snapshot) -> Result<(), Error> {
    let counts = || snapshot.counts.iter().map(|(workload, counts)| (&**workload, counts));
    families.counters(
        "tcptrail_connections_opened",
        "Completed handshakes",
        counts().flat_map(|(workload, counts)| {
            let rows = counts.opened.iter();
            rows.map(move |(role, n)| (vec![("workload", workload), ("role", role.name())], n))
        }),
    )?;
    families.counters(
        "tcptrail_connect_failures",
        "Failed connects of clients and failed handshakes of servers",
        counts().flat_map(|(workload, counts)| {
            counts.failed.iter().map(move |((role, why), n)| {
                let labels = [("role", role.name()), ("reason", why.name())];
                ([&[("workload", workload)][..], &labels].concat(), n)
            })
        }),
    )?;
    families.counters(
        "tcptrail_connections_closed",
        "Ended connections that had been established, by how they ended",
        counts().flat_map(|(workload, counts)| {
            counts.closed.iter().map(move |((role, how), n)| {
                let labels = [("role", role.name()), ("how", how.name())];
                ([&[("workload", workload)][..], &labels].concat(), n)
            })
        }),
    )
}

fn segments(
    families: &mut Families<'_>,
    snapshot: &Snapshot,
    origin: &Origin,
) -> Result<(), Error> {
    let counts = || snapshot.counts.iter().map(|(workload, counts)| (&**workload, counts));
    families.counters(
        "tcptrail_retransmits",
        "Retransmits by cause; segments that the kernel sends again at once count as one",
        counts().flat_map(|(workload, counts)| {
            counts.retransmits.iter().map(move |((kind, cause), n)| {
                let cause = cause.map_or("", Cause::name);
                let labels = [("kind", kind.name()), ("cause", cause)];
                ([&[("workload", workload)][..], &labels].concat(), n)
            })
        }),
    )?;
    families.counters(
        "tcptrail_resets",
        "RSTs sent and received; reason is the kernel's reason for a sent RST, empty if it gives none",
        counts().flat_map(|(workload, counts)| {
            counts.resets.iter().map(move |((way, reason), n)| {
                let reason = origin.reset_reason(reason).unwrap_or_default();
                let labels = [("direction", direction(way)), ("reason", reason)];
                ([&[("workload", workload)][..], &labels].concat(), n)
            })
        }),
    )?;
    families.counters(
        "tcptrail_bytes",
        "Payload bytes of ended connections; a byte that was sent again counts once",
        counts().flat_map(|(workload, counts)| {
            let rows = counts.bytes.iter();
            rows.map(move |(way, n)| {
                (vec![("workload", workload), ("direction", direction(way))], n)
            })
        }),
    )
}

fn times(families: &mut Families<'_>, snapshot: &Snapshot) -> Result<(), Error> {
    let times = &snapshot.times;
    let all = [
        (
            "tcptrail_connection_duration_seconds",
            "Lifetimes of ended connections, from the first SYN to the end of the closing handshake",
            "role",
            &times.life,
        ),
        (
            "tcptrail_handshake_duration_seconds",
            "Handshake times of ended connections",
            "role",
            &times.handshake,
        ),
        (
            "tcptrail_accept_duration_seconds",
            "Time from ESTABLISHED to accept() of ended connections, an upper bound",
            "role",
            &times.accept,
        ),
        (
            "tcptrail_rtt_seconds",
            "Smoothed round-trip times at the end of connections",
            "role",
            &times.rtt,
        ),
        (
            "tcptrail_state_duration_seconds",
            "Times in each TCP state of ended connections",
            "state",
            &times.in_state,
        ),
    ];
    for (name, help, label, by) in &all {
        families.histograms(name, help, label, by.iter())?;
    }
    let left_out = all.iter().map(|(name, _, _, by)| {
        (vec![("metric", *name)], by.values().map(|histogram| histogram.left_out).sum::<u64>())
    });
    families.counters(
        "tcptrail_durations_left_out",
        "Times that are in no histogram because they are not exact: the connection is older than this run, or an event was lost",
        left_out,
    )
}

fn findings(
    families: &mut Families<'_>,
    snapshot: &Snapshot,
    extra: &[Extra],
) -> Result<(), Error> {
    fn labels<'a>(second: &'a str, extra: &'a [Extra], values: &'a [String]) -> Labels<'a> {
        let names = ["workload", second].into_iter().chain(extra.iter().map(|label| label.name()));
        names.zip(values.iter().map(String::as_str)).collect()
    }
    let found = &snapshot.gauges.findings;
    families.gauges(
        "tcptrail_findings",
        "Findings that hold now; /findings has their text",
        found.iter().map(|(values, found)| (labels("rule", extra, values), found.count)),
    )?;
    families.gauges(
        "tcptrail_finding_oldest_seconds",
        "Age of the oldest socket of these findings, a lower bound",
        found.iter().filter(|(_, found)| found.oldest_ns != 0).map(|(values, found)| {
            (labels("rule", extra, values), seconds(u128::from(found.oldest_ns)))
        }),
    )?;
    families.gauges(
        "tcptrail_leaked_sockets",
        "Sockets of the 20 largest leaks. The fingerprint of a leak is the same on every machine",
        snapshot
            .gauges
            .leaked
            .iter()
            .map(|(values, count)| (labels("fingerprint", extra, values), *count)),
    )?;
    families.infos(
        "tcptrail_leak",
        "The meaning of a fingerprint: the rule, and the code that opened the sockets if it is known",
        snapshot.gauges.leaks.iter().map(|(mark, (rule, opener))| {
            vec![("fingerprint", mark.as_str()), ("rule", *rule), ("opener", opener.as_str())]
        }),
    )
}

fn limits(families: &mut Families<'_>, snapshot: &Snapshot) -> Result<(), Error> {
    let gauges = &snapshot.gauges;
    families.gauges(
        "tcptrail_fds",
        "File descriptors in use by the process of the workload that is nearest to its limit",
        gauges.fds.iter().map(|(workload, (fds, _))| (vec![("workload", &**workload)], *fds)),
    )?;
    families.gauges(
        "tcptrail_fd_limit",
        "Soft limit of file descriptors of that process",
        gauges.fds.iter().map(|(workload, (_, limit))| (vec![("workload", &**workload)], *limit)),
    )?;
    for (name, help, by) in [
        (
            "tcptrail_fd_exhaustion_seconds",
            "Time until a process of the workload has no file descriptor left, if their number grows steadily; 0 if none is left",
            &gauges.fds_left,
        ),
        (
            "tcptrail_accept_queue_ratio",
            "Share of the accept queue in use at the workload's fullest listener; 1 is full",
            &gauges.accept_queue,
        ),
        (
            "tcptrail_port_use_ratio",
            "Share of the local ports in use towards the workload's most used destination; at 1 connect() fails",
            &gauges.ports,
        ),
    ] {
        let rows = by.iter().map(|(workload, value)| (vec![("workload", &**workload)], *value));
        families.gauges(name, help, rows)?;
    }
    Ok(())
}

fn kernel(families: &mut Families<'_>, snapshot: &Snapshot, origin: &Origin) -> Result<(), Error> {
    let by = |of: fn(&Network) -> Option<u64>| {
        let classes = snapshot.namespaces.iter();
        classes
            .filter_map(move |(class, network)| Some((vec![("namespace", *class)], of(network)?)))
    };
    families.counters(
        "tcptrail_listen_drops",
        "SYNs and handshake ACKs that listeners dropped (TcpExt ListenDrops), since this run began",
        by(|network| network.listen_drops),
    )?;
    families.counters(
        "tcptrail_syn_cookies",
        "SYN-ACKs with a cookie (TcpExt SyncookiesSent), since this run began",
        by(|network| network.syn_cookies),
    )?;
    families.counters(
        "tcptrail_time_wait_overflow",
        "Connections that got no TIME_WAIT (TcpExt TCPTimeWaitOverflow), since this run began",
        by(|network| network.time_wait_overflows),
    )?;
    let name =
        |reason: u16| origin.drop_reasons.get(usize::from(reason)).map_or("", String::as_str);
    families.counters(
        "tcptrail_dropped_segments",
        "TCP segments that the kernel dropped, by its reason",
        snapshot.drops.iter().map(|(reason, count)| (vec![("reason", name(reason))], count)),
    )
}

fn ourselves(
    families: &mut Families<'_>,
    snapshot: &Snapshot,
    shared: &Shared,
) -> Result<(), Error> {
    families.counters(
        "tcptrail_events",
        "Processed events of sockets that pass the filters",
        snapshot.events.iter().map(|(kind, count)| (vec![("kind", kind)], count)),
    )?;
    families.counters(
        "tcptrail_events_lost",
        "Lost events by cause; the other metrics are too low by them",
        LossCause::ALL
            .iter()
            .zip(snapshot.lost)
            .map(|(cause, n)| (vec![("cause", cause.name())], n)),
    )?;
    families.gauges(
        "tcptrail_hook_active",
        "1 if this tracepoint or iterator of the kernel is in use; `tcptrail doctor` says what is missing without it",
        HOOKS.iter().map(|hook| (vec![("hook", *hook)], u64::from(shared.origin.hooked(hook)))),
    )?;
    families.counters(
        "tcptrail_http_refused",
        "Refused HTTP requests and connections",
        REFUSALS.iter().zip(shared.refused()).map(|(why, count)| (vec![("reason", *why)], count)),
    )?;
    families.counters(
        "tcptrail_cpu_seconds",
        "Processor time used by tcptrail",
        [(vec![], seconds(u128::from(cost::cpu_ns())))],
    )?;
    families.gauges(
        "tcptrail_resident_bytes",
        "Memory used by tcptrail",
        cost::resident().map(|bytes| (vec![], bytes)),
    )?;
    families.infos(
        "tcptrail_build",
        "Version of tcptrail and of the kernel",
        [vec![
            ("version", shared.origin.version.as_str()),
            ("kernel", shared.origin.kernel.as_str()),
        ]],
    )
}

const fn direction(way: Direction) -> &'static str {
    match way {
        Direction::Sent => "sent",
        Direction::Received => "received",
    }
}
