//! Examples that stand below each `--help` and in the manual pages.

/// The first two of `examples`, so that `--help` fits a screen; the manual pages have all of them.
pub(super) fn two(examples: &'static str) -> &'static str {
    let third = examples.match_indices("\n  tcptrail ").nth(2);
    third.map_or(examples, |(at, _)| &examples[..at])
}

pub(super) const TCPTRAIL: &str = "\
Examples:
  tcptrail stuck --once
      what is stuck or leaks right now; exit code 3 if anything is
  tcptrail life --lport 8080 --duration 1m
      the connections to port 8080 that end within a minute

Filters such as --pid and --port: tcptrail help filters
Tracing needs root or CAP_BPF, CAP_PERFMON (other namespaces: CAP_SYS_ADMIN).
Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 something is stuck
(stuck --once, incident) or a --fail-on condition holds.";

pub(super) const TAIL: &str = "\
Examples:
  tcptrail --port 443
      every state change of connections on port 443, on either side
  tcptrail tail --pid 1234 --state CLOSE_WAIT
      when connections of process 1234 enter and leave CLOSE_WAIT
  tcptrail tail --failed --rport 5432
      failed connects to a database, and why they failed
  tcptrail tail --json --duration 10s > events.ndjson
      ten seconds of events, one JSON object a line";

pub(super) const LIFE: &str = "\
Examples:
  tcptrail life --lport 8080
      one line for each finished connection to port 8080 of this machine
  tcptrail life --min-duration 5s
      connections that lived for five seconds or longer
  tcptrail life --failed --comm java
      failed connects of java: why, after how long, after how many SYNs
  tcptrail life --how rst_received --lport 8080
      connections to port 8080 that the clients reset
  tcptrail life --addr 10.0.0.0/8 --json
      connections with this network, as JSON";

pub(super) const LIST: &str = "\
Examples:
  tcptrail list --state CLOSE_WAIT
      sockets whose peer has closed: since when, and which process holds them
  tcptrail list --comm java --min-duration 10m
      sockets of java that have been in their state for ten minutes
  tcptrail list --sort recv-q --top 20
      the twenty sockets with the most unread bytes
  tcptrail list --group-by process,state
      how many sockets each process has in each state, and the oldest age
  tcptrail list --watch 5s
      the list every five seconds, as many rows as fit
  tcptrail list -tanH
      options as for ss: -t, -a and -n change nothing, -H leaves out the header";

pub(super) const STATS: &str = "\
Examples:
  tcptrail stats --duration 30s
      percentiles of all connections that end within half a minute
  tcptrail stats --lport 443 --by listener,remote --top 10
      the ten clients of port 443 with the most connections, until Ctrl-C
  tcptrail stats --rport 5432 --histogram
      connections with a database, with bars
  tcptrail stats --failed --by remote,how
      failed connects by remote address: how they failed, how long they waited
  tcptrail replay incident.tcpt stats --by process --json
      figures of a recording, for scripts";

pub(super) const STUCK: &str = "\
Examples:
  tcptrail stuck
      what is stuck or leaks, updated as it changes
  tcptrail stuck --once
      one look; exit code 3 if something is stuck
  tcptrail stuck --once --duration 1m
      one look after a minute, with what has grown in it
  tcptrail stuck --threshold CLOSE_WAIT=30s --fail-on 'FDS>=90%'
      CLOSE_WAIT counts after 30 s; stops with exit code 3 when a process has used
      90 % of its file descriptors";

pub(super) const LEAKS: &str = "\
Examples:
  tcptrail leaks --pid 1234 --duration 5m
      sockets that process 1234 opens in five minutes and leaves open
  tcptrail leaks --pid 1234 --older 10s --watch=30s
      sockets open for ten seconds or longer, reported every half minute
  tcptrail leaks --pid 1234 --duration 1m --folded > leaks.folded
      input for a flame graph tool";

pub(super) const TOP: &str = "\
Examples:
  tcptrail top
      all connections of this machine; the key ? lists the keys
  tcptrail top --comm java --threshold CLOSE_WAIT=30s
      only java; CLOSE_WAIT counts as stuck after 30 s
  tcptrail replay incident.tcpt top --speed 10
      a recording at ten times its speed; space pauses, [ and ] seek";

pub(super) const INCIDENT: &str = "\
Examples:
  tcptrail incident --comm java -o java.tar.zst
      one minute of all java processes: a page, and an archive of the evidence
  tcptrail incident --for 10m --port 8089
      ten minutes of one port, for a slow leak";

pub(super) const REPORT: &str = "\
Examples:
  tcptrail report incident.tcpt -o incident.html
      a recording as a page for the browser, for mail or for print
  tcptrail report /var/lib/tcptrail/recorder --from 03:00 --to 04:00 -o night.html
      an hour from a flight recorder
  tcptrail report --for 5m --port 8089
      five minutes of one port of this machine";

pub(super) const KILL: &str = "\
Examples:
  tcptrail kill --pid 1234 --state CLOSE_WAIT --min-duration 10m
      what process 1234 has not closed ten minutes after its peers did
  tcptrail kill --rport 5432 --addr 10.0.0.9 --dry-run
      shows which connections with this database it would end
  tcptrail kill --lport 8089 --state FIN_WAIT2,LAST_ACK --yes --max 1000
      does not ask, ends up to 1000; exit code 1 if one remains";

pub(super) const SERVE: &str = "\
Examples:
  tcptrail serve
      metrics on http://127.0.0.1:9435/metrics, findings on / and /findings
  tcptrail serve --config /etc/tcptrail.toml --check-config
      checks the configuration file
  tcptrail serve --listen unix:/run/tcptrail/http.sock
      only for users who may open this socket, such as a reverse proxy
  tcptrail serve --recorder /var/lib/tcptrail/recorder --keep 3d --keep-size 5GiB
      also records the last three days, in at most 5 GiB
  tcptrail serve --otlp http://127.0.0.1:4318
      also pushes to the OpenTelemetry collector of this machine";

pub(super) const RECORD: &str = "\
Examples:
  tcptrail record incident.tcpt --duration 10m
      ten minutes of all connections, to look at later
  tcptrail record db.tcpt --rport 5432
      only connections to port 5432";

pub(super) const REPLAY: &str = "\
Examples:
  tcptrail replay incident.tcpt
      the recording as `tail` would have shown it
  tcptrail replay incident.tcpt stuck
      what was stuck
  tcptrail replay incident.tcpt top
      browse it: pause, step, go back
  tcptrail replay incident.tcpt life --port 8089
      finished connections of one port
  tcptrail replay incident.tcpt --from 03:00 --to 03:20 tail
      twenty minutes of it
  tcptrail replay /var/lib/tcptrail/recorder --around TT101 stuck --once
      of a flight recorder: the newest leak of CLOSE_WAIT, as `stuck` said it then";

pub(super) const DOCTOR: &str = "\
Examples:
  tcptrail doctor
      a line for each thing that tcptrail needs from this kernel
  tcptrail doctor --json
      the same for scripts; exit code 1 if tcptrail cannot trace here";

pub(super) const HELP: &str = "\
Examples:
  tcptrail help filters
      what --pid, --port, --state and the other filters mean
  tcptrail help stuck
      the same as tcptrail stuck --help";

pub(super) const EXPLAIN: &str = "\
Examples:
  tcptrail explain TT101
      what this finding means, and what to do
  tcptrail explain close_wait
      the same, by the name of its rule
  tcptrail explain
      a line for each code";

pub(super) const COMPLETIONS: &str = "\
Examples:
  tcptrail completions bash > /etc/bash_completion.d/tcptrail
  tcptrail completions zsh > /usr/local/share/zsh/site-functions/_tcptrail
  tcptrail completions fish > ~/.config/fish/completions/tcptrail.fish";

pub(super) const MAN: &str = "\
Examples:
  tcptrail man | man -l -
      the page of tcptrail
  tcptrail man stuck | man -l -
      the page of one command
  tcptrail man --dir /usr/local/share/man/man1
      all pages, each in its file";
