//! The thread that answers HTTP requests, by hyper. It takes no part in tracing, and has no capabilities.
//!
//! A connection is for one request and has an end, whatever the other side does: that bounds who sends slowly and who
//! reads slowly alike. Whoever scrapes every few seconds opens a connection each time, which takes microseconds here.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::output::serve::answer::answer;
use crate::output::serve::listen::Bound;
use crate::output::serve::page::POLICY;
use crate::output::serve::shared::{Refusal, Shared};
use crate::privileges;

/// What one connection may take, and how many there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// At a time.
    connections: u32,
    /// Time for the head of a request.
    head: Duration,
    /// Time for a whole connection.
    whole: Duration,
}

/// A few scrapers and people need one connection each, for milliseconds. The head of a request is one packet as a rule.
/// Prometheus gives up a scrape after 10 s, unless told otherwise.
pub(super) const LIMITS: Limits =
    Limits { connections: 32, head: Duration::from_secs(5), whole: Duration::from_secs(15) };
/// Longest head of a request, bytes. Browsers send less than 2 KiB when there are no cookies.
const MOST_HEAD: usize = 8 << 10;
/// Headers of a request.
const MOST_HEADERS: usize = 64;
/// After an accept that failed, as a rule because there is no descriptor left.
const PAUSE: Duration = Duration::from_millis(200);
/// Time for answers under way when the run ends.
const LAST: Duration = Duration::from_millis(500);

const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: text/plain\r\n\
    Content-Length: 46\r\n\r\ntoo many connections at a time: ask again soon\n";

/// The thread.
#[derive(Debug)]
pub(super) struct Server {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    /// Sockets in the file system, removed at the end.
    paths: Vec<PathBuf>,
}

impl Server {
    /// Starts it.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn start(
        bound: Vec<Bound>,
        shared: Arc<Shared>,
        limits: Limits,
    ) -> io::Result<Server> {
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let path = |bound: &Bound| match bound {
            Bound::Unix(_, path) => Some(path.clone()),
            Bound::Tcp(_) => None,
        };
        let paths = bound.iter().filter_map(path).collect();
        let thread =
            std::thread::Builder::new().name("tcptrail-http".to_owned()).spawn(move || {
                privileges::keep_only(privileges::writer());
                runtime.block_on(serve(bound, Desk { shared, limits }, stopped));
                runtime.shutdown_timeout(LAST);
            })?;
        Ok(Server { stop, thread: Some(thread), paths })
    }

    /// Ends it; answers under way have half a second.
    pub(super) fn end(&mut self) {
        for path in self.paths.drain(..) {
            // Somebody may have removed it already.
            let _ = std::fs::remove_file(path);
        }
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, that was said.
            let _ = thread.join();
        }
    }
}

/// What each connection is answered with.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    pub(super) shared: Arc<Shared>,
    pub(super) limits: Limits,
}

async fn serve(bound: Vec<Bound>, desk: Desk, mut stopped: watch::Receiver<bool>) {
    let most = desk.limits.connections;
    let room = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(1)));
    for bound in bound {
        let (desk, room) = (desk.clone(), Arc::clone(&room));
        match bound {
            Bound::Tcp(listener) => drop(tokio::spawn(over_tcp(listener, desk, room))),
            Bound::Unix(listener, _) => drop(tokio::spawn(over_unix(listener, desk, room))),
        }
    }
    // The sender is dropped only after it has sent.
    let _ = stopped.wait_for(|stopped| *stopped).await;
    // All permits: no connection is under way any more.
    let _ = timeout(LAST, room.acquire_many(most)).await;
}

