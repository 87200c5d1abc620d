//! Where inputs come from: `live` the kernel, `recording` a file. `outcome` is how both end, `terminal` reads
//! keys for both. `kill` ends what a live run has found.

pub mod kill;
pub mod live;
mod outcome;
pub mod recording;
mod terminal;

use crate::config::Config;
use crate::engine::Rules;
use crate::engine::rules::Watch;
use crate::input::Origin;
use crate::output::{Needs, RulesNeed};

/// The rules of a run, where an output needs them.
fn rules(config: &Config, needs: &Needs, origin: &Origin) -> Option<Rules> {
    (needs.rules != RulesNeed::None).then(|| Rules {
        watch: Watch::new(config.rules(origin.jiffy_ns)),
        scope: config.filter.clone(),
        looks: needs.rules == RulesNeed::Looks,
    })
}
