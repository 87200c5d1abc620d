//! What is made from the command line's own description: shell completions, manual pages, the version.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;
use crate::record_format;
use crate::text::suggest::nearest;

/// Writes the completion script of `shell` to `out`.
pub fn completions(shell: Shell, out: &mut dyn Write) {
    clap_complete::generate(shell, &mut Cli::command(), "tcptrail", &mut Ignoring(out));
}

/// Writes the manual page of `command`, or of tcptrail itself, to `out`.
///
/// # Errors
/// When there is no such command, or `out` cannot be written.
pub fn man(command: Option<&str>, out: &mut dyn Write) -> Result<()> {
    let wanted =
        command.map_or_else(|| "tcptrail.8".to_owned(), |name| format!("tcptrail-{name}.8"));
    let mut pages = pages();
    let Some(at) = pages.iter().position(|page| page.get_filename() == wanted) else {
        let cli = Cli::command();
        let names: Vec<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
        let name = command.unwrap_or_default();
        let like = nearest(name, &names);
        bail!("there is no command {name}{like}: `tcptrail --help` lists them")
    };
    let page = pages.swap_remove(at);
    page.render(&mut Ignoring(out)).context("the page cannot be written")
}

/// Writes every manual page below `dir`: `tcptrail.8`, `tcptrail-tail.8` and so on.
///
/// # Errors
/// When a file cannot be written.
pub fn man_pages(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for page in pages() {
        let path = dir.join(page.get_filename());
        let mut bytes = Vec::new();
        page.render(&mut bytes)?;
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Of tcptrail and of each command. Section 8, since they are for root.
fn pages() -> Vec<Man> {
    let mut cli = Cli::command();
    // Puts options of all commands, and whole names, into each command.
    cli.build();
    let commands: Vec<clap::Command> = cli.get_subcommands().cloned().collect();
    let page = |command| Man::new(command).section("8").manual("tcptrail");
    [cli].into_iter().chain(commands).map(page).collect()
}

/// What `--version` says; with `verbose` also what this binary was made of.
#[must_use]
pub fn version(verbose: bool) -> String {
    let version = env!("CARGO_PKG_VERSION");
    if !verbose {
        return format!("tcptrail {version}\n");
    }
    format!(
        "tcptrail {version}\n\
         commit         {}\n\
         target         {}\n\
         features       {}\n\
         eBPF objects   {}\n\
         \x20              {}\n\
         JSON schema    1\n\
         recordings     format {}, records {}\n",
        env!("TCPTRAIL_COMMIT"),
        env!("TCPTRAIL_TARGET"),
        env!("TCPTRAIL_FEATURES"),
        env!("TCPTRAIL_EBPF_SUM"),
        env!("TCPTRAIL_STACKS_SUM"),
        record_format::FORMAT_VERSION,
        tracer_common::wire::WIRE_VERSION,
    )
}

/// A reader that has gone (`| head`) has seen enough; clap_complete would panic.
struct Ignoring<'a>(&'a mut dyn Write);

impl Write for Ignoring<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Whether all of it arrived is nothing the script's reader could be told.
        let _ = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn commands() -> Vec<String> {
        let cli = Cli::command();
        cli.get_subcommands().map(|command| command.get_name().to_owned()).collect()
    }

    #[test]
    fn every_command_has_a_page_with_its_examples() {
        for name in commands() {
            let mut page = Vec::new();
            man(Some(&name), &mut page).unwrap();
            let page = String::from_utf8(page).unwrap();
            assert!(page.contains(".SH NAME"), "{name}");
            assert!(page.contains("Examples:"), "{name}");
            assert!(page.contains(&format!("tcptrail {name}")), "{name}");
            // `--help` leaves these out to fit a screen.
            for long in [r"\-\-lport", r"\-\-min\-duration", r"\-\-ring\-size", r"\-\-no\-drops"] {
                assert!(page.contains(long), "{name}: {long}");
            }
        }
        assert!(man(Some("nonsense"), &mut Vec::new()).is_err());
    }

    #[test]
    fn completions_know_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            completions(shell, &mut script);
            let script = String::from_utf8(script).unwrap();
            for name in commands() {
                assert!(script.contains(&name), "{shell} {name}");
            }
            assert!(script.contains("min-duration") && script.contains("ring-size"), "{shell}");
        }
    }

    #[test]
    fn every_example_is_a_command_line_that_is_understood() {
        use crate::config;
        use clap::Parser;
        let mut count = 0;
        for command in [Cli::command()].iter().flat_map(|cli| cli.get_subcommands()) {
            let help = command.get_after_long_help().or(command.get_after_help());
            let help = help.map(ToString::to_string).unwrap_or_default();
            for line in help.lines().filter(|line| line.starts_with("  tcptrail")) {
                let words = line.split(['>', '|']).next().unwrap_or_default();
                // The condition of --fail-on has a `>` of its own.
                let words = if line.contains("--fail-on") { line } else { words };
                let args = words.split_whitespace().map(|word| word.trim_matches('\''));
                let cli =
                    Cli::try_parse_from(args).unwrap_or_else(|error| panic!("{line}: {error}"));
                let resolves = !matches!(
                    cli.command,
                    Some(
                        crate::cli::Command::Doctor
                            | crate::cli::Command::Explain { .. }
                            | crate::cli::Command::Help { .. }
                            | crate::cli::Command::Completions { .. }
                            | crate::cli::Command::Man { .. }
                    )
                );
                if resolves {
                    config::resolve(cli.command, &cli.common)
                        .unwrap_or_else(|e| panic!("{line}: {e}"));
                }
                count += 1;
            }
        }
        assert!(count > 25, "{count} examples");
    }
}
