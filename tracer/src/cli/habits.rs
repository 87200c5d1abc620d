//! What hands type that know `ss` and `watch`.

use clap::Args;

/// Options of `ss` that change nothing here: TCP is all there is, in all states, and hosts, ports and users have no
/// names. They are taken so that `list -tan` works.
#[derive(Args, Debug, Clone, Default)]
pub struct Habits {
    /// Only TCP, as always
    #[arg(short = 't', hide = true, global = true)]
    pub tcp: bool,
    /// Sockets in all states, as always
    #[arg(short = 'a', hide = true, global = true)]
    pub all: bool,
    /// Numbers instead of names, as always
    #[arg(short = 'n', hide = true, global = true)]
    pub numeric: bool,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::{CommandFactory, Parser};

    use crate::cli::{Cli, Command};
    use crate::config;

    /// The words of a line as clap and `config` take them, or what they say.
    fn parse(line: &str) -> Result<Cli, String> {
        let cli = Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        let checked = config::resolve(cli.command.clone(), &cli.common);
        checked.map(|_| cli).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn watch(line: &str, expect: Option<u64>) -> Cli {
        let cli = parse(line).expect(line);
        let watch = match &cli.command {
            Some(Command::List(args)) => args.watch,
            Some(Command::Stats(args)) => args.watch,
            Some(Command::Leaks(args)) => args.watch,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(watch, expect.map(Duration::from_secs), "{line}");
        cli
    }

    #[test]
    fn watch_takes_its_time_with_a_space_or_none_and_eats_nothing_else() {
        watch("tcptrail list", None);
        watch("tcptrail list --watch", Some(2));
        watch("tcptrail list -w", Some(2));
        for with_time in ["--watch 7s", "--watch=7s", "--watch 7", "-w 7s", "-w7", "-w=7s"] {
            watch(&format!("tcptrail list {with_time}"), Some(7));
            let cli = watch(&format!("tcptrail list {with_time} --port 80"), Some(7));
            assert_eq!(cli.common.filters.port, ["80"], "{with_time}");
        }
        for option in ["--watch", "-w"] {
            let cli = watch(&format!("tcptrail list {option} --port 80"), Some(2));
            assert_eq!(cli.common.filters.port, ["80"], "{option}");
            assert!(watch(&format!("tcptrail list {option} -tn"), Some(2)).common.habits.tcp);
        }
        watch("tcptrail stats --watch 3s", Some(3));
        watch("tcptrail leaks --watch 3s --pid 1", Some(3));
        for (line, says) in [
            ("tcptrail list --watch often", "invalid value 'often'"),
            ("tcptrail list --watch 0", "--watch needs a time above 0"),
            ("tcptrail stats --watch=0s", "--watch needs a time above 0"),
            // Options follow their command: neither is taken for the other.
            ("tcptrail --watch list", "unexpected argument '--watch'"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(says), "{line}: {error}");
        }
    }

    #[test]
    fn options_of_ss_are_taken() {
        for command in ["", " tail", " life", " list", " stuck", " stats", " replay x", " top"] {
            for options in ["-t", "-n", "-a", "-tan", "-tn4", "-t --no-color -n"] {
                let line = format!("tcptrail{command} {options}");
                parse(&line).expect(&line);
            }
        }
        for line in ["tcptrail -H", "tcptrail tail -H", "tcptrail life -H", "tcptrail list -tanH"] {
            assert!(parse(line).expect(line).common.output.no_header, "{line}");
        }
        let error = parse("tcptrail stuck -H").expect_err("it has no columns");
        assert!(error.contains("goes with tail, life and list"), "{error}");
    }

    /// `kill -n` only shows what it would end, and so does every other way to write it.
    #[test]
    fn n_of_kill_never_ends_anything() {
        for line in [
            "tcptrail kill -n --port 80",
            "tcptrail kill -tn --port 80",
            "tcptrail -n kill --port 80",
            "tcptrail kill --dry-run --port 80",
        ] {
            match parse(line).expect(line).command {
                Some(Command::Kill(args)) => assert!(args.dry_run && !args.yes, "{line}"),
                other => panic!("{line}: {other:?}"),
            }
        }
        assert!(parse("tcptrail kill -n --yes --port 80").is_err());
        assert!(parse("tcptrail -n kill --yes --port 80").is_err());
        Cli::command().debug_assert();
    }

    /// Whoever reads a page of `explain` types what it says.
    #[test]
    fn commands_that_explain_names_are_ours() {
        let pages = crate::engine::rules::explain::pages();
        let ours = pages.flat_map(|page| page.commands).filter(|it| it.starts_with("tcptrail "));
        let mut count = 0;
        for command in ours {
            let line =
                command.replace("PORT", "80").replace("PID", "1").replace("ADDRESS", "10.0.0.1");
            parse(&line).expect(command);
            count += 1;
        }
        assert!(count > 20, "{count}");
    }
}
