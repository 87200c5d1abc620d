//! What metrics are called in OTLP, and their units.
//!
//! Names are those of `/metrics` with dots, without unit and `_total`. What Prometheus makes of them when it takes OTLP
//! itself are the names of `/metrics` again, with the same labels, so that the same queries and alerts hold. Only sockets by
//! state have the name and the attributes of OpenTelemetry's semantic conventions.

/// A metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Name {
    pub(super) name: &'static str,
    /// As UCUM has it; what is counted in braces.
    pub(super) unit: &'static str,
}

/// Sockets by state, as in `/metrics`.
pub(super) const CONNECTIONS: &str = "tcptrail_connections";
/// The label of a state there.
pub(super) const STATE: &str = "state";

/// In `/metrics`, in OTLP, unit. Of what has neither unit nor plural (information, yes or no) the unit is empty: with `1`
/// Prometheus would take it for a ratio.
const NAMES: [(&str, &str, &str); 42] = [
    (CONNECTIONS, "system.network.connection.count", "{connection}"),
    ("tcptrail_workloads_folded", "tcptrail.workloads.folded", "{workload}"),
    ("tcptrail_connections_opened", "tcptrail.connections.opened", "{connection}"),
    ("tcptrail_connect_failures", "tcptrail.connect.failures", "{connection}"),
    ("tcptrail_connections_closed", "tcptrail.connections.closed", "{connection}"),
    ("tcptrail_retransmits", "tcptrail.retransmits", "{segment}"),
    ("tcptrail_resets", "tcptrail.resets", "{segment}"),
    ("tcptrail_bytes", "tcptrail.bytes", "By"),
    ("tcptrail_connection_duration_seconds", "tcptrail.connection.duration", "s"),
    ("tcptrail_handshake_duration_seconds", "tcptrail.handshake.duration", "s"),
    ("tcptrail_accept_duration_seconds", "tcptrail.accept.duration", "s"),
    ("tcptrail_rtt_seconds", "tcptrail.rtt", "s"),
    ("tcptrail_state_duration_seconds", "tcptrail.state.duration", "s"),
    ("tcptrail_durations_left_out", "tcptrail.durations.left_out", "{duration}"),
    ("tcptrail_findings", "tcptrail.findings", "{finding}"),
    ("tcptrail_finding_oldest_seconds", "tcptrail.finding.oldest", "s"),
    ("tcptrail_leaked_sockets", "tcptrail.leaked_sockets", "{socket}"),
    ("tcptrail_leak_info", "tcptrail.leak.info", ""),
    ("tcptrail_fds", "tcptrail.fds", "{file_descriptor}"),
    ("tcptrail_fd_limit", "tcptrail.fd.limit", "{file_descriptor}"),
    ("tcptrail_fd_exhaustion_seconds", "tcptrail.fd.exhaustion", "s"),
    ("tcptrail_accept_queue_ratio", "tcptrail.accept_queue.ratio", "1"),
    ("tcptrail_port_use_ratio", "tcptrail.port_use.ratio", "1"),
    ("tcptrail_listen_drops", "tcptrail.listen.drops", "{segment}"),
    ("tcptrail_syn_cookies", "tcptrail.syn_cookies", "{segment}"),
    ("tcptrail_time_wait_overflow", "tcptrail.time_wait.overflow", "{connection}"),
    ("tcptrail_dropped_segments", "tcptrail.dropped_segments", "{segment}"),
    ("tcptrail_events", "tcptrail.events", "{event}"),
    ("tcptrail_events_lost", "tcptrail.events_lost", "{event}"),
    ("tcptrail_hook_active", "tcptrail.hook.active", ""),
    ("tcptrail_recorder_segments", "tcptrail.recorder.segments", "{segment}"),
    ("tcptrail_recorder_bytes", "tcptrail.recorder.bytes", "By"),
    ("tcptrail_recorder_paused", "tcptrail.recorder.paused", ""),
    ("tcptrail_recorder_gaps", "tcptrail.recorder.gaps", "{gap}"),
    ("tcptrail_http_refused", "tcptrail.http.refused", "{request}"),
    ("tcptrail_otlp_exports", "tcptrail.otlp.exports", "{request}"),
    ("tcptrail_otlp_failures", "tcptrail.otlp.failures", "{request}"),
    ("tcptrail_otlp_dropped_records", "tcptrail.otlp.dropped_records", "{record}"),
    ("tcptrail_otlp_queue_records", "tcptrail.otlp.queue.records", "{record}"),
    ("tcptrail_cpu_seconds", "tcptrail.cpu", "s"),
    ("tcptrail_resident_bytes", "tcptrail.resident", "By"),
    ("tcptrail_build_info", "tcptrail.build.info", ""),
];

/// How many there are.
#[cfg(test)]
pub(super) const LENGTH: usize = NAMES.len();

/// What it is in `/metrics`.
#[cfg(test)]
pub(super) fn page_name(name: &str) -> Option<&'static str> {
    NAMES.iter().find(|(_, known, _)| *known == name).map(|(page, ..)| *page)
}

/// Of a metric of `/metrics`, without `_total`.
pub(super) fn name(prometheus: &str) -> Option<Name> {
    let found = NAMES.iter().find(|(name, ..)| *name == prometheus);
    found.map(|&(_, name, unit)| Name { name, unit })
}

/// A state in the words of the attribute `network.connection.state`.
pub(super) fn state(name: &str) -> &str {
    match name {
        "ESTABLISHED" => "established",
        "SYN_SENT" => "syn_sent",
        "SYN_RECV" => "syn_received",
        "FIN_WAIT1" => "fin_wait_1",
        "FIN_WAIT2" => "fin_wait_2",
        "TIME_WAIT" => "time_wait",
        "CLOSE" => "closed",
        "CLOSE_WAIT" => "close_wait",
        "LAST_ACK" => "last_ack",
        "LISTEN" => "listen",
        "CLOSING" => "closing",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::TcpState;

    use super::*;

    /// What Prometheus makes of a name when it takes OTLP (`otlptranslator`, with suffixes).
    fn translated(name: &Name, counter: bool, gauge: bool) -> String {
        let mut parts: Vec<&str> = name.name.split(['.', '_']).collect();
        let unit = match name.unit {
            "s" => "seconds",
            "By" => "bytes",
            _ => "",
        };
        if !unit.is_empty() && !parts.contains(&unit) {
            parts.push(unit);
        }
        if counter {
            parts.retain(|part| *part != "total");
            parts.push("total");
        }
        if name.unit == "1" && gauge {
            parts.retain(|part| *part != "ratio");
            parts.push("ratio");
        }
        parts.join("_")
    }

    #[test]
    fn prometheus_makes_the_names_of_the_metrics_page_of_them() {
        for (page, ..) in NAMES.iter().filter(|(page, ..)| *page != CONNECTIONS) {
            let name = name(page).expect("it is in the list");
            assert_eq!(translated(&name, false, true), *page);
            assert_eq!(translated(&name, true, false), format!("{page}_total"));
        }
    }

    #[test]
    fn states_are_those_of_the_conventions() {
        // https://opentelemetry.io/docs/specs/semconv/registry/attributes/network/
        let known = [
            "close_wait",
            "closed",
            "closing",
            "established",
            "fin_wait_1",
            "fin_wait_2",
            "last_ack",
            "listen",
            "syn_received",
            "syn_sent",
            "time_wait",
        ];
        for one in TcpState::ALL {
            assert!(known.contains(&state(one.name())), "{one:?}");
        }
    }
}
