//! FIN_WAIT1: closed here, and the FIN, or the data before it, is not acknowledged.

use crate::engine::rules::group::{Cause, Group};
use crate::engine::rules::last_ack::{advice_gone, closer, format_gone};
use crate::engine::rules::{About, Code, Look, Rule, Said, Stuck};

pub(crate) struct FinWait1;

impl Rule for FinWait1 {
    fn check(&self, look: &Look<'_>) -> Option<Stuck> {
        let closed_window = look.trouble.is_some_and(|trouble| {
            trouble.by_row && trouble.unanswered.times == 0 && trouble.send_queue > 1
        });
        let cause = if closed_window { Cause::ZeroWindow } else { Cause::Plain };
        look.beyond(look.age_by_backoff(), cause)
    }

    fn format(&self, group: &Group, about: &About<'_>) -> Option<Said> {
        Some(format_gone("FIN_WAIT1", group, about))
    }

    fn code(&self, group: &Group, _about: &About<'_>) -> Code {
        match group.key.cause {
            Cause::ZeroWindow => Code::FinWait1Window,
            _ => Code::FinWait1,
        }
    }

    fn advice(&self, group: &Group, about: &About<'_>) -> String {
        if group.key.cause == Cause::ZeroWindow {
            return format!(
                "{} has closed, but data that it wrote before is still unsent: the peer's application does not read. Look \
                 there. The kernel keeps the socket as long as the peer answers its probes.",
                closer(group)
            );
        }
        advice_gone(group, about)
    }
}
