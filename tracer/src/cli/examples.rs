//! Examples that stand below each `--help` and in the manual pages.

pub(super) const TAIL: &str = "\
Examples:
  tcptrail --port 443
      every state change of connections on port 443, on either side
  tcptrail tail --pid 1234 --state CLOSE_WAIT
      when connections of process 1234 enter and leave CLOSE_WAIT
  tcptrail tail --failed --rport 5432
      connects to a database that fail, as they do, and why
  tcptrail tail --json --duration 10s > events.ndjson
      ten seconds of events, one JSON object a line";

pub(super) const LIFE: &str = "\
Examples:
  tcptrail life --lport 8080
      one line for each finished connection to port 8080 of this machine
  tcptrail life --min-duration 5s
      connections that lived for five seconds or longer
  tcptrail life --failed --comm java
      java's connects that failed: refused, no answer, given up, ...; after how long and how many SYNs
  tcptrail life --how rst_received --lport 8080
      connections to port 8080 that the clients reset
  tcptrail life --addr 10.0.0.0/8 --json
      the same figures as JSON, for connections with a network";

pub(super) const LIST: &str = "\
Examples:
  tcptrail list --state CLOSE_WAIT
      sockets whose peer has closed, how long ago, and who holds them
  tcptrail list --comm java --min-duration 10m
      sockets of java that have been in their state for ten minutes
  tcptrail list --sort recv-q --top 20
      the twenty sockets with the most unread bytes
  tcptrail list --group-by process,state
      how many sockets each process has in each state, and the oldest age
  tcptrail list --watch 5s
      the list again every five seconds, as much as fits the terminal
  tcptrail list -tanH
      as the hand types it for ss: -t, -a and -n change nothing, -H leaves out the header";

pub(super) const STATS: &str = "\
Examples:
  tcptrail stats --duration 30s
      how handshakes, round trips, times in each state, lives and bytes of half a minute are spread
  tcptrail stats --lport 443 --by listener,remote --top 10
      the ten clients of port 443 with the most connections, until Ctrl-C
  tcptrail stats --rport 5432 --histogram
      connections with a database, with bars
  tcptrail stats --failed --by remote,how
      which remotes connects fail to, how, and how long they waited
  tcptrail replay incident.tcpt stats --by process --json
      of a recording, for scripts";

pub(super) const STUCK: &str = "\
Examples:
  tcptrail stuck
      what is stuck or leaks, drawn again as it changes
  tcptrail stuck --once
      one answer; exit code 3 when something is stuck
  tcptrail stuck --once --duration 1m
      the same after a minute, with what grows
  tcptrail stuck --threshold CLOSE_WAIT=30s --fail-on 'FDS>=90%'
      count CLOSE_WAIT after 30 s; end with 3 when a process has used 90 % of its descriptors";

pub(super) const LEAKS: &str = "\
Examples:
  tcptrail leaks --pid 1234 --duration 5m
      sockets of process 1234 that are opened in five minutes and stay open, by the code that opened them
  tcptrail leaks --pid 1234 --older 10s --watch=30s
      those open for ten seconds, reported every half minute
  tcptrail leaks --pid 1234 --duration 1m --folded > leaks.folded
      for a flame graph tool";

pub(super) const TOP: &str = "\
Examples:
  tcptrail top
      look around; ? lists the keys
  tcptrail top --comm java --threshold CLOSE_WAIT=30s
      java's sockets; CLOSE_WAIT counts as stuck after 30 s
  tcptrail replay incident.tcpt top --speed 10
      a recording, ten times as fast; space stops it, [ and ] go back and on";

pub(super) const INCIDENT: &str = "\
Examples:
  tcptrail incident --comm java -o java.tar.zst
      a minute of every java process: the page, and an archive with its evidence
  tcptrail incident --for 10m --port 8089
      ten minutes, for a slow leak on one port";

pub(super) const REPORT: &str = "\
Examples:
  tcptrail report incident.tcpt -o incident.html
      a recording as one page: open it in a browser, mail it, print it
  tcptrail report --for 5m --port 8089
      five minutes of one port of this machine";

pub(super) const KILL: &str = "\
Examples:
  tcptrail kill --pid 1234 --state CLOSE_WAIT --min-duration 10m
      what process 1234 has not closed ten minutes after its peers did; asks before it does
  tcptrail kill --rport 5432 --addr 10.0.0.9 --dry-run
      what it would end of the connections with a database
  tcptrail kill --lport 8089 --state FIN_WAIT2,LAST_ACK --yes --max 1000
      without a question, up to a thousand; exit code 1 when one remains";

pub(super) const SERVE: &str = "\
Examples:
  tcptrail serve
      metrics on http://127.0.0.1:9435/metrics, findings as JSON on /findings and as a page on /
  tcptrail serve --config /etc/tcptrail.toml --check-config
      whether the file is right: its keys are the options of this page, without the dashes
  tcptrail serve --listen unix:/run/tcptrail/http.sock
      only for who may open that socket, such as a reverse proxy with TLS and passwords";

pub(super) const RECORD: &str = "\
Examples:
  tcptrail record incident.tcpt --duration 10m
      ten minutes of everything, to look at later
  tcptrail record db.tcpt --rport 5432
      only connections to port 5432";

pub(super) const REPLAY: &str = "\
Examples:
  tcptrail replay incident.tcpt
      the recording as `tail` would have shown it
  tcptrail replay incident.tcpt stuck
      what was stuck
  tcptrail replay incident.tcpt top
      look around in it: pause, step, go back
  tcptrail replay incident.tcpt life --port 8089
      finished connections of one port";

pub(super) const DOCTOR: &str = "\
Examples:
  tcptrail doctor
      a line for each thing that tcptrail needs of this kernel
  tcptrail doctor --json
      the same for scripts; exit code 1 when nothing can be traced";

pub(super) const EXPLAIN: &str = "\
Examples:
  tcptrail explain TT101
      what the finding with this code means, and what to do
  tcptrail explain close_wait
      the same by the name of the rule
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
