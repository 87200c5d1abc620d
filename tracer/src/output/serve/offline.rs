//! The HTTP side without a network: what a stranger's bytes are answered with.
//!
//! The fuzz target `http` gives it any bytes. They go through the same code as what a socket brings: hyper with the same
//! limits, and the same answers.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::runtime::{Builder, Runtime};

use crate::input::Origin;
use crate::output::serve::http::{Desk, LIMITS, connection};
use crate::output::serve::shared::Shared;
use crate::output::serve::snapshot::Snapshot;
use crate::time::MonoNs;

/// What the buffers of a socket would hold.
const BUFFER: usize = 64 << 10;

/// Answers with the figures of a run that has seen nothing.
#[derive(Debug)]
pub struct Offline {
    runtime: Runtime,
    desk: Desk,
}

impl Offline {
    /// Of a run with this beginning.
    ///
    /// # Errors
    /// When there can be no timer.
    pub fn new(origin: Origin) -> io::Result<Offline> {
        let shared = Arc::new(Shared::new(origin, Vec::new()));
        shared.publish(Snapshot::empty(MonoNs::now()));
        let runtime = Builder::new_current_thread().enable_time().build()?;
        Ok(Offline { runtime, desk: Desk { shared, limits: LIMITS } })
    }

    /// All that is answered to these bytes, after which the other side closes. They come in two pieces.
    pub fn answer(&self, bytes: &[u8]) -> Vec<u8> {
        let (near, mut far) = duplex(BUFFER);
        let desk = self.desk.clone();
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let mut told = Vec::new();
        self.runtime.block_on(async {
            let served = tokio::spawn(async move { connection(near, &desk).await });
            for piece in [first, second] {
                // It may be refused before all of it is written.
                if far.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let _ = far.shutdown().await;
            let _ = far.read_to_end(&mut told).await;
            served.await.expect("the connection does not panic");
        });
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::serve::tests::origin;

    #[test]
    fn requests_are_answered_as_over_a_socket() {
        let offline = Offline::new(origin()).expect("a timer");
        let check = |request: &str, first: &str| {
            let told = offline.answer(request.as_bytes());
            let told = String::from_utf8(told).expect("UTF-8");
            assert_eq!(told.lines().next().unwrap_or_default(), first, "{request}");
        };
        check("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK");
        check("GET /metrics HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK");
        check("POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", "HTTP/1.1 405 Method Not Allowed");
        check("GET /x HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found");
        check("\u{1}", "HTTP/1.1 400 Bad Request");
        // It ends in the middle.
        check("GET /healthz HT", "");
        check("", "");
    }
}
