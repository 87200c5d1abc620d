//! The filter that is typed: the words of the command line, `port:8089 state:close-wait comm:java age>30s`.
//! What is no such word is looked for in the text of the rows.

use tracer_common::TcpState;

use crate::config::filter_of;
use crate::engine::conn::Connection;
use crate::engine::rules::Finding;
use crate::filter::Filter;
use crate::time::MonoNs;

/// Words and the options they stand for.
const OPTIONS: [(&str, &str); 10] = [
    ("pid", "--pid"),
    ("comm", "--comm"),
    ("process", "--comm"),
    ("port", "--port"),
    ("lport", "--lport"),
    ("rport", "--rport"),
    ("addr", "--addr"),
    ("state", "--state"),
    ("role", "--role"),
    ("netns", "--netns"),
];

/// What is wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wanted {
    /// As typed.
    pub(super) words: String,
    filter: Filter,
    /// The filter as options.
    pub(super) options: Vec<String>,
    /// In the present state for at least, and at most, this long, nanoseconds.
    least_ns: u64,
    most_ns: Option<u64>,
    /// In lower case, to be found in a row.
    texts: Vec<String>,
}

impl Wanted {
    /// Of what was typed.
    ///
    /// # Errors
    /// Which word cannot be, and what could.
    pub(super) fn parse(words: &str) -> Result<Wanted, String> {
        let mut wanted = Wanted { words: words.trim().to_owned(), ..Wanted::default() };
        for word in words.split_whitespace() {
            wanted.word(word)?;
        }
        wanted.filter = filter_of(&wanted.options).map_err(|error| {
            let text = error.to_string();
            // clap's own has usage below it.
            let line = text.lines().next().unwrap_or_default();
            line.trim_start_matches("error: ").trim_start_matches("--").to_owned()
        })?;
        if wanted.least_ns != 0 {
            // A list of the command line knows this one, too.
            let time = std::time::Duration::from_nanos(wanted.least_ns);
            let time = humantime::format_duration(time).to_string().replace(' ', "");
            wanted.options.extend(["--min-duration".to_owned(), time]);
        }
        Ok(wanted)
    }

    fn word(&mut self, word: &str) -> Result<(), String> {
        if let Some(rest) = word.strip_prefix("age") {
            if let Some(time) =
                rest.strip_prefix(">=").or(rest.strip_prefix('>')).or(rest.strip_prefix(':'))
            {
                if let Some(ns) = time_of(time)? {
                    self.least_ns = ns;
                }
                return Ok(());
            }
            if let Some(time) = rest.strip_prefix("<=").or(rest.strip_prefix('<')) {
                self.most_ns = time_of(time)?.or(self.most_ns);
                return Ok(());
            }
        }
        match word {
            "ipv4" | "-4" => self.options.push("--ipv4".to_owned()),
            "ipv6" | "-6" => self.options.push("--ipv6".to_owned()),
            _ => self.option_or_text(word),
        }
        Ok(())
    }

    fn option_or_text(&mut self, word: &str) {
        let option = word.split_once(':').and_then(|(name, value)| {
            let known = OPTIONS.iter().find(|(known, _)| *known == name)?;
            Some((known.1, value))
        });
        match option {
            // More is still to be typed.
            Some((_, "")) => {}
            Some((option, value)) => {
                self.options.extend([option.to_owned(), value.to_owned()]);
            }
            None => self.texts.push(word.to_ascii_lowercase()),
        }
    }

    /// Whether everything is wanted.
    pub(super) fn is_all(&self) -> bool {
        self.options.is_empty() && self.texts.is_empty() && self.most_ns.is_none()
    }

    /// Whether both want the same connections, whatever texts they look for.
    pub(super) fn same_connections(&self, other: &Wanted) -> bool {
        self.options == other.options
            && self.least_ns == other.least_ns
            && self.most_ns == other.most_ns
    }

    /// What to look for in the text of rows, in lower case: all of it must be there.
    pub(super) fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Whether a connection or listener is wanted, but for its text.
    pub(super) fn wants(&self, conn: &Connection, now: MonoNs) -> bool {
        if self.options.is_empty() && self.most_ns.is_none() {
            return true;
        }
        let age = || conn.in_state(now).ns();
        self.filter.wants(conn) == Some(true)
            && self.filter.wants_states(conn.state, conn.state)
            && (self.least_ns == 0 || age().is_some_and(|age| age >= self.least_ns))
            && self.most_ns.is_none_or(|most| age().is_some_and(|age| age <= most))
    }

