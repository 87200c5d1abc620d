//! SYN_SENT: nobody answers a connect.

use std::fmt::Write;

use crate::engine::rules::finding::{Forecast, What};
use crate::engine::rules::group::{Cause, Group};
use crate::engine::rules::{About, Look, Rule, Said, Severity, Stuck, drops, words};

pub(crate) struct SynSent;

impl Rule for SynSent {
    fn check(&self, look: &Look<'_>) -> Option<Stuck> {
        look.beyond(look.age(), Cause::Plain)
    }

    fn format(&self, group: &Group, about: &About<'_>) -> Option<Said> {
        let gets = words::subject(group, "gets", "get");
        let mut verdict = format!(
            "{gets} no answer {}: {}{}",
            words::source(group),
            words::so_many(group, ("connect", " in SYN_SENT"), about.now, about.growth),
            words::sent_again(group, "SYN"),
        );
        verdict.push_str(&drops::words(group, about));
        if let Some(when) = words::give_up(group, about.now) {
            let _ = write!(verdict, "; {when}");
        }
        let retries = about.around.netns(group.key.netns).syn_retries;
        let forecast = forecast(group, about, retries);
        Some(Said { verdict, severity: Severity::Stuck, forecast })
    }

    fn advice(&self, group: &Group, about: &About<'_>) -> String {
        if let Some(advice) = drops::advice(group, about) {
            return advice;
        }
        let retries = match about.around.netns(group.key.netns).syn_retries {
            Some(retries) => format!("tcp_syn_retries {retries}"),
            None => "tcp_syn_retries".to_owned(),
        };
        format!(
            "Not even a RST came: a firewall drops the SYN, the address is wrong, or the host is down. Check the path \
             (traceroute -T). Set a connect timeout; without one {retries} applies."
        )
    }
}

/// The kernel's patience, in retransmissions.
pub(crate) fn forecast(group: &Group, about: &About<'_>, retries: Option<u32>) -> Option<Forecast> {
    let left = group.last_give_up?.since(about.now);
    Some(Forecast {
        what: What::GiveUp,
        limit: u64::from(retries?),
        in_use: u64::from(group.most_unanswered),
        share: None,
        per_second: None,
        left_ns: Some(left),
    })
}
