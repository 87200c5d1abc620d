//! The text of both ends of many connections, in which texts that are typed are looked for, key after key.

use crate::engine::conn::Connection;
use crate::output::top::tabs::line_search::Lines;
use crate::output::top::tabs::scene::Scene;
use crate::output::top::tabs::search::{Search, ends_into};
use crate::output::top::tabs::table::Lazy;

/// No line.
const NONE: u32 = u32::MAX;

/// A line for each of some connections, in the order of the table, where neighbours have much alike.
pub(super) struct Ends {
    lines: Lines,
    /// By place in the table.
    line_of: Vec<u32>,
}

impl Ends {
    /// Of these connections.
    pub(super) fn of(scene: &Scene<'_>, these: &[Lazy]) -> Ends {
        let places = these.iter().map(|lazy| lazy.at.index() + 1).max().unwrap_or(0);
        let mut line_of = vec![NONE; places];
        for lazy in these {
            if let Some(line) = line_of.get_mut(lazy.at.index()) {
                *line = 0;
            }
        }
        let mut conns: Vec<&Connection> = Vec::with_capacity(these.len());
        for (at, conn) in scene.table().places() {
            if let Some(line) = line_of.get_mut(at.index()).filter(|line| **line != NONE) {
                *line = u32::try_from(conns.len()).unwrap_or(NONE);
                conns.push(conn);
            }
        }
        Ends { lines: Lines::of(&conns, |conn, line| ends_into(scene, conn, line)), line_of }
    }

    /// Which places have connections with these texts in their rows.
    pub(super) fn with(&self, scene: &Scene<'_>, texts: &[String]) -> Vec<bool> {
        // Which texts each line has, a bit for each of the first 32; of more, rows are looked through as a whole.
        let mut in_ends = vec![0u32; self.lines.count()];
        for (bit, text) in texts.iter().enumerate().take(u32::BITS as usize) {
            for line in self.lines.with(std::slice::from_ref(text)) {
                if let Some(found) = in_ends.get_mut(line) {
                    *found |= 1 << bit;
                }
            }
        }
        let mut search = Search::new(scene, texts);
        let mut found = vec![false; self.line_of.len()];
        for (at, conn) in scene.table().places() {
            let line = self.line_of.get(at.index()).filter(|line| **line != NONE);
            let (Some(line), Some(found)) = (line, found.get_mut(at.index())) else { continue };
            let in_ends = in_ends.get(*line as usize).copied().unwrap_or(0);
            *found = match search.in_alike(conn) {
                Some(in_alike) => (in_alike | in_ends).count_ones() as usize == texts.len(),
                None => search.finds(conn),
            };
        }
        found
    }
}