    /// Whether a row with these texts is wanted.
    pub(super) fn has_text<'a>(&self, cells: impl Iterator<Item = &'a str>) -> bool {
        if self.texts.is_empty() {
            return true;
        }
        let row: Vec<String> = cells.map(str::to_ascii_lowercase).collect();
        self.texts.iter().all(|text| row.iter().any(|cell| cell.contains(text.as_str())))
    }

    /// Whether a finding is wanted: what it does not say counts for it only where nothing was asked.
    pub(super) fn wants_finding(&self, finding: &Finding) -> bool {
        let filter = &self.filter;
        let process = finding.process;
        let pid = process.and_then(|process| process.pid);
        let by_pid = filter.pids.is_empty()
            || filter
                .pids
                .iter()
                .any(|wanted| pid == Some(*wanted) || finding.workers.contains(wanted));
        let by_name = filter.comms.is_empty()
            || process.is_some_and(|process| {
                filter
                    .comms
                    .iter()
                    .any(|name| name.get(..15).unwrap_or(name) == process.comm.bytes())
            });
        let state = |state: TcpState| filter.wants_states(state, state);
        let by_state = filter.states.is_empty() || finding.state.is_some_and(state);
        let age = finding.oldest_ns;
        let by_age = (self.least_ns == 0 || age.is_some_and(|age| age >= self.least_ns))
            && self.most_ns.is_none_or(|most| age.is_some_and(|age| age <= most));
        let by_netns =
            filter.netns.is_none() || finding.netns.is_none() || filter.netns == finding.netns;
        by_pid && by_name && by_state && by_age && by_netns && self.wants_place(finding)
    }

    /// By its ports and addresses, or those of one of its sockets.
    fn wants_place(&self, finding: &Finding) -> bool {
        let filter = &self.filter;
        let any = filter.ports.is_empty()
            && filter.local_ports.is_empty()
            && filter.remote_ports.is_empty()
            && filter.prefixes.is_empty()
            && filter.family.is_none();
        if any {
            return true;
        }
        let of_ends = Filter {
            pids: Vec::new(),
            comms: Vec::new(),
            states: Vec::new(),
            role: None,
            netns: None,
            ..filter.clone()
        };
        let holds = |ports: &[crate::filter::Ports], port: u16| {
            ports.iter().any(|range| range.first <= port && port <= range.last)
        };
        let port = finding.local_port.is_some_and(|port| {
            (holds(&filter.ports, port) || holds(&filter.local_ports, port))
                && filter.prefixes.is_empty()
                && filter.remote_ports.is_empty()
        });
        port || finding.conns.iter().any(|sample| of_ends.wants_tuple(&sample.tuple))
    }

    /// Whether connections with these ends can be wanted.
    pub(super) fn wants_ends(&self, tuple: &crate::event::Tuple) -> bool {
        self.filter.wants_tuple(tuple)
    }

    /// Whether only ends are asked for, so that what has no connection now can be judged.
    pub(super) fn is_of_ends(&self) -> bool {
        let filter = &self.filter;
        filter.pids.is_empty()
            && filter.comms.is_empty()
            && filter.states.is_empty()
            && filter.role.is_none()
            && filter.netns.is_none()
            && self.least_ns == 0
            && self.most_ns.is_none()
    }
}

/// `30s`, or nothing yet.
fn time_of(text: &str) -> Result<Option<u64>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    // A number without its unit is still being typed; seconds are meant.
    let text = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("{text}s")
    } else {
        text.to_owned()
    };
    let time = humantime::parse_duration(&text)
        .map_err(|_| format!("age {text}: not a time; write 30s, 5m or 1h"))?;
    Ok(Some(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_options_of_the_command_line() {
        let check = |words: &str, options: &[&str], texts: &[&str]| {
            let wanted = Wanted::parse(words).expect(words);
            assert_eq!(wanted.options, options, "{words}");
            assert_eq!(wanted.texts, texts, "{words}");
        };
        check("", &[], &[]);
        check("port:8089", &["--port", "8089"], &[]);
        check(
            "port:8089 state:close-wait comm:java age>30s",
            &["--port", "8089", "--state", "close-wait", "--comm", "java", "--min-duration", "30s"],
            &[],
        );
        check("age>90", &["--min-duration", "1m30s"], &[]);
        check("ipv6 Fetch", &["--ipv6"], &["fetch"]);
        // Under way.
        check("por", &[], &["por"]);
        check("port:", &[], &[]);
        check("age>", &[], &[]);
        check("10.0.0.1:80", &[], &["10.0.0.1:80"]);
    }

    #[test]
    fn what_cannot_be_is_said() {
        let check = |words: &str, says: &str| {
            let error = Wanted::parse(words).expect_err(words);
            assert!(error.contains(says) && !error.contains('\n'), "{words}: {error}");
        };
        check("port:x", "not a port");
        check("state:foo", "not a TCP state");
        check("pid:java", "invalid value");
        check("age>soon", "not a time");
        check("addr:10.0.0", "not an address");
    }

    #[test]
    fn text_is_found_in_any_cell() {
        let check = |words: &str, expect| {
            let wanted = Wanted::parse(words).expect(words);
            assert_eq!(wanted.has_text(["java[12]", "10.0.0.1:80"].into_iter()), expect, "{words}");
        };
        check("JAVA", true);
        check("java 0.1:8", true);
        check("java nginx", false);
        check("", true);
    }
}
