//! The command that shows without `top` what is chosen in it.

use crate::output::top::tabs::{RowId, Tab};

/// What of the run stands in every command.
#[derive(Clone, Debug, Default)]
pub(super) struct Command {
    /// The recording, when it is one.
    pub(super) replay: Option<String>,
    /// The run's own filters, as options.
    pub(super) scope: Vec<String>,
}

impl Command {
    /// For what is chosen: with these options for the row, and these of the typed filter.
    pub(super) fn line(
        &self,
        tab: Tab,
        row: Option<&RowId>,
        of_row: &[String],
        filter: &[String],
    ) -> String {
        let view = match (tab, row) {
            (Tab::Findings, _) => "stuck",
            (Tab::Connections, Some(RowId::Conn(_))) => "tail",
            (Tab::Connections | Tab::Processes, _) => "list",
            (Tab::Listeners | Tab::Remotes, _) => "life",
            // Recordings have no stacks.
            (Tab::Openers, _) if self.replay.is_some() => "stuck",
            (Tab::Openers, _) => "leaks",
        };
        let mut words = vec!["tcptrail".to_owned()];
        match &self.replay {
            Some(file) => words.extend(["replay".to_owned(), file.clone(), view.to_owned()]),
            None => words.push(view.to_owned()),
        }
        words.extend(self.scope.iter().cloned());
        words.extend(of_row.iter().cloned());
        // One connection is named by its ends; all else is within the filter.
        if !matches!(row, Some(RowId::Conn(_))) {
            for option in
                filter.chunks(2).filter(|option| !of_row.windows(2).any(|own| own == *option))
            {
                words.extend(option.iter().cloned());
            }
        }
        // A state is left, too: who wants to see its end must not filter by it. `leaks` has --older instead.
        if view == "tail" || view == "life" {
            without(&mut words, "--state");
        }
        if view == "leaks" || view == "life" || view == "tail" {
            without(&mut words, "--min-duration");
        }
        let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        quoted.join(" ")
    }
}

/// An option and its value go.
fn without(words: &mut Vec<String>, option: &str) {
    while let Some(at) = words.iter().position(|word| word == option) {
        words.drain(at..(at + 2).min(words.len()));
    }
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+[]".contains(c);
    if !word.is_empty() && word.chars().all(plain) && !word.contains('[') {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::SockId;
    use crate::output::top::words::Wanted;

    #[test]
    fn commands_show_the_same() {
        let live = Command { replay: None, scope: vec!["--comm".into(), "my app".into()] };
        let replay = Command { replay: Some("a.tcpt".into()), scope: Vec::new() };
        let check = |command: &Command,
                     tab,
                     row: Option<RowId>,
                     words: &str,
                     filter: &str,
                     expect: &str| {
            let of = |words: &str| Wanted::parse(words).expect("words").options;
            let line = command.line(tab, row.as_ref(), &of(words), &of(filter));
            assert_eq!(line, expect);
        };
        let conn = || Some(RowId::Conn(SockId(7)));
        check(
            &live,
            Tab::Connections,
            conn(),
            "addr:10.0.0.1 lport:8089 rport:50111",
            "state:close-wait",
            "tcptrail tail --comm 'my app' --addr 10.0.0.1 --lport 8089 --rport 50111",
        );
        check(
            &replay,
            Tab::Connections,
            None,
            "",
            "port:8089 state:close-wait age>30s",
            "tcptrail replay a.tcpt list --port 8089 --state close-wait --min-duration 30s",
        );
        check(&replay, Tab::Openers, None, "", "pid:7", "tcptrail replay a.tcpt stuck --pid 7");
        check(&replay, Tab::Findings, None, "", "", "tcptrail replay a.tcpt stuck");
        let scopeless = Command::default();
        check(&scopeless, Tab::Openers, None, "pid:7", "age>30s", "tcptrail leaks --pid 7");
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        let check = |word: &str, expect: &str| assert_eq!(quoted(word), expect);
        check("--port", "--port");
        check("10.0.0.0/8", "10.0.0.0/8");
        check("it's", "'it'\\''s'");
        check("[::1]", "'[::1]'");
        check("", "''");
        check("$(reboot)", "'$(reboot)'");
    }
}
