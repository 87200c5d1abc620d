//! One request to the collector: a connection of its own, by hyper, with an end to everything.
//!
//! A push comes once a minute, so that keeping a connection would save nothing, and show in lists of sockets all the
//! time. Whatever the collector does, or what answers in its place, takes no longer than [`Limits`] and no more memory
//! than [`MOST_ANSWER`].

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustix::net::sockopt::set_socket_linger;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::{Endpoint, OtlpOptions};
use crate::output::serve::otlp::backoff::retry_after;
use crate::output::serve::otlp::status::Reason;

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const AGENT: &str = concat!("tcptrail/", env!("CARGO_PKG_VERSION"));
/// An answer says at most how many records were not taken, and why.
const MOST_ANSWER: usize = 64 << 10;

/// How long it may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// A connection. Shorter than the 5 seconds after which an unanswered SYN is a finding: tcptrail is to find none
    /// about itself.
    pub(super) connect: Duration,
    /// Everything: as long as exporters of OpenTelemetry wait.
    pub(super) whole: Duration,
}

pub(super) const LIMITS: Limits =
    Limits { connect: Duration::from_secs(3), whole: Duration::from_secs(10) };

/// Who sends.
#[derive(Debug)]
pub(super) struct Client {
    endpoint: Endpoint,
    headers: HeaderMap,
    limits: Limits,
}

/// What went wrong, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Failure {
    pub(super) reason: Reason,
    pub(super) words: String,
}

/// What became of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// It was taken; this is the answer.
    Taken(Bytes),
    /// It is worth another try, not before that time where the collector asks for it.
    Later(Failure, Option<Duration>),
    /// It will never be taken.
    Refused(Failure),
}

impl Client {
    pub(super) fn new(options: &OtlpOptions, limits: Limits) -> Client {
        let mut headers = options.headers.clone();
        let ours = [
            (header::CONTENT_TYPE, PROTOBUF),
            (header::CONTENT_ENCODING, HeaderValue::from_static("gzip")),
            (header::CONNECTION, HeaderValue::from_static("close")),
        ];
        headers.extend(ours);
        if !headers.contains_key(header::USER_AGENT) {
            headers.insert(header::USER_AGENT, HeaderValue::from_static(AGENT));
        }
        if let Ok(host) = HeaderValue::from_str(&options.endpoint.authority()) {
            headers.insert(header::HOST, host);
        }
        Client { endpoint: options.endpoint.clone(), headers, limits }
    }

    /// Sends `message` to `path` below the base of the collector.
    pub(super) async fn post(&self, path: &str, message: &[u8]) -> Outcome {
        match timeout(self.limits.whole, self.send(path, message)).await {
            Ok(Ok((status, headers, body))) => judge(status, &headers, body),
            Ok(Err(failure)) => Outcome::Later(failure, None),
            Err(_) => {
                let words = format!("no answer within {:?}", self.limits.whole);
                Outcome::Later(Failure { reason: Reason::Timeout, words }, None)
            }
        }
    }

    async fn send(
        &self,
        path: &str,
        message: &[u8],
    ) -> Result<(StatusCode, HeaderMap, Bytes), Failure> {
        let request = self.request(path, message)?;
        let stream = self.connect().await?;
        let reset = Reset::unless_answered(&stream);
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MOST_ANSWER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let asked = async {
            let response: Response<_> = sender.send_request(request).await.map_err(broken)?;
            let (head, body) = response.into_parts();
            let body =
                Limited::new(body, MOST_ANSWER).collect().await.map_err(|error| Failure {
                    reason: Reason::Answer,
                    words: format!("its answer broke off or is too long: {error}"),
                })?;
            Ok((head.status, head.headers, body.to_bytes()))
        };
        tokio::pin!(asked, connection);
        let answer = tokio::select! {
            biased;
            answer = &mut asked => answer,
            // What it has read is still to be had.
            _ = &mut connection => asked.await,
        };
        if answer.is_ok() {
            reset.no_more();
        }
        answer
    }

    async fn connect(&self) -> Result<TcpStream, Failure> {
        let Endpoint { host, port, .. } = &self.endpoint;
        let unreachable = |words: String| Failure { reason: Reason::Unreachable, words };
        match timeout(self.limits.connect, TcpStream::connect((host.as_str(), *port))).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(unreachable(format!("it cannot be reached: {error}"))),
            Err(_) => {
                let limit = self.limits.connect;
                Err(unreachable(format!("it cannot be reached: no connection within {limit:?}")))
            }
        }
    }

    fn request(&self, path: &str, message: &[u8]) -> Result<Request<Full<Bytes>>, Failure> {
        let cannot = |error: &dyn std::fmt::Display| Failure {
            reason: Reason::Unreachable,
            words: format!("the request cannot be made: {error}"),
        };
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        let zipped = gzip.write_all(message).and_then(|()| gzip.finish());
        let body = Full::new(Bytes::from(zipped.map_err(|error| cannot(&error))?));
        let uri = format!("{}{path}", self.endpoint.base);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .body(body)
            .map_err(|error| cannot(&error))?;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }
}

/// Until there is an answer, whatever ends a request resets its connection: a collector that stands still would
/// otherwise leave our end in FIN_WAIT2, which would be a finding.
struct Reset(Option<OwnedFd>);

impl Reset {
    fn unless_answered(stream: &TcpStream) -> Reset {
        // The socket is closed when this is, too.
        Reset(stream.as_fd().try_clone_to_owned().ok())
    }

    fn no_more(mut self) {
        self.0 = None;
    }
}

impl Drop for Reset {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            let _ = set_socket_linger(socket, Some(Duration::ZERO));
        }
    }
}

/// What an answer means (OTLP specification, "OTLP/HTTP Response").
fn judge(status: StatusCode, headers: &HeaderMap, body: Bytes) -> Outcome {
    if status == StatusCode::OK {
        return Outcome::Taken(body);
    }
    let words = format!("it answers with HTTP status {status}");
    let failure = Failure { reason: Reason::Status, words };
    let again = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ];
    if !again.contains(&status) {
        return Outcome::Refused(failure);
    }
    let asked = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    Outcome::Later(failure, asked.and_then(|value| retry_after(value, Timestamp::now())))
}

/// What answers may be anything: a port of gRPC, or of something else.
fn broken(error: hyper::Error) -> Failure {
    if error.is_parse() {
        let words = "what answers there does not speak HTTP/1.1; is it the collector's port for OTLP over HTTP, as a rule 4318?";
        return Failure { reason: Reason::Answer, words: words.to_owned() };
    }
    let words = format!("the connection to it broke: {error}");
    Failure { reason: Reason::Unreachable, words }
}
