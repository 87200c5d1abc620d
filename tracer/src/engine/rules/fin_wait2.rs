//! FIN_WAIT2: we have closed, the peer has acknowledged it and does not close.

use crate::engine::rules::group::{Cause, Group};
use crate::engine::rules::{About, Look, Rule, Said, Severity, Stuck, words};

pub(crate) struct FinWait2;

impl Rule for FinWait2 {
    fn check(&self, look: &Look<'_>) -> Option<Stuck> {
        look.beyond(look.age(), Cause::Plain)
    }

    fn format(&self, group: &Group, about: &About<'_>) -> Option<Said> {
        let who = words::who(group);
        let has = words::subject(group, "has", "have");
        let side = words::side(group);
        let many = words::so_many(group, ("socket", " in FIN_WAIT2"), about.now, about.growth);
        let verdict = if group.orphans == group.count() {
            format!("the peers of {who} do not close {side}: {many}, held by the kernel")
        } else {
            format!("{has} shut down the sending side {side}, and the peer does not close: {many}")
        };
        Some(Said { verdict, severity: Severity::Stuck, forecast: None })
    }

    fn advice(&self, group: &Group, about: &About<'_>) -> String {
        if group.orphans == group.count() {
            let timeout = about.around.netns(group.key.netns).fin_timeout;
            let timeout =
                timeout.map_or_else(String::new, |seconds| format!(" ({seconds} s here)"));
            let peer = if group.is_local() {
                "close() is missing at the peer, a process of this machine: see tcptrail list --state CLOSE_WAIT."
            } else {
                "close() is missing at the peer: its end is in CLOSE_WAIT. Run tcptrail there."
            };
            return format!(
                "{peer} Here the kernel ends each socket after tcp_fin_timeout{timeout}."
            );
        }
        format!(
            "The application called shutdown(SHUT_WR) and not close(), so no timeout runs. Call close(), too, or read with a \
             timeout.{}",
            words::fds(group)
        )
    }
}
