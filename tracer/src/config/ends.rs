//! `--how` and `--failed`: with which commands they make sense.

use crate::cli::Common;
use crate::config::error::UsageError;
use crate::config::types::Show;

/// Fails where connections are chosen by their end, and the command shows what has none.
///
/// # Errors
/// What to do instead.
pub(super) fn check(show: &Show, common: &Common) -> Result<(), UsageError> {
    let option = match (common.filters.failed, common.filters.how.is_empty()) {
        (true, _) => "--failed",
        (false, false) => "--how",
        (false, true) => return Ok(()),
    };
    let instead = match show {
        Show::Life { unfinished: true, .. } => {
            return Err(UsageError(format!(
                "{option} is about how a connection ended, and --unfinished shows those that have not: leave one of them out"
            )));
        }
        Show::Tail | Show::Life { .. } | Show::Stats(_) => return Ok(()),
        Show::List { .. } | Show::Kill(_) => "list and kill are about sockets that still exist",
        Show::Stuck(_) | Show::Leaks(_) => "stuck and leaks look at sockets that have not ended",
        Show::Top(_) => "in top, look at the column FAILED of the tab Remotes",
        Show::Incident(_) | Show::Report(_) => {
            "incident and report need all connections; `tcptrail stats --by remote,how` counts how connections ended"
        }
        Show::Serve(_) => "the metrics of serve have a label for it",
        Show::Nothing => {
            "a recording holds all connections: give it to `tcptrail replay FILE life`"
        }
    };
    Err(UsageError(format!("{option} is for tail, life and stats, live and in replay; {instead}")))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Cli;
    use crate::config::resolve;

    #[test]
    fn ends_are_for_what_shows_ends() {
        let check = |line: &str, expect: Result<(), &str>| {
            let cli = Cli::try_parse_from(line.split(' ')).expect("clap takes it");
            let told = resolve(cli.command, &cli.common).map(drop);
            match expect {
                Ok(()) => assert!(told.is_ok(), "{line}: {told:?}"),
                Err(part) => {
                    let error = told.expect_err(line).to_string();
                    assert!(error.contains(part), "{line}: {error}");
                }
            }
        };
        for command in ["tail", "life", "stats", "replay a.tcpt tail", "replay a.tcpt life"] {
            check(&format!("tcptrail {command} --failed"), Ok(()));
            check(&format!("tcptrail {command} --how refused,timeout"), Ok(()));
        }
        check("tcptrail --failed --port 443", Ok(()));
        check("tcptrail replay a.tcpt stats --failed --by remote,how,failed", Ok(()));
        check("tcptrail list --how fin", Err("--how is for tail, life and stats"));
        for command in
            ["list", "stuck", "leaks", "incident", "report", "record a.tcpt", "kill", "serve"]
        {
            check(&format!("tcptrail {command} --failed"), Err("--failed is for tail, life"));
        }
        check("tcptrail record a.tcpt --failed", Err("tcptrail replay FILE life"));
        check("tcptrail life --failed --unfinished", Err("leave one of them out"));
        check("tcptrail life --how refusd", Err("did you mean refused?"));
    }
}
