//! Events that were lost.

use crate::time::MonoNs;

/// Where events were lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LossCause {
    /// The ring buffer was full.
    Ring,
    /// The kernel skipped a program that was already running on that CPU.
    Recursion,
    /// The connection table was full.
    Table,
    /// A record made no sense.
    Malformed,
}

impl LossCause {
    /// All, in the order of their figures in summaries.
    pub const ALL: [LossCause; 4] =
        [LossCause::Ring, LossCause::Recursion, LossCause::Table, LossCause::Malformed];

    /// As in the JSON contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            LossCause::Ring => "ring",
            LossCause::Recursion => "recursion",
            LossCause::Table => "table",
            LossCause::Malformed => "malformed",
        }
    }
}

/// Events that did not reach us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loss {
    /// How many.
    pub count: u64,
    /// Where.
    pub cause: LossCause,
    /// Not before this.
    pub from: MonoNs,
    /// Not after this.
    pub to: MonoNs,
}
