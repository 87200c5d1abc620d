//! What a group of stuck sockets comes to: the finding about it.

use tracer_common::TcpState;

use crate::engine::conn::Table;
use crate::engine::rules::finding::{Finding, Sample, Severity};
use crate::engine::rules::group::Group;
use crate::engine::rules::growth::Series;
use crate::engine::rules::id::RuleId;
use crate::engine::rules::place::Side;
use crate::engine::rules::registry::rule;
use crate::engine::rules::rule::About;
use crate::engine::rules::surroundings::Surroundings;
use crate::engine::rules::thresholds::Thresholds;
use crate::time::MonoNs;

/// The same finding at the last look.
pub(crate) struct Before<'a> {
    pub(crate) finding: &'a Finding,
    /// How many sockets it had over time.
    pub(crate) counts: &'a Series,
}

/// What a judgement is based on.
pub(crate) struct Court<'a> {
    pub(crate) table: &'a Table,
    pub(crate) around: &'a Surroundings,
    pub(crate) thresholds: &'a Thresholds,
}

impl Court<'_> {
    /// What a group comes to; `None` when all in all it is no matter.
    pub(crate) fn judge(
        &self,
        group: &Group,
        before: Option<Before<'_>>,
        now: MonoNs,
    ) -> Option<Finding> {
        let key = &group.key;
        let about = self.about(group, before.as_ref(), now);
        let rule = rule(key.rule)?;
        let said = rule.format(group, &about)?;
        let (local_port, remote) = match key.side {
            Side::Local(port) => (Some(port), None),
            Side::Remote(remote) => (None, Some(remote)),
            Side::Remotes => (None, None),
        };
        let counted = matches!(key.rule, RuleId::CloseWait | RuleId::EstablishedIdle);
        Some(Finding {
            id: key.id(),
            rule: key.rule,
            code: rule.code(group, &about),
            severity: said.severity,
            state: Some(state_of(group)),
            count: group.count(),
            in_state: group.survival.present,
            oldest_ns: Some(group.oldest_ns(now)),
            growth_per_min: about.growth,
            closed_share: group.survival.closed_share().filter(|_| counted),
            late_closed_share: group.survival.late_share().filter(|_| counted),
            netns: Some(key.netns),
            cgroup: group.cgroup,
            process: key.process,
            workers: group.workers.clone(),
            local_port,
            remote,
            opener: group.opened.first().cloned(),
            opened: group.opened.clone(),
            conns: samples(group, now),
            verdict: said.verdict,
            advice: rule.advice(group, &about),
            forecast: said.forecast,
            idle_timeout_ns: group.idle_timeout().map(|timeout| timeout.ns),
        })
    }

    fn about(&self, group: &Group, before: Option<&Before<'_>>, now: MonoNs) -> About<'_> {
        let threshold = self.thresholds.of(group.key.rule);
        let grew = before.is_some_and(|before| before.finding.growth_per_min.is_some());
        let leaked = before.is_some_and(|before| before.finding.severity == Severity::Leak);
        let pace = match group.key.rule {
            RuleId::CloseWait => group.survival.leaks(threshold, leaked, now),
            RuleId::EstablishedIdle => group.stillness.leaks(threshold, leaked, now),
            _ => None,
        };
        let growth = match group.key.rule {
            RuleId::EstablishedIdle => None,
            // Those that stay tell by their ages.
            RuleId::CloseWait | RuleId::FinWait2 | RuleId::Unaccepted => {
                group.survival.growth(grew, now)
            }
            // Of the others some go: only watching tells.
            _ => before
                .and_then(|before| before.counts.sustained())
                .map(|growth| growth.per_second * 60.0),
        };
        About {
            table: self.table,
            around: self.around,
            now,
            growth: pace.map(|pace| pace.per_minute).or(growth),
            leaks: pace.is_some(),
            told: before.is_some(),
        }
    }
}

/// The oldest of them.
fn samples(group: &Group, now: MonoNs) -> Vec<Sample> {
    let sample = |member: &crate::engine::rules::group::Member| Sample {
        id: member.id,
        tuple: member.tuple,
        age_ns: now.since(member.since),
        fd: member.fd,
    };
    let mut samples: Vec<Sample> = group.members.iter().map(sample).collect();
    let oldest_first = |sample: &Sample| (std::cmp::Reverse(sample.age_ns), sample.id);
    if samples.len() > Finding::SAMPLES {
        samples.select_nth_unstable_by_key(Finding::SAMPLES - 1, oldest_first);
        samples.truncate(Finding::SAMPLES);
    }
    samples.sort_unstable_by_key(oldest_first);
    samples
}

fn state_of(group: &Group) -> TcpState {
    match group.key.rule {
        RuleId::SynSent => TcpState::SynSent,
        RuleId::SynRecv => TcpState::SynRecv,
        RuleId::FinWait1 => TcpState::FinWait1,
        RuleId::FinWait2 => TcpState::FinWait2,
        RuleId::Closing => TcpState::Closing,
        RuleId::CloseWait => TcpState::CloseWait,
        RuleId::LastAck => TcpState::LastAck,
        _ if group.given_up == group.count() => TcpState::CloseWait,
        _ => TcpState::Established,
    }
}
