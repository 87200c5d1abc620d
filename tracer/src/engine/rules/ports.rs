//! Ephemeral ports: when there is none left towards a destination.

use std::fmt::Write;

use crate::engine::rules::close_wait::left_ns;
use crate::engine::rules::finding::{Forecast, What};
use crate::engine::rules::growth::{Series, as_f64};
use crate::engine::rules::scene::{InUse, Route};
use crate::engine::rules::{Finding, NetnsFacts, RuleId, words};

/// `TCP_TIMEWAIT_LEN`: how long a port stays taken after its connection.
const TIME_WAIT_S: f64 = 60.0;
/// From this share on it is told without growth.
const MOST_PERCENT: u64 = 80;

/// Ports in use that a new connection cannot have.
pub(crate) fn taken(in_use: &InUse) -> u64 {
    in_use.ports - in_use.reusable.min(in_use.ports)
}

/// Whether ports towards this destination have run out, or will within `within_ns`.
pub(crate) fn check(
    route: &Route,
    in_use: &InUse,
    series: &Series,
    facts: &NetnsFacts,
    within_ns: u64,
) -> Option<Finding> {
    let (first, last) = facts.port_range?;
    let limit = facts.ports()?;
    let taken = taken(in_use).min(limit);
    let rest = limit.saturating_sub(taken);
    let many = taken * 100 >= limit * MOST_PERCENT;
    // Of a thousand destinations most are told by this: whether they grow takes longer to find out.
    if rest != 0 && !many && left_ns(rest, series.steepest()) > within_ns {
        return None;
    }
    let growth = series.sustained().filter(|growth| {
        // TIME_WAIT alone grows for its first minute and then stays, at the rate times 60 s.
        let settled = as_f64(growth.span_ns) / 1e9 > TIME_WAIT_S * 1.25;
        settled || growth.per_second * TIME_WAIT_S >= as_f64(limit)
    });
    let per_second = growth.map(|growth| growth.per_second);
    let left = if rest == 0 { Some(0) } else { per_second.map(|rate| left_ns(rest, rate)) };
    let soon = left.is_some_and(|left| left <= within_ns);
    if !soon && !many {
        return None;
    }
    let left = left.filter(|_| soon);
    let case = Case { route, in_use, taken, limit, left };
    let verdict = case.verdict(per_second);
    let advice = case.advice((first, last), facts.reserved_ports);
    let forecast = Forecast {
        what: What::Ports,
        limit,
        in_use: taken,
        share: Some(in_use.time_wait),
        per_second,
        left_ns: left,
    };
    let id = format!("ports/{}/{}/{}", route.netns, route.local, route.remote);
    Some(Finding {
        netns: Some(route.netns),
        process: in_use.process,
        remote: Some(route.remote).filter(|_| !case.is_bound()),
        ..Finding::runs_out(id, RuleId::Ports, verdict, advice, forecast)
    })
}

/// A destination whose ports are used up, or soon will be.
struct Case<'a> {
    route: &'a Route,
    in_use: &'a InUse,
    taken: u64,
    limit: u64,
    /// Time left, nanoseconds, where they run out.
    left: Option<u64>,
}

impl Case<'_> {
    /// bind takes a port for whatever destination.
    fn is_bound(&self) -> bool {
        self.route.remote.port() == 0
    }

    fn verdict(&self, per_second: Option<f64>) -> String {
        let &Case { route, in_use, taken, limit, left } = self;
        let to = if self.is_bound() {
            format!("for sockets that are bound to {} before they connect", route.local)
        } else {
            format!("to {} from {}", route.remote, route.local)
        };
        let figures = format!("{taken} of {limit} in use, {} in TIME_WAIT", in_use.time_wait);
        let mut verdict = match left {
            Some(0) => format!("no local port is left {to}: {figures}"),
            Some(left) => {
                format!("local ports {to} run out in about {}: {figures}", words::roughly(left))
            }
            None => format!("local ports {to} are nearly used up: {figures}"),
        };
        if taken < limit
            && let Some(rate) = per_second.and_then(|rate| words::rate(rate * 60.0))
        {
            let _ = write!(verdict, ", {rate}");
        }
        if in_use.process.is_some() {
            let _ = write!(verdict, "; used by {}", words::process(in_use.process));
        }
        verdict
    }

    fn advice(&self, (first, last): (u16, u16), reserved: Option<u32>) -> String {
        let bound = self.is_bound();
        let mut advice = String::new();
        if self.left == Some(0) {
            advice.push_str(if bound {
                "bind() fails with EADDRINUSE. "
            } else {
                "connect() fails with EADDRNOTAVAIL. "
            });
        }
        advice.push_str(if bound {
            "A port that bind() chooses is taken for all destinations: set IP_BIND_ADDRESS_NO_PORT before bind()."
        } else if self.in_use.time_wait * 2 >= self.in_use.ports {
            "Reuse connections (a pool, HTTP keep-alive): most wait 60 s in TIME_WAIT."
        } else {
            "Most are in use: limit the pool, or use more destination or source addresses."
        });
        let reserved = match reserved {
            None | Some(0) => String::new(),
            Some(count) => format!(" (ip_local_reserved_ports keeps {count})"),
        };
        let _ = write!(
            advice,
            " ip_local_port_range is {first} {last}{reserved}: widen it, or set tcp_tw_reuse=1."
        );
        advice
    }
}