async fn over_tcp(listener: TcpListener, desk: Desk, room: Arc<Semaphore>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => take(stream, &desk, &room, |stream| drop(stream.try_write(FULL))),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn over_unix(listener: UnixListener, desk: Desk, room: Arc<Semaphore>) {
    let Ok(listener) = tokio::net::UnixListener::from_std(listener) else { return };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => take(stream, &desk, &room, |stream| drop(stream.try_write(FULL))),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Answers on a connection, or refuses it.
fn take<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    desk: &Desk,
    room: &Arc<Semaphore>,
    refuse: impl Fn(&S),
) {
    let Ok(permit) = Arc::clone(room).try_acquire_owned() else {
        desk.shared.refuse(Refusal::Connections);
        refuse(&stream);
        return;
    };
    let desk = desk.clone();
    tokio::spawn(async move {
        connection(stream, &desk).await;
        drop(permit);
    });
}

/// Answers what one connection brings, within its limits.
pub(super) async fn connection<S: AsyncRead + AsyncWrite + Unpin>(stream: S, desk: &Desk) {
    let Desk { shared, limits } = desk;
    let service = service_fn(|request: Request<Incoming>| {
        let answer = respond(&request, shared);
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_headers(MOST_HEADERS)
        .max_header_size(MOST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(limits.whole, served).await {
        Err(_) => shared.refuse(Refusal::Time),
        Ok(Err(error)) if error.is_timeout() => shared.refuse(Refusal::Time),
        // What the other side did wrong it was told, or it has gone.
        Ok(_) => {}
    }
}

fn respond(request: &Request<Incoming>, shared: &Arc<Shared>) -> Response<Full<Bytes>> {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let (method, path) = (request.method().as_str(), request.uri().path());
    let answer = answer(shared, method, path, accept.unwrap_or_default());
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    if answer.status == 405 {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::time::Instant;

    use super::*;
    use crate::config::Listen;
    use crate::output::serve::listen::bind;
    use crate::output::serve::tests::{origin, snapshot};

    const SHORT: Limits = Limits {
        connections: 3,
        head: Duration::from_millis(300),
        whole: Duration::from_millis(900),
    };

    /// A server with figures of nothing.
    fn server(limits: Limits) -> (Server, SocketAddr, Arc<Shared>) {
        let any = Listen::Tcp("127.0.0.1:0".parse().expect("an address"));
        let bound = bind(&any).expect("a port is free");
        let Bound::Tcp(listener) = &bound else { panic!("{bound:?}") };
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared::new(origin(), Vec::new()));
        shared.publish(snapshot());
        let server = Server::start(vec![bound], Arc::clone(&shared), limits).expect("a thread");
        (server, address, shared)
    }

    fn connect(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        stream
    }

    /// Everything that comes; nothing where the connection is cut off.
    fn read(mut stream: &TcpStream) -> String {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = connect(address);
        // It may be refused before all of it is written.
        let _ = stream.write_all(request.as_bytes());
        read(&stream)
    }

    #[test]
    fn requests_are_answered_or_refused() {
        let (mut server, address, shared) = server(LIMITS);
        let check = |request: &str, status: &str, part: &str| {
            let told = ask(address, request);
            assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.80}: {told}");
            assert!(told.contains(part), "{request:.80}: {told}");
            assert!(told.to_ascii_lowercase().contains("connection: close"), "{told}");
        };
        let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n");
        check(&get("/healthz", ""), "200", "ok");
        check(&get("/readyz", ""), "200", "ready");
        check(&get("/metrics?x=1", ""), "200", "text/plain; version=0.0.4");
        check(&get("/metrics", "Accept: application/openmetrics-text\r\n"), "200", "# EOF");
        check(&get("/findings", ""), "200", "[\n]\n");
        check(&get("/", ""), "200", "nothing is stuck");
        check(&get("/etc/passwd", ""), "404", "/metrics");
        check(&get("/../../etc/passwd", ""), "404", "/metrics");
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let request = format!("{method} / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
            check(&request, "405", "allow: GET, HEAD");
        }
        assert_eq!(shared.refused()[Refusal::Method as usize], 6);
        let head = ask(address, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
        // Too long, too many, no HTTP.
        check(&get(&format!("/{}", "x".repeat(MOST_HEAD)), ""), "431", "");
        check(&get("/", &format!("X: {}\r\n", "x".repeat(MOST_HEAD))), "431", "");
        check(&get("/", &"X: x\r\n".repeat(MOST_HEADERS + 1)), "431", "");
        check("hello\r\n\r\n", "400", "");
        // What comes behind a request is not looked at.
        let two = get("/healthz", "").repeat(2);
        assert_eq!(ask(address, &two).matches("HTTP/1.1").count(), 1);
        server.end();
        assert!(TcpStream::connect(address).is_err(), "it still listens");
    }

    #[test]
    fn who_is_slow_is_cut_off_and_others_are_answered_meanwhile() {
        let (mut server, address, shared) = server(SHORT);
        let began = Instant::now();
        let mut silent = connect(address);
        silent.write_all(b"GET / HT").expect("it is connected");
        // It sends a byte now and then.
        let mut slow = connect(address);
        let sender = std::thread::spawn(move || {
            for byte in b"GET / HTTP/1.1\r\nX: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" {
                if slow.write_all(&[*byte]).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(30));
            }
            read(&slow)
        });
        let answered = ask(address, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
        for told in [read(&silent), sender.join().expect("no panic")] {
            assert!(!told.contains("200"), "{told}");
        }
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        assert_eq!(shared.refused()[Refusal::Time as usize], 2);
        server.end();
    }

    #[test]
    fn who_does_not_read_is_cut_off() {
        let (mut server, address, shared) = server(SHORT);
        // Larger than the buffers of both sockets.
        let mut large = snapshot();
        let key = |number: usize| (format!("w{number:08}").into(), "client", "ESTABLISHED");
        large.gauges.open = (0..200_000).map(|number| (key(number), 1)).collect();
        shared.publish(large);
        let mut stream = connect(address);
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("connected");
        let deadline = Instant::now() + Duration::from_secs(20);
        while shared.refused()[Refusal::Time as usize] == 0 {
            assert!(Instant::now() < deadline, "it waits for ever");
            std::thread::sleep(Duration::from_millis(50));
        }
        let told = read(&stream);
        assert!(!told.contains("w00199999"), "all of it came");
        server.end();
    }

    #[test]
    fn there_is_room_for_so_many_and_for_more_once_they_have_gone() {
        let (mut server, address, shared) = server(Limits { connections: 3, ..LIMITS });
        let holding: Vec<TcpStream> = (0..3).map(|_| connect(address)).collect();
        // They are taken in their order, so before the one that asks.
        let told = ask(address, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(told.is_empty() || told.starts_with("HTTP/1.1 503"), "{told}");
        assert_eq!(shared.refused()[Refusal::Connections as usize], 1);
        drop(holding);
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let told = ask(address, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
            if told.starts_with("HTTP/1.1 200") {
                break;
            }
            assert!(Instant::now() < deadline, "{told}");
        }
        server.end();
    }
}
