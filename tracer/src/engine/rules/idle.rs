//! What cannot be known: whether the peer of an idle connection without keepalive is there.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::engine::rules::{Finding, RuleId, Severity, words};
use crate::event::{Event, Existing, Shape, SockId};
use crate::time::MonoNs;

/// Most sockets kept.
const MOST: usize = 65_536;

/// Established sockets without keepalive, and since when nothing came from the peer.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    silent_since: HashMap<SockId, MonoNs, FixedState>,
}

impl Idle {
    pub(crate) fn row(&mut self, event: &Event, row: &Existing, jiffy_ns: u64, threshold: u64) {
        if row.shape != Shape::Full {
            return;
        }
        let silent = u64::from(row.since_received.min(row.since_ack)).saturating_mul(jiffy_ns);
        let matters = row.state == TcpState::Established
            && !event.flags.keepalive
            && event.flags.has_socket
            && silent >= threshold;
        if !matters {
            self.gone(event.id);
        } else if self.silent_since.len() < MOST {
            self.silent_since.insert(event.id, event.at.before(silent));
        }
    }

    pub(crate) fn gone(&mut self, id: SockId) {
        if !self.silent_since.is_empty() {
            self.silent_since.remove(&id);
        }
    }

    /// One note for all of them.
    pub(crate) fn note(&self, threshold: u64, now: MonoNs) -> Option<Finding> {
        let count = self.silent_since.len() as u64;
        let oldest = self.silent_since.values().map(|&since| now.since(since)).max()?;
        Some(Finding {
            id: "idle".to_owned(),
            rule: RuleId::Idle,
            severity: Severity::Note,
            state: Some(TcpState::Established),
            count,
            in_state: count,
            oldest_ns: Some(oldest),
            growth_per_min: None,
            closed_share: None,
            late_closed_share: None,
            netns: None,
            process: None,
            local_port: None,
            remote: None,
            opener: None,
        opened: crate::engine::rules::Opened::default(),
            conns: Vec::new(),
            verdict: format!(
                "{} idle for more than {} without keepalive: whether the peer is still there cannot be known",
                words::count(count, "established connection"),
                words::age(threshold)
            ),
            advice: "A peer that crashed, or a NAT that forgot, says nothing, and without keepalive nobody asks. SO_KEEPALIVE \
                     (with TCP_KEEPIDLE below the 2 h of tcp_keepalive_time) finds out."
                .to_owned(),
            forecast: None,
        })
    }
}
