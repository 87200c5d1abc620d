//! Figures of finished connections, by what they have in common: folds over the same changes that `life` shows.
//!
//! `measure` says what is measured and what of it is known, `group` what connections have in common, `spread` keeps the
//! values, `drops` counts what the kernel threw away, `again` what it sent again.

mod again;
mod drops;
mod group;
mod measure;
mod spread;

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::engine::conn::{Change, Connection, How, Kind, Role};
use crate::event::Shape;

pub use again::Retransmits;
pub use drops::Drops;
pub use group::{By, Label};
pub use measure::Measure;
pub use spread::Spread;

/// Most groups: whoever connects from anywhere must not decide how much memory we use.
const MOST_GROUPS: usize = 1000;

/// What one group of connections came to.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Connections that finished.
    pub connections: u64,
    /// Of those, that were never established.
    pub failed: u64,
    /// By [`Measure::ALL`]; what no connection had takes nothing.
    spreads: [Option<Box<Spread>>; Measure::ALL.len()],
    digits: u8,
}

impl Figures {
    fn new(digits: u8) -> Figures {
        Figures { connections: 0, failed: 0, spreads: std::array::from_fn(|_| None), digits }
    }

    /// The values of a measure, where a connection had any.
    #[must_use]
    pub fn spread(&self, measure: Measure) -> Option<&Spread> {
        self.spreads.get(measure.index())?.as_deref()
    }

    fn spread_mut(&mut self, measure: Measure) -> Option<&mut Spread> {
        let digits = self.digits;
        let slot = self.spreads.get_mut(measure.index())?;
        Some(slot.get_or_insert_with(|| Box::new(Spread::new(digits))))
    }

    fn count(&mut self, measure: Measure, value: Option<u64>) {
        if let Some(spread) = self.spread_mut(measure) {
            match value {
                Some(value) => spread.record(value),
                None => spread.left_out += 1,
            }
        }
    }

    /// Takes in those of another group.
    pub fn add(&mut self, other: &Figures) {
        self.connections += other.connections;
        self.failed += other.failed;
        for measure in Measure::ALL {
            if let Some(theirs) = other.spread(measure)
                && let Some(ours) = self.spread_mut(measure)
            {
                ours.add(theirs);
            }
        }
    }
}

/// The figures of a run.
#[derive(Debug)]
pub struct Stats {
    by: Vec<By>,
    groups: HashMap<Box<[Label]>, Box<Figures>, FixedState>,
    /// Of connections that would have made one group more.
    others: Figures,
    digits: u8,
    /// Reused.
    labels: Vec<Label>,
}

impl Stats {
    /// Of all connections, or of those that have something in common.
    #[must_use]
    pub fn new(by: Vec<By>) -> Stats {
        // Groups may be many: then a hundredth has to do.
        let digits = if by.is_empty() { 3 } else { 2 };
        let groups = HashMap::default();
        Stats { by, groups, others: Figures::new(digits), digits, labels: Vec::new() }
    }

    /// What groups have in common.
    #[must_use]
    pub fn by(&self) -> &[By] {
        &self.by
    }

    /// How exact quantiles are: they are too large by at most this share of themselves.
    #[must_use]
    pub fn precision(&self) -> f64 {
        10_f64.powi(-i32::from(self.digits))
    }

    /// The groups, in no order.
    pub fn groups(&self) -> impl Iterator<Item = (&[Label], &Figures)> {
        self.groups.iter().map(|(labels, figures)| (&**labels, &**figures))
    }

    /// Those that there was no room for as groups of their own.
    #[must_use]
    pub fn others(&self) -> &Figures {
        &self.others
    }

    /// Takes in a change of a connection.
    pub fn change(&mut self, conn: &Connection, change: &Change) {
        match change.kind {
            Kind::Finished if conn.role != Role::Listener => self.finished(conn),
            // Its TIME_WAIT is over, after it was finished.
            Kind::Gone if conn.shape == Shape::Mini && conn.how == How::Fin => {
                let (known, ns) = (conn.complete, conn.time_in(TcpState::TimeWait));
                if ns != 0 {
                    let figures = self.figures_of(conn);
                    figures.count(Measure::TimeIn(TcpState::TimeWait), known.then_some(ns));
                }
            }
            _ => {}
        }
    }

    fn finished(&mut self, conn: &Connection) {
        let figures = self.figures_of(conn);
        figures.connections += 1;
        figures.failed += u64::from(conn.failed.is_some());
        for measure in Measure::ALL {
            if let Some(value) = measure.of(conn) {
                figures.count(measure, value);
            }
        }
    }

    fn figures_of(&mut self, conn: &Connection) -> &mut Figures {
        let Stats { by, groups, others, digits, labels } = self;
        labels.clear();
        labels.extend(by.iter().map(|by| by.label(conn)));
        if groups.contains_key(labels.as_slice()) || groups.len() < MOST_GROUPS {
            if !groups.contains_key(labels.as_slice()) {
                groups.insert(labels.as_slice().into(), Box::new(Figures::new(*digits)));
            }
            if let Some(figures) = groups.get_mut(labels.as_slice()) {
                return figures;
            }
        }
        others
    }
}
