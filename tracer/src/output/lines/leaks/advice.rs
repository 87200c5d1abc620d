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
            "=> close() is missing, although the number does not grow: these sockets stay open until the garbage collector runs, which it does later with a larger heap. Close them on every path (try-with-resources, finally).",
        );
    }
    let is_java = frames.iter().any(|frame| frame.name.starts_with("java."));
    let close_wait = group.in_state(TcpState::CloseWait);
    let most = 2 * close_wait >= group.conns.len();
    Some(match (first.kind, most && close_wait > 0) {
        (StackKind::Connect, true) if group.timeout.is_some() => {
            "=> The server closes idle connections sooner than the pool here drops them. This is no leak unless their number grows: then this code does not give back what it borrows. Let the pool drop idle connections sooner than the server, and test each connection before use."
        }
        (StackKind::Connect, _) if group.user.is_some() => {
            "=> The code that used it last still has it, or gave it back: look there first. Give back on every path, also after failures, what you borrow from a pool (with an HTTP client, close the response)."
        }
        (StackKind::Connect, true) if !is_java => {
            "=> The peer has closed; this code has not. Close what it opened on every path, also after failures."
        }
        (StackKind::Connect, true) => {
            "=> The peer has closed; this code has not. Close what it opened (with an HTTP client, the response) on every path, also after failures: try-with-resources or finally."
        }
        (StackKind::Connect, false) if group.in_state(TcpState::SynSent) == group.conns.len() => {
            "=> The peer does not answer, so these still connect. Set a connect timeout."
        }
        (StackKind::Connect, false) => {
            "=> Open on both sides. A pool keeps some on purpose. If the number only grows, this code does not close or give back what it opens."
        }
        (_, true) => {
            "=> The peer has closed; this process has not. The code that handles the connection must close it when a read returns its end, and after every failure."
        }
        (_, false) => {
            "=> Open on both sides. Keep-alive keeps some on purpose. If the number only grows, neither the handler nor the clients close them: set an idle timeout."
        }
    })
}
