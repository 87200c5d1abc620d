//! LAST_ACK: both have closed, and our FIN is not acknowledged. Also what FIN_WAIT1 and CLOSING share
//! with it: the kernel keeps a socket whose peer is gone.

use std::fmt::Write;

use crate::engine::rules::group::Group;
use crate::engine::rules::{About, Look, Rule, Said, Severity, Stuck, drops, words};

pub(crate) struct LastAck;

impl Rule for LastAck {
    fn check(&self, look: &Look<'_>) -> Option<Stuck> {
        look.beyond(look.age_by_backoff(), super::group::Cause::Plain)
    }

    fn format(&self, group: &Group, about: &About<'_>) -> Option<Said> {
        Some(format_gone("LAST_ACK", group, about))
    }

    fn advice(&self, group: &Group, about: &About<'_>) -> String {
        advice_gone(group, about)
    }
}

/// Who closed them.
pub(crate) fn closer(group: &Group) -> String {
    match group.key.process {
        Some(_) => words::who(group),
        None => "the application".to_owned(),
    }
}

pub(crate) fn format_gone(state: &str, group: &Group, about: &About<'_>) -> Said {
    let peers = group.remotes(100);
    let peer = match peers.as_slice() {
        [one] => one.to_string(),
        more => format!("{} peers", more.len()),
    };
    let in_state = format!(" in {state} {}", words::side(group));
    let many = words::so_many(group, ("socket", &in_state), about.now, about.growth);
    let sent_again = words::sent_again(group, "FIN");
    let silent = if group.key.cause == super::group::Cause::ZeroWindow {
        "does not read"
    } else {
        "does not answer"
    };
    let dropped = match group.key.cause {
        super::group::Cause::ZeroWindow => String::new(),
        _ => drops::words(group, about),
    };
    let mut verdict = format!("{peer} {silent}: {many}{sent_again}{dropped}");
    if group.orphans == group.count() {
        let _ = write!(verdict, "; held by the kernel");
        if group.key.process.is_some() {
            let _ = write!(verdict, ", closed by {}", closer(group));
        }
    } else {
        let _ = write!(verdict, "; {} still holds them", closer(group));
    }
    if let Some(when) = words::give_up(group, about.now) {
        let _ = write!(verdict, "; {when}");
    }
    let retries = about.around.netns(group.key.netns).retries(group.orphans == group.count());
    let forecast = super::syn_sent::forecast(group, about, retries);
    Said { verdict, severity: Severity::Stuck, forecast }
}

pub(crate) fn advice_gone(group: &Group, about: &About<'_>) -> String {
    let facts = about.around.netns(group.key.netns);
    let orphans = group.orphans == group.count();
    let mut text = drops::advice(group, about).unwrap_or_else(|| String::from(
        "This is no leak: nobody acknowledges the FIN. The peer's host or the path to it is gone.",
    ));
    match (orphans, facts.orphan_retries, facts.retries2) {
        (true, Some(retries), _) => {
            let meant = if retries == 0 { 8 } else { retries };
            let zero = if retries == 0 { " means 8" } else { "" };
            let _ = write!(
                text,
                " The kernel ends each after {} (tcp_orphan_retries {retries}{zero}).",
                words::gives_up_after(meant)
            );
        }
        (false, _, Some(retries)) => {
            let _ = write!(
                text,
                " The application still holds them: the kernel retransmits for {} (tcp_retries2 {retries}).",
                words::gives_up_after(retries)
            );
        }
        _ => text.push_str(" The kernel ends them by itself."),
    }
    text
}
