//! How times of finished connections are spread.

use std::collections::BTreeMap;

use tracer_common::TcpState;

use crate::engine::conn::{Connection, How};
use crate::engine::stats::Measure;
use crate::event::Shape;
use crate::output::serve::histogram::{Histogram, LIVES, WAITS};
use crate::output::serve::snapshot::Times;

impl Times {
    pub(super) fn new() -> Times {
        Times {
            life: BTreeMap::new(),
            handshake: BTreeMap::new(),
            accept: BTreeMap::new(),
            rtt: BTreeMap::new(),
            in_state: BTreeMap::new(),
        }
    }

    /// A connection has finished.
    pub(super) fn finished(&mut self, conn: &Connection) {
        let role = conn.role.name();
        for measure in Measure::ALL {
            let (by, name, bounds) = match measure {
                // What was never established had no life; its failure is counted.
                Measure::Life if conn.failed.is_none() => (&mut self.life, role, &LIVES[..]),
                Measure::Handshake => (&mut self.handshake, role, &WAITS[..]),
                Measure::Accept => (&mut self.accept, role, &WAITS[..]),
                Measure::Rtt => (&mut self.rtt, role, &WAITS[..]),
                Measure::TimeIn(state) => (&mut self.in_state, state.name(), &LIVES[..]),
                _ => continue,
            };
            if let Some(value) = measure.of(conn) {
                by.entry(name).or_insert_with(|| Histogram::new(bounds)).record(value);
            }
        }
    }

    /// Nothing stands for a connection in the kernel any more: its TIME_WAIT is over, where it had one.
    pub(super) fn gone(&mut self, conn: &Connection) {
        let ns = conn.time_in(TcpState::TimeWait);
        if conn.shape == Shape::Mini && conn.how == How::Fin && ns != 0 {
            let name = TcpState::TimeWait.name();
            let times = self.in_state.entry(name).or_insert_with(|| Histogram::new(&LIVES));
            times.record(conn.complete.then_some(ns));
        }
    }
}
