//! What a screen is made of.

use crate::output::Playback;
use crate::output::top::model::Cost;
use crate::output::top::tabs::{Pane, Scene, Table};
use crate::output::top::view::theme::Theme;

/// Everything that a screen is made of.
pub(crate) struct Screen<'a> {
    pub(crate) scene: Scene<'a>,
    pub(crate) header: Header,
    pub(crate) table: &'a Table,
    pub(crate) pane: Option<&'a Pane>,
    /// What lies over the rest, while it is asked or told.
    pub(crate) over: Option<&'a Pane>,
    pub(crate) theme: Theme,
}

/// Figures that stand above everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Header {
    /// Time of day.
    pub(crate) time: String,
    /// The process with the largest share of its descriptors in use: its name, in use, limit.
    pub(crate) fullest: Option<(String, u64, u64)>,
    /// Events lost.
    pub(crate) lost: u64,
    /// Findings that are a reason to act.
    pub(crate) findings: u64,
    /// What the run costs.
    pub(crate) cost: Option<Cost>,
    /// Of a replay.
    pub(crate) playback: Option<Playback>,
    /// Since when rows stand still.
    pub(crate) frozen: Option<String>,
    /// How long it has been watched, nanoseconds.
    pub(crate) watched_ns: u64,
}
