//! What is where on the screen, for clicks.

use ratatui::layout::{Position, Rect};

use crate::output::top::keys::Action;

/// Something that can be clicked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hit {
    /// As the key does.
    Do(Action),
    /// Sort by this column.
    Column(usize),
    /// This row.
    Row(usize),
}

/// Everything that can be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hits {
    all: Vec<(Rect, Hit)>,
    /// Rows that there is room for; or lines of what lies over the table.
    pub(crate) page: u16,
}

impl Hits {
    /// Here is something.
    pub(crate) fn add(&mut self, area: Rect, hit: Hit) {
        self.all.push((area, hit));
    }

    /// What is at a place.
    pub(crate) fn at(&self, column: u16, line: u16) -> Option<Hit> {
        let place = Position { x: column, y: line };
        self.all.iter().find(|(area, _)| area.contains(place)).map(|(_, hit)| *hit)
    }
}
