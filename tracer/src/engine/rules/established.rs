//! ESTABLISHED without progress: segments that nobody acknowledges, or a window that stays closed.

use std::fmt::Write;

use crate::engine::rules::group::{Cause, Group};
use crate::engine::rules::{About, Code, Look, Rule, Said, Severity, Stuck, drops, words};

pub(crate) struct Established;

impl Rule for Established {
    fn check(&self, look: &Look<'_>) -> Option<Stuck> {
        // Only a walk tells whether an ACK came since.
        let trouble = look.trouble.filter(|trouble| trouble.by_row)?;
        if trouble.unanswered.times != 0 {
            let since = trouble.last_ack?;
            return look.beyond(Some(look.now.since(since)), Cause::Retransmitting);
        }
        if trouble.send_queue != 0 {
            let since = trouble.last_sent?;
            return look.beyond(Some(look.now.since(since)), Cause::ZeroWindow);
        }
        None
    }

    fn format(&self, group: &Group, about: &About<'_>) -> Option<Said> {
        let who = words::who(group);
        let gets = words::subject(group, "gets", "get");
        let many = words::so_many(group, ("connection", ""), about.now, None);
        let bytes = words::bytes(group.unsent);
        let mut verdict = match group.key.cause {
            Cause::ZeroWindow => {
                let side = words::side(group);
                format!(
                    "{who} cannot send {side}: {many}; {bytes} wait, the peer's window is closed"
                )
            }
            _ => format!(
                "{gets} no acknowledgement {}: {many}, {bytes} not acknowledged{}",
                words::source(group),
                words::sent_again(group, "the first")
            ),
        };
        if group.key.cause == Cause::Retransmitting {
            verdict.push_str(&drops::words(group, about));
        }
        if group.key.cause == Cause::Retransmitting
            && let Some(when) = words::give_up(group, about.now)
        {
            let _ = write!(verdict, "; {when}");
        }
        let retries = about.around.netns(group.key.netns).retries2;
        let forecast = super::syn_sent::forecast(group, about, retries);
        Some(Said { verdict, severity: Severity::Stuck, forecast })
    }

    fn code(&self, group: &Group, _about: &About<'_>) -> Code {
        match group.key.cause {
            Cause::ZeroWindow => Code::EstablishedWindow,
            _ => Code::Established,
        }
    }

    fn advice(&self, group: &Group, about: &About<'_>) -> String {
        match group.key.cause {
            Cause::ZeroWindow => "The peer's host answers, but its application does not read (its RECV-Q is full): look \
                                  there. SO_SNDTIMEO or TCP_USER_TIMEOUT limits the wait here."
                .to_owned(),
            _ => {
                let retries = match about.around.netns(group.key.netns).retries2 {
                    Some(retries) => format!("tcp_retries2 {retries}, {}", words::gives_up_after(retries)),
                    None => "tcp_retries2".to_owned(),
                };
                let why = drops::advice(group, about).unwrap_or_else(|| {
                    "The peer or the path to it is gone.".to_owned()
                });
                format!(
                    "{why} The kernel retransmits until {retries}, then the application gets ETIMEDOUT. TCP_USER_TIMEOUT ends it \
                     sooner."
                )
            }
        }
    }
}
