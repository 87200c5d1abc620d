//! The tabs, and what can be asked of their tables.

use crate::output::top::words::Wanted;

/// A tab.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Tab {
    /// What is wrong.
    #[default]
    Findings,
    /// What there is.
    Connections,
    /// Whose it is.
    Processes,
    /// Who waits for connections.
    Listeners,
    /// Who is talked to.
    Remotes,
    /// Which code opened what is open.
    Openers,
}

impl Tab {
    /// All, from left to right.
    pub(crate) const ALL: [Tab; 6] = [
        Tab::Findings,
        Tab::Connections,
        Tab::Processes,
        Tab::Listeners,
        Tab::Remotes,
        Tab::Openers,
    ];

    /// What is written on it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Tab::Findings => "Findings",
            Tab::Connections => "Connections",
            Tab::Processes => "Processes",
            Tab::Listeners => "Listeners",
            Tab::Remotes => "Remotes",
            Tab::Openers => "Openers",
        }
    }

    /// What can be grouped by, besides by nothing.
    pub(crate) const fn groups(self) -> &'static [&'static str] {
        match self {
            Tab::Findings => &["process", "rule"],
            Tab::Connections => &["process", "state", "remote", "local port"],
            Tab::Processes => &["name"],
            Tab::Listeners => &["process"],
            Tab::Remotes => &["address"],
            Tab::Openers => &["process"],
        }
    }

    /// The column it is sorted by at first, and whether the largest comes first.
    pub(crate) const fn first_sort(self) -> (usize, bool) {
        match self {
            // As bad as it is.
            Tab::Findings => (0, false),
            // The oldest.
            Tab::Connections => (1, true),
            // The most.
            Tab::Processes | Tab::Openers => (1, true),
            Tab::Listeners | Tab::Remotes => (2, true),
        }
    }
}

/// How a table is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<'a> {
    /// By which of [`Tab::groups`].
    pub(crate) group: Option<usize>,
    /// By which column.
    pub(crate) column: usize,
    /// The largest first.
    pub(crate) descending: bool,
    /// What is to be in it.
    pub(crate) wanted: &'a Wanted,
}
