//! What rows are made of.

use crate::engine::Engine;
use crate::engine::conn::{Connection, Table};
use crate::filter::Filter;
use crate::output::top::model::Model;
use crate::output::top::words::Wanted;
use crate::time::MonoNs;

/// Everything that is known, at one time.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) model: &'a Model,
    /// What the run is about.
    pub(crate) scope: &'a Filter,
    pub(crate) now: MonoNs,
}

impl<'a> Scene<'a> {
    /// All connections and listeners.
    pub(crate) fn table(&self) -> &'a Table {
        self.engine.table()
    }

    /// Those that are there, in the run's scope, and wanted by the words of the filter; listeners too.
    pub(crate) fn wanted(&self, wanted: &'a Wanted) -> impl Iterator<Item = &'a Connection> {
        let (all, now) = (self.scope.wants_all(self.engine.origin().only_netns), self.now);
        let scope = self.scope;
        self.table()
            .iter()
            .filter(move |conn| all || scope.wants(conn) == Some(true))
            .filter(move |conn| wanted.wants(conn, now))
    }
}
