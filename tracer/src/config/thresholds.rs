//! From when on something is stuck, as the command line has it.

use crate::config::error::UsageError;
use crate::engine::rules::{RuleId, Thresholds};
use crate::text::suggest;

/// All of `--threshold`, over the defaults.
pub(super) fn thresholds(words: &[String]) -> Result<Thresholds, UsageError> {
    let mut thresholds = Thresholds::default();
    for text in words {
        thresholds.set(text).map_err(|error| {
            let name = text.split('=').next().unwrap_or_default();
            let like = suggest::nearest(name, &RuleId::ALL.map(RuleId::threshold_name));
            UsageError(format!("--threshold {text}: {error}{like}"))
        })?;
    }
    Ok(thresholds)
}
