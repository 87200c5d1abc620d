//! The end of a live run: a last look, what is still in the ring, the summary.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use crate::kernel::loader::Untold;
use crate::output::writer::Ended;
use crate::source::live::run::Live;
use crate::source::outcome::{exit_code, summary, tell_left_out};
use crate::time::MonoNs;

/// How long a reader of our output may stand still at the end before it is given up.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the last walk may take.
const LAST_LOOK: Duration = Duration::from_millis(120);

/// Ends a run; returns the exit code.
pub(super) async fn finish(mut live: Live<'_>) -> u8 {
    if !live.stdout.has_ended() {
        last_look(&mut live).await;
    }
    live.walks.settle();
    let stalled = !take_the_rest(&mut live).await;
    live.read_losses(true);
    let reported = live.needs.stacks.and_then(|needs| needs.named_at_end);
    if let (Some(stacks), Some(older)) = (&mut live.stacks, reported) {
        stacks.name_the_rest(&mut live.session, &live.config.filter, older);
    }
    let now = MonoNs::now();
    live.session.draw_last(now, false);
    live.session.end(now);
    live.tell_failures();
    live.stdout.push(live.session.out());
    if let (Some(stacks), Some(_)) = (&live.stacks, reported) {
        stacks.tell_lost(&live.session.engine.book);
    }
    live.remotes.tell_limits();
    let untold = live.programs.untold_drops().unwrap_or_default();
    let one_netns = live.config.filter.netns.is_some();
    let Live { session, stdout, output_failed, start, .. } = live;
    let mut code = u8::from(output_failed);
    match stdout.finish(if stalled { Duration::ZERO } else { PATIENCE }) {
        Ended::Closed => return code,
        Ended::Done if !stalled => {}
        Ended::Done | Ended::Stalled => {
            eprintln!(
                "tcptrail: the program that reads this output has stopped reading: the last lines were not written"
            );
            code = 1;
        }
        Ended::Failed(error) => {
            eprintln!("tcptrail: cannot write the output: {error}");
            code = 1;
        }
    }
    // The summary is the last line.
    tell_left_out(&session);
    tell_untold(untold, one_netns);
    let text = summary(&session, now.since(start));
    if !text.is_empty() {
        eprintln!("{text}");
    }
    if code == 0 { exit_code(&session) } else { code }
}

/// The last of a flood, which no line tells of.
fn tell_untold(untold: Untold, one_netns: bool) {
    let Untold { here, elsewhere } = untold;
    if here != 0 {
        let netns =
            if one_netns { "" } else { "; they are counted in all network namespaces together" };
        eprintln!(
            "tcptrail: the kernel dropped {here} more segments before the end, too many in a second to show each{netns}"
        );
    }
    if elsewhere != 0 {
        eprintln!(
            "tcptrail: in other network namespaces the kernel dropped at least {elsewhere} more segments, too many in a second to \
             show each; tcptrail does not know whether they were on their way to or from this one"
        );
    }
}

/// Ends a run that cannot go on: outputs end, and what they have written goes out.
pub(super) fn give_up(live: Live<'_>) {
    let Live { mut session, mut stdout, .. } = live;
    session.end(MonoNs::now());
    stdout.push(session.out());
    let _ = stdout.finish(PATIENCE);
}

/// Everything that is in the ring now and has been received; false when the writer stands still.
async fn take_the_rest(live: &mut Live<'_>) -> bool {
    while live.take_records() || live.intake.blocked {
        if live.stdout.has_ended() {
            return true;
        }
        if live.intake.blocked && timeout(PATIENCE, live.stdout.progress()).await.is_err() {
            return false;
        }
    }
    true
}

/// Mini-sockets whose FIN came since the last walk are finished connections: one more look, if
/// it is quick.
async fn last_look(live: &mut Live<'_>) {
    let patience = Instant::now() + LAST_LOOK;
    let idle = live.walks.is_settled() && !live.walks.is_under_way();
    if idle && live.session.engine.table().wants_poll() {
        live.walks.last_look(&mut live.session);
    }
    while live.walks.is_under_way() {
        tokio::select! {
            Some(answer) = live.walks.answer() => live.answered(answer),
            () = sleep_until(patience) => return,
        }
    }
}
