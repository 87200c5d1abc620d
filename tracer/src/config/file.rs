//! Options from a file: each key is an option of `serve`, so what it may be and what it means stands in one place.
//!
//! The file's options are put behind those of the command line, but for those that are there already, and clap reads
//! all of them as one command line.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, CommandFactory, Parser};
use toml::{Table, Value};

use crate::cli::{Cli, Command};
use crate::config::error::UsageError;
use crate::text::suggest;

/// Far more than a file of options needs.
const MOST_BYTES: u64 = 1 << 20;

/// Options that make no sense in a file.
const NOT_IN_A_FILE: [&str; 4] = ["config", "check-config", "help", "version"];

/// The command line, with the options of its `--config` where it has one. `args` are those that `cli` was made of.
///
/// # Errors
/// When the file cannot be read, or what is in it makes no sense.
pub fn with_file(cli: Cli, args: Vec<OsString>) -> Result<Cli, UsageError> {
    let Some(Command::Serve(serve)) = &cli.command else { return Ok(cli) };
    let Some(path) = &serve.config else { return Ok(cli) };
    let told = |error: String| UsageError(format!("{}: {error}", path.display()));
    let text = read(path).map_err(told)?;
    let words = words(&text, &args).map_err(told)?;
    let all = args.into_iter().chain(words.into_iter().map(OsString::from));
    Cli::try_parse_from(all).map_err(|error| {
        let text = error.render().to_string();
        let first = text.split("\n\n").next().unwrap_or_default();
        told(first.trim_start_matches("error: ").replace('\n', " "))
    })
}

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    file.take(MOST_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() as u64 > MOST_BYTES {
        return Err("longer than 1 MiB: is it the right file?".into());
    }
    Ok(text)
}

/// The file's options as words of a command line, without those that `args` have.
///
/// # Errors
/// What is wrong with it.
fn words(text: &str, args: &[OsString]) -> Result<Vec<String>, String> {
    let table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| error.to_string().trim_end().replace('\n', "\n  "))?;
    let mut cli = Cli::command();
    cli.build();
    let matches = Cli::command().try_get_matches_from(args).ok();
    let given = matches.as_ref().and_then(ArgMatches::subcommand).map(|(_, matches)| matches);
    let Some(serve) = cli.find_subcommand("serve") else { return Ok(Vec::new()) };
    let mut words = Vec::new();
    for (key, value) in &table {
        let arg = option(serve, key)?;
        let id = arg.get_id().as_str();
        let source = given.and_then(|given| given.value_source(id));
        if source != Some(ValueSource::CommandLine) {
            add(key, value, arg.get_action(), &mut words)?;
        }
    }
    Ok(words)
}

/// The option of this name.
fn option<'a>(serve: &'a clap::Command, key: &str) -> Result<&'a Arg, String> {
    let options = serve.get_arguments().filter_map(|arg| Some((arg.get_long()?, arg)));
    let options: Vec<_> = options.filter(|(name, _)| !NOT_IN_A_FILE.contains(name)).collect();
    if let Some((_, arg)) = options.iter().find(|(name, _)| *name == key) {
        return Ok(arg);
    }
    let names: Vec<&str> = options.iter().map(|(name, _)| *name).collect();
    let like = suggest::nearest(key, &names);
    Err(format!(
        "{key}: no such option{like}; `tcptrail serve --help`, `help filters` and `help options` list them"
    ))
}

/// Appends the words for one key.
fn add(
    key: &str,
    value: &Value,
    action: &ArgAction,
    words: &mut Vec<String>,
) -> Result<(), String> {
    match (action, value) {
        (ArgAction::SetTrue, Value::Boolean(true)) => words.push(format!("--{key}")),
        (ArgAction::SetTrue, Value::Boolean(false)) => {}
        (ArgAction::SetTrue, _) => return Err(format!("{key}: give true or false")),
        (ArgAction::Count, Value::Integer(times @ 0..=9)) => {
            words.extend((0..*times).map(|_| format!("--{key}")));
        }
        (ArgAction::Count, _) => return Err(format!("{key}: give a number from 0 to 9")),
        (_, Value::Array(values)) => {
            for value in values {
                words.push(format!("--{key}={}", plain(key, value)?));
            }
        }
        // CLOSE_WAIT = "30s"
        (_, Value::Table(values)) => {
            for (name, value) in values {
                words.push(format!("--{key}={name}={}", plain(key, value)?));
            }
        }
        (_, value) => words.push(format!("--{key}={}", plain(key, value)?)),
    }
    Ok(())
}

