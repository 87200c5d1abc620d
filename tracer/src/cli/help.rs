//! `help`: the help of a command, of the filters, and of the options of all commands.

use clap::{Arg, Command, CommandFactory};

use super::Cli;
use crate::text::suggest::nearest;

/// Headings of the options that all commands have. The help of a command leaves out filters and limits.
pub(super) const FILTERS: &str = "Filters";
pub(super) const OUTPUT: &str = "Output";
pub(super) const LIMITS: &str = "Limits";

/// Stands below the filters.
const MEANING: &str = "\
One filter with several values: any of them. Several filters: all must match.
--pid and --comm show a connection as soon as tcptrail knows its owner.

Examples:
  tcptrail list --comm java --state CLOSE_WAIT --min-duration 10m
      what java has not closed ten minutes after its peers did
  tcptrail life --addr 10.0.0.0/8 --rport 443,8443 --failed
      failed connects to these ports of this network, and why they failed";

/// The help of tcptrail, of a command, of `filters` or of `options`.
///
/// # Errors
/// When there is no such command or topic; names the most similar one.
pub fn help(topic: Option<&str>) -> Result<String, String> {
    let mut cli = Cli::command();
    cli.build();
    let text = match topic {
        None => cli.render_help(),
        Some("filters" | "filter") => chapter(&cli, &[FILTERS], MEANING).render_help(),
        Some("options") => chapter(&cli, &[OUTPUT, LIMITS], "").render_help(),
        Some(name) => match cli.find_subcommand_mut(name) {
            Some(command) => command.render_help(),
            None => return Err(unknown(&cli, name)),
        },
    };
    Ok(text.to_string())
}

/// A command with only the options below these headings; its help is the chapter.
fn chapter(cli: &Command, headings: &[&str], after: &'static str) -> Command {
    let belongs =
        |arg: &&Arg| arg.get_help_heading().is_some_and(|heading| headings.contains(&heading));
    let args = cli.get_arguments().filter(belongs).cloned();
    Command::new("options")
        .disable_help_flag(true)
        .help_template("For all commands.\n\n{all-args}{after-help}\n")
        .args(args.map(|arg| arg.hide_short_help(false)))
        .after_help(after)
}

/// Hides the options of `replay` that belong to one of its views: the help of that view's command has them.
pub(super) fn of_a_view(arg: Arg) -> Arg {
    let shown = matches!(arg.get_id().as_str(), "file" | "view" | "speed");
    if shown { arg } else { arg.hide_short_help(true) }
}

fn unknown(cli: &Command, name: &str) -> String {
    let commands = cli.get_subcommands().map(Command::get_name);
    let names: Vec<&str> = commands.chain(["filters", "options"]).collect();
    let like = nearest(name, &names);
    format!("there is no help on {name}{like}. Try a command, `filters` or `options`")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of a usual terminal window.
    const SCREEN: usize = 46;

    #[test]
    fn every_help_fits_a_screen_and_has_examples() {
        let mut cli = Cli::command().term_width(80);
        cli.build();
        let mut all = vec![cli.clone()];
        all.extend(cli.get_subcommands().cloned());
        let mut faults = Vec::new();
        for mut command in all {
            let name = command.get_name().to_owned();
            let text = command.render_help().to_string();
            let lines = text.lines().count();
            if lines > SCREEN {
                faults.push(format!("{name}: {lines} lines, more than {SCREEN}"));
            }
            let examples = text.lines().filter(|line| line.starts_with("  tcptrail ")).count();
            if examples < 2 {
                faults.push(format!("{name}: {examples} examples"));
            }
        }
        assert!(faults.is_empty(), "{faults:#?}");
    }

    #[test]
    fn help_knows_commands_and_filters() {
        let check = |topic: Option<&str>, says: &str| {
            let text = help(topic).expect("a help");
            assert!(text.contains(says), "{topic:?}: {text}");
        };
        check(None, "tcptrail help filters");
        check(Some("stuck"), "--threshold");
        check(Some("options"), "--max-connections");
        check(Some("filters"), "--min-duration");
        check(Some("filters"), "One filter with several values");
        let error = help(Some("filtres")).expect_err("no such topic");
        assert!(error.contains("did you mean filters?"), "{error}");
        let text = help(Some("filters")).expect("a help");
        for arg in Cli::command().get_arguments() {
            if arg.get_help_heading() == Some(FILTERS) {
                let long = arg.get_long().expect("a long name");
                assert!(text.contains(&format!("--{long}")), "{long}");
            }
        }
    }
}
