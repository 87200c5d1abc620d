//! A socket that is stuck by its rule becomes a member of its group.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::engine::conn::{Connection, Owner, Spent};
use crate::engine::rules::finding::Process;
use crate::engine::rules::group::{Cause, Group, Key, Member, process_of, side_of};
use crate::engine::rules::progress::waits;
use crate::engine::rules::scene::Scene;
use crate::engine::rules::{Look, RuleId, Stuck, close_wait, give_up, rule};
use crate::event::Shape;
use crate::time::MonoNs;

/// Checks one socket by its rule, and takes it into its group when it is stuck.
pub(crate) fn take_in(
    scene: &Scene<'_>,
    conn: &Connection,
    id: RuleId,
    first_ephemeral: u16,
    groups: &mut HashMap<Key, Group, FixedState>,
) {
    let Some(rule) = rule(id) else { return };
    let look = Look {
        table: scene.table,
        conn,
        trouble: scene.troubles.get(conn.id),
        moved: scene.progress.moved(conn),
        still: scene.quiet.get(conn.id),
        around: scene.around,
        now: scene.now,
        threshold: scene.thresholds.of(id),
    };
    let Some(stuck) = rule.check(&look) else { return };
    let since = scene.now.before(stuck.age);
    if waits(conn.state)
        && conn.shape == Shape::Full
        && !scene.progress.confirms(conn.id, since, look.threshold, scene.now)
    {
        return;
    }
    let keeper = Keeper::of(scene, &look, &stuck);
    let key = Key {
        rule: id,
        cause: stuck.cause,
        netns: conn.netns,
        process: keeper.process.map(|process| scene.around.named(process)),
        side: side_of(conn, first_ephemeral),
        workers: None,
    };
    let group = groups.entry(key.clone()).or_insert_with(|| Group::new(key));
    if group.members.is_empty() {
        group.cgroup = conn.cgroup;
    }
    let was_there = conn.born <= scene.table.options.start;
    group.opened.add(scene.openers.of(conn.id), was_there);
    let at_latest = matches!(conn.in_state(scene.now), Spent::AtLeast(_) | Spent::Unknown);
    let fd = keeper.fd;
    group.members.push(Member { id: conn.id, tuple: conn.tuple, since, at_latest, fd });
    group.opened_by = group.opened_by.or(keeper.opened_by);
    group.orphans += u64::from(conn.orphan);
    group.given_up += u64::from(id == RuleId::Unaccepted && conn.state == TcpState::CloseWait);
    note_trouble(group, scene, &look);
    if id == RuleId::CloseWait {
        note_fin(group, scene, conn, since);
    }
}

/// Who has a stuck socket.
struct Keeper {
    process: Option<Process>,
    fd: Option<u32>,
    /// Who opened it, where another process has it by inheritance.
    opened_by: Option<Process>,
}

impl Keeper {
    fn of(scene: &Scene<'_>, look: &Look<'_>, stuck: &Stuck) -> Keeper {
        let conn = look.conn;
        let mut keeper = Keeper {
            process: process_of(conn),
            fd: conn.owner.as_ref().and_then(Owner::fd),
            opened_by: None,
        };
        if stuck.cause == Cause::Inherited
            && let Some(heir) = close_wait::heir(look)
        {
            let heirs = Process { pid: Some(heir.pid), comm: heir.comm };
            keeper.opened_by = keeper
                .process
                .filter(|process| process.pid != heirs.pid)
                .or_else(|| listeners_process(scene, conn))
                .filter(|process| process.pid != heirs.pid);
            keeper.process = Some(heirs);
            keeper.fd = Some(heir.fd);
        }
        if conn.orphan || conn.shape != Shape::Full {
            keeper.fd = None;
        }
        keeper
    }
}

/// Who listens where a server's connection came to.
fn listeners_process(scene: &Scene<'_>, conn: &Connection) -> Option<Process> {
    process_of(scene.table.listener_of(conn)?)
}

/// What is sent again without an answer, and when the kernel gives up.
fn note_trouble(group: &mut Group, scene: &Scene<'_>, look: &Look<'_>) {
    let (id, conn, trouble) = (group.key.rule, look.conn, look.trouble);
    let unanswered = trouble.map_or(0, |trouble| trouble.unanswered.times);
    let times = match id {
        RuleId::SynRecv => u32::from(conn.retransmits.synack),
        RuleId::SynSent => u32::from(conn.retransmits.syn).max(unanswered),
        _ => unanswered,
    };
    group.most_unanswered = group.most_unanswered.max(times);
    if let Some(trouble) = trouble {
        group.unsent += u64::from(trouble.send_queue);
        group.probes = group.probes.max(trouble.probes);
    }
    if let Some(end) = end_of(scene, conn, id, look) {
        group.first_give_up = Some(group.first_give_up.map_or(end, |first| first.min(end)));
        group.last_give_up = Some(group.last_give_up.map_or(end, |last| last.max(end)));
    }
}

/// How long nothing had gone over a connection in CLOSE_WAIT when the peer closed it, and whether the
/// application has read the end.
fn note_fin(group: &mut Group, scene: &Scene<'_>, conn: &Connection, since: MonoNs) {
    let lived = conn.complete.then(|| conn.time_in(TcpState::Established));
    let quiet = scene.progress.sent_at(conn.id).map(|sent| since.since(sent));
    group.quiet.extend(quiet.or(lived));
    let Some(fin) = scene.fins.of(conn.id) else { return };
    let at = if fin.seen { fin.at } else { fin.at.min(conn.entered) };
    group.ends.push(fin.end(at));
    if fin.looked_at {
        group.unread += u64::from(conn.recv_queue.saturating_sub(1));
        group.end_read += u64::from(conn.recv_queue == 0);
        group.end_not_read += u64::from(conn.recv_queue != 0);
    }
}

/// When the kernel gives this one up.
fn end_of(scene: &Scene<'_>, conn: &Connection, id: RuleId, look: &Look<'_>) -> Option<MonoNs> {
    let facts = scene.around.netns(conn.netns);
    match id {
        RuleId::SynSent => {
            let retries = facts.syn_retries?;
            let spent = look.age()?;
            let whole = give_up::connect_ns(retries, facts.syn_linear_timeouts.unwrap_or(0));
            // Of one that was there before, less is known than is left.
            conn.complete.then(|| scene.now.before(spent).after(whole).max(scene.now))
        }
        RuleId::Established | RuleId::FinWait1 | RuleId::Closing | RuleId::LastAck => {
            let trouble = look.trouble?;
            let end = give_up::at(&trouble.unanswered, facts.retries(conn.orphan)?)?;
            Some(end.max(scene.now))
        }
        _ => None,
    }
}
