//! CLOSING: both closed at once, and our FIN is not acknowledged.

use crate::engine::rules::group::{Cause, Group};
use crate::engine::rules::last_ack::{advice_gone, format_gone};
use crate::engine::rules::{About, Look, Rule, Said, Stuck};

pub(crate) struct Closing;

impl Rule for Closing {
    fn check(&self, look: &Look<'_>) -> Option<Stuck> {
        look.beyond(look.age_by_backoff(), Cause::Plain)
    }

    fn format(&self, group: &Group, about: &About<'_>) -> Option<Said> {
        Some(format_gone("CLOSING", group, about))
    }

    fn advice(&self, group: &Group, about: &About<'_>) -> String {
        advice_gone(group, about)
    }
}
