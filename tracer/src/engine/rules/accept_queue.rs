//! A listener's queue that stays full: clients are turned away.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::engine::rules::finding::{Forecast, What};
use crate::engine::rules::scene::Listener;
use crate::engine::rules::{Finding, RuleId, Surroundings, words};
use crate::event::SockId;
use crate::time::MonoNs;

/// Since when each full queue has been full, and the namespace's overflows then.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    full: HashMap<SockId, (MonoNs, Option<u64>), FixedState>,
}

impl Queues {
    /// Takes in all listeners; those whose queue has been full for `threshold_ns` are findings.
    pub(crate) fn check(
        &mut self,
        listeners: &[Listener],
        around: &Surroundings,
        threshold_ns: u64,
        now: MonoNs,
        found: &mut Vec<Finding>,
    ) {
        let mut still = HashMap::default();
        for listener in listeners {
            // sk_acceptq_is_full: more than the backlog wait. A listener not looked at has no backlog.
            if listener.backlog == 0 || listener.waiting <= listener.backlog {
                continue;
            }
            let overflows = around.netns(listener.netns).listen_overflows;
            let (since, before) = self.full.get(&listener.id).copied().unwrap_or((now, overflows));
            still.insert(listener.id, (since, before));
            if now.since(since) >= threshold_ns {
                let dropped = overflows.zip(before).map(|(now, before)| now.saturating_sub(before));
                found.push(finding(listener, now.since(since), dropped));
            }
        }
        self.full = still;
    }
}

fn finding(listener: &Listener, full_ns: u64, dropped: Option<u64>) -> Finding {
    let limit = u64::from(listener.backlog) + 1;
    let in_use = u64::from(listener.waiting);
    let mut verdict = format!(
        "the accept queue of {} on :{} is full: {in_use} of {limit} for {}",
        words::process(listener.process),
        listener.port,
        words::age(full_ns)
    );
    if let Some(dropped) = dropped.filter(|&dropped| dropped != 0) {
        use std::fmt::Write;
        let _ = write!(
            verdict,
            "; {} dropped since in this network namespace (ListenOverflows)",
            words::count(dropped, "handshake")
        );
    }
    let advice =
        "The kernel drops further handshakes. Accept with more threads, or do less between two calls of accept(). A \
         larger backlog (net.core.somaxconn, acceptCount) only helps against bursts."
            .to_owned();
    let forecast = Forecast {
        what: What::AcceptQueue,
        limit,
        in_use,
        share: None,
        per_second: None,
        left_ns: Some(0),
    };
    let id = format!("accept_queue/{}", listener.id.0);
    Finding {
        oldest_ns: Some(full_ns),
        netns: Some(listener.netns),
        process: listener.process,
        local_port: Some(listener.port),
        ..Finding::runs_out(id, RuleId::AcceptQueue, verdict, advice, forecast)
    }
}
