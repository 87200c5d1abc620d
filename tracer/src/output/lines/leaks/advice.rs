//! What to do about it.

use tracer_common::TcpState;
use tracer_common::stack::StackKind;

use crate::frame::Frame;
use crate::output::lines::leaks::find::Group;

/// What to do about it.
pub(super) fn advice(group: &Group<'_>, frames: &[Frame]) -> Option<&'static str> {
    let first = group.first?;
    if group.conns.is_empty() {
        return (group.collected > 0).then_some(
            "=> close() is missing although the number does not grow: the sockets stay open until the garbage \
             collector comes, and with a larger heap it comes later. Close them on every path \
             (try-with-resources, finally).",
        );
    }
    let is_java = frames.iter().any(|frame| frame.name.starts_with("java."));
    let close_wait = group.in_state(TcpState::CloseWait);
    let most = 2 * close_wait >= group.conns.len();
    Some(match (first.kind, most && close_wait > 0) {
        (StackKind::Connect, true) if group.timeout.is_some() => {
            "=> The server closes idle connections sooner than the pool here drops them. As long as they do not get \
             more, that is no leak; if they do, what this code borrows is not given back. Let the pool drop idle \
             connections sooner than the server, and test them before it uses them again."
        }
        (StackKind::Connect, _) if group.user.is_some() => {
            "=> Whoever used it last has it, or has given it back: look there first. What was borrowed from a pool \
             must be given back on every path, failures too (of an HTTP client close the response)."
        }
        (StackKind::Connect, true) if !is_java => {
            "=> The other side has closed; this code has not. Close what it opened on every path, failures too."
        }
        (StackKind::Connect, true) => {
            "=> The other side has closed; this code has not. Close what it opened (of an HTTP client the response) \
             on every path, failures too: try-with-resources or finally."
        }
        (StackKind::Connect, false) if group.in_state(TcpState::SynSent) == group.conns.len() => {
            "=> Nobody answers: these are still connecting. Set a connect timeout."
        }
        (StackKind::Connect, false) => {
            "=> Open on both sides. A pool keeps some on purpose; if the number only grows, what this code \
             opens is not closed or not given back."
        }
        (_, true) => {
            "=> The other side has closed; this process has not. Whoever handles the connection must close it when \
             a read says it is at its end, and on every failure."
        }
        (_, false) => {
            "=> Open on both sides. Keep-alive keeps some on purpose; if the number only grows, the handler \
             does not close, or clients never do: set an idle timeout."
        }
    })
}