fn plain(key: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        _ => Err(format!("{key}: give a string or a number, or a list of them")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn args(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn keys_are_options_and_the_command_line_goes_first() {
        let check = |text: &str, line: &str, expect: Result<&[&str], &str>| {
            let told = words(text, &args(line));
            match (&told, expect) {
                (Err(told), Err(part)) => assert!(told.contains(part), "{text}: {told}"),
                _ => assert_eq!(
                    told.as_deref().ok(),
                    expect
                        .ok()
                        .map(|words| {
                            words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()
                        })
                        .as_deref(),
                    "{text}"
                ),
            }
        };
        let plain = "tcptrail serve --config x";
        check("", plain, Ok(&[]));
        check("listen = 'unix:/x'", plain, Ok(&["--listen=unix:/x"]));
        check("listen = ['a', 'b']", plain, Ok(&["--listen=a", "--listen=b"]));
        check("listen = ['a', 'b']", "tcptrail serve --listen c", Ok(&[]));
        check("no-openers = true\nno-drops = false", plain, Ok(&["--no-openers"]));
        check("[threshold]\nCLOSE_WAIT = '30s'", plain, Ok(&["--threshold=CLOSE_WAIT=30s"]));
        check("port = [80, 443]", plain, Ok(&["--port=80", "--port=443"]));
        check("port = 80", "tcptrail --port 443 serve", Ok(&[]));
        check(
            "max-connections = 1000\nverbose = 1",
            plain,
            Ok(&["--max-connections=1000", "--verbose"]),
        );
        check("lissen = 'a'", plain, Err("lissen: no such option (did you mean listen?)"));
        check("config = 'a'", plain, Err("config: no such option"));
        check("no-openers = 'yes'", plain, Err("no-openers: give true or false"));
        check("listen = 1.5", plain, Err("listen: give a string or a number"));
        check("listen = ", plain, Err("line 1"));
    }

    #[test]
    fn what_clap_says_of_a_value_names_the_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().to_str().expect("UTF-8").to_owned();
        let check = |text: &str, expect: Result<(), &str>| {
            std::fs::write(file.path(), text).expect("room");
            let line = args(&format!("tcptrail serve --config {path}"));
            let cli = Cli::try_parse_from(&line).expect("clap takes it");
            let told = with_file(cli, line).map(drop).map_err(|error| error.to_string());
            match (told, expect) {
                (Err(told), Err(part)) => {
                    assert!(told.contains(part) && told.starts_with(&path), "{told}");
                }
                (told, expect) => assert_eq!(told.is_ok(), expect.is_ok(), "{text}"),
            }
        };
        check("max-connections = 5", Ok(()));
        check("max-connections = 'many'", Err("max-connections"));
    }

    #[test]
    fn the_example_is_right_with_and_without_its_comments() {
        let example = include_str!("../../../packaging/tcptrail.toml");
        let plain = args("tcptrail serve --config x");
        assert_eq!(words(example, &plain), Ok(vec![]));
        let key = |line: &str| line.starts_with('#') && line.contains(" = ");
        let lines = example.lines().map(|line| if key(line) { &line[1..] } else { line });
        let all =
            words(&lines.collect::<Vec<_>>().join("\n"), &plain).expect("keys that are options");
        assert!(all.len() >= 8, "{all:?}");
        Cli::try_parse_from(plain.into_iter().chain(all.into_iter().map(OsString::from)))
            .expect("values that clap takes");
    }

    proptest! {
        #[test]
        fn no_file_panics(text in "(?s).{0,200}") {
            let _ = words(&text, &args("tcptrail serve --config x"));
        }
    }
}
