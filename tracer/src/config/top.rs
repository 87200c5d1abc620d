//! What `top` is asked for.

use std::env;

use crate::cli::{Common, ReplayArgs, TopArgs};
use crate::config::error::UsageError;
use crate::config::thresholds::thresholds;
use crate::config::types::TopOptions;

/// Of a live run.
pub(super) fn top(args: &TopArgs, common: &Common) -> Result<TopOptions, UsageError> {
    no_json(common)?;
    Ok(TopOptions {
        thresholds: thresholds(&args.threshold)?,
        openers: !args.no_openers,
        accepted: args.accepted,
        ascii: args.ascii || !is_utf8(|name| env::var(name).ok()),
        speed: 1.0,
    })
}

/// Of a recording.
pub(super) fn replayed_top(args: &ReplayArgs, common: &Common) -> Result<TopOptions, UsageError> {
    no_json(common)?;
    if !(0.01..=100_000.0).contains(&args.speed) {
        return Err(UsageError(format!(
            "--speed {}: give a number from 0.01 to 100000; 1 is the original speed",
            args.speed
        )));
    }
    Ok(TopOptions {
        thresholds: thresholds(&args.stuck.threshold)?,
        openers: false,
        accepted: false,
        ascii: args.ascii || !is_utf8(|name| env::var(name).ok()),
        speed: args.speed,
    })
}

fn no_json(common: &Common) -> Result<(), UsageError> {
    if common.output.json {
        return Err(UsageError(
            "top is a screen: for JSON use `tcptrail list --json` or `stuck --json`".into(),
        ));
    }
    Ok(())
}

/// Whether the locale says that the terminal takes UTF-8: the first of these that is set decides.
fn is_utf8(var: impl Fn(&str) -> Option<String>) -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(var);
    let locale = set.into_iter().find(|value| !value.is_empty());
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase().replace('-', "");
        locale.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_says_what_the_terminal_takes() {
        let check = |set: &[(&str, &str)], expect| {
            let var = |name: &str| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(is_utf8(var), expect, "{set:?}");
        };
        check(&[], false);
        check(&[("LANG", "de_AT.UTF-8")], true);
        check(&[("LANG", "C")], false);
        check(&[("LC_ALL", "C"), ("LANG", "de_AT.UTF-8")], false);
        check(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8")], true);
        check(&[("LANG", "POSIX")], false);
    }
}
