//! What to set in which client library (docs/diagnosing.md has more of it), so that its pool does not keep idle connections for longer than
//! the other side does.

use crate::engine::rules::Process;

/// By the server's port where that says what is spoken, else by the client's program.
pub(crate) fn advice(process: Option<Process>, remote_port: u16) -> &'static str {
    let comm = process.map(|process| process.comm);
    let comm = comm.as_ref().map_or(&b""[..], |comm| comm.bytes());
    let is_java = comm == b"java";
    match remote_port {
        5432 | 3306 | 1521 | 1433 if is_java => {
            "HikariCP: maxLifetime, keepaliveTime. Others: testOnBorrow."
        }
        6379 if is_java => "Jedis: setTestWhileIdle(true), setMinEvictableIdleTime.",
        6379 if comm.starts_with(b"python") => "redis-py: health_check_interval.",
        _ => by_program(comm),
    }
}

fn by_program(comm: &[u8]) -> &'static str {
    if comm == b"java" {
        "Apache HttpClient: evictIdleConnections, setValidateAfterInactivity. OkHttp: keepAliveDuration."
    } else if comm == b"node" || comm == b"MainThread" {
        "Node: freeSocketTimeout of agentkeepalive, keepAliveTimeout of undici."
    } else if comm.starts_with(b"python") || comm == b"gunicorn" || comm == b"uwsgi" {
        "requests, urllib3: a Retry. aiohttp: keepalive_timeout. httpx: keepalive_expiry."
    } else if comm == b"nginx" {
        "nginx: keepalive_timeout in the upstream block (60s unless set)."
    } else if comm == b"haproxy" {
        "haproxy: pool-purge-delay; retry-on conn-failure empty-response."
    } else if comm == b"envoy" {
        "Envoy: idle_timeout of the cluster, and retry_on: reset."
    } else {
        "Go: IdleConnTimeout. .NET: PooledConnectionIdleTimeout. Ruby: keep_alive_timeout."
    }
}
