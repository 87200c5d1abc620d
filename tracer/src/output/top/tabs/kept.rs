//! What a tab's rows are made of, as it was last gathered: a key that sorts, groups or looks for a text goes over that,
//! and not over a hundred thousand connections again.

use crate::output::top::tabs::connections::Sorted;
use crate::output::top::tabs::listeners::table as listeners;
use crate::output::top::tabs::openers::table as openers;
use crate::output::top::tabs::processes::table as processes;
use crate::output::top::tabs::remotes::Sums;
use crate::output::top::tabs::scene::Scene;
use crate::output::top::tabs::tab::{Order, Tab};
use crate::output::top::tabs::table::Table;
use crate::output::top::words::Wanted;

/// Gathered figures of one tab, until they are to be made anew.
#[derive(Default)]
pub(crate) struct Kept {
    gathered: Option<Gathered>,
}

struct Gathered {
    tab: Tab,
    /// Of which connections.
    wanted: Wanted,
    made: Made,
}

/// What was gathered.
pub(super) enum Made {
    /// Every row.
    Rows(Table),
    /// Too many to be made into rows before they are sorted.
    Remotes(Sums),
    Connections(Sorted),
}

impl Kept {
    /// Figures are to be made anew the next time they are asked for.
    pub(crate) fn forget(&mut self) {
        self.gathered = None;
    }

    /// A text is about to be typed: what its first letter would wait for is done before.
    pub(crate) fn prepare(&mut self, scene: &Scene<'_>) {
        if let Some(Gathered { made: Made::Connections(sorted), .. }) = &mut self.gathered {
            sorted.prepare(scene);
        }
    }

    /// Figures of a tab, whatever text is looked for in them; `None` for tabs that are made in another way.
    pub(super) fn of(
        &mut self,
        tab: Tab,
        scene: &Scene<'_>,
        order: &Order<'_>,
    ) -> Option<&mut Made> {
        let wanted = order.wanted;
        let same = |kept: &Gathered| {
            let in_order = match &kept.made {
                Made::Connections(sorted) => sorted.is_by(order) && order.group.is_none(),
                Made::Rows(_) | Made::Remotes(_) => true,
            };
            in_order && kept.tab == tab && kept.wanted.same_connections(wanted)
        };
        let gathered = match self.gathered.take().filter(same) {
            Some(gathered) => gathered,
            None => {
                let made = match tab {
                    Tab::Processes => Made::Rows(processes(scene, wanted)),
                    Tab::Listeners => Made::Rows(listeners(scene, wanted)),
                    Tab::Openers => Made::Rows(openers(scene, wanted)),
                    Tab::Remotes => Made::Remotes(Sums::of(scene, wanted)),
                    Tab::Connections if order.group.is_none() => {
                        Made::Connections(Sorted::of(scene, order))
                    }
                    Tab::Findings | Tab::Connections => return None,
                };
                Gathered { tab, wanted: wanted.clone(), made }
            }
        };
        Some(&mut self.gathered.insert(gathered).made)
    }
}
