//! What to set in which client library, so that its pool does not keep idle connections for longer than
//! the other side does.

use crate::engine::rules::Process;

/// By the server's port where that says what is spoken, else by the client's program.
pub(crate) fn advice(process: Option<Process>, remote_port: u16) -> &'static str {
    let comm = process.map(|process| process.comm);
    let comm = comm.as_ref().map_or(&b""[..], |comm| comm.bytes());
    let is_java = comm == b"java";
    match remote_port {
        5432 | 3306 | 1521 | 1433 if is_java => {
            "HikariCP: maxLifetime and keepaliveTime below the server's time. Others: testOnBorrow or testWhileIdle with a \
             validationQuery, minEvictableIdleTimeMillis below it."
        }
        6379 if is_java => {
            "Jedis: setTestWhileIdle(true), setMinEvictableIdleTime below Redis' timeout, setTestOnBorrow(true). \
             Lettuce reconnects by itself; give it keepAlive(true)."
        }
        6379 if comm.starts_with(b"python") => {
            "redis-py: health_check_interval below Redis' timeout, retry_on_error with a Retry."
        }
        _ => by_program(comm),
    }
}

fn by_program(comm: &[u8]) -> &'static str {
    if comm == b"java" {
        "Apache HttpClient: setValidateAfterInactivity(1000), evictIdleConnections, and a keep-alive strategy for servers that \
         name no time. OkHttp: ConnectionPool's keepAliveDuration. java.net.http: \
         -Djdk.httpclient.keepalive.timeout=SECONDS. HttpURLConnection: -Dhttp.keepAlive.time.server=SECONDS."
    } else if comm == b"node" || comm == b"MainThread" {
        "Node: agentkeepalive's freeSocketTimeout, or undici's keepAliveTimeout; a plain http.Agent with keepAlive does not \
         test a connection it uses again."
    } else if comm.starts_with(b"python") || comm == b"gunicorn" || comm == b"uwsgi" {
        "requests and urllib3: a Retry for idempotent requests (urllib3 drops what it sees closed, not what closes meanwhile). \
         aiohttp: TCPConnector(keepalive_timeout=). httpx: Limits(keepalive_expiry=)."
    } else if comm == b"nginx" {
        "nginx: keepalive_timeout in the upstream block (60s unless set)."
    } else if comm == b"haproxy" {
        "haproxy: pool-purge-delay, and http-reuse safe; option redispatch and retry-on conn-failure empty-response."
    } else if comm == b"envoy" {
        "Envoy: common_http_protocol_options.idle_timeout of the cluster, and retry_on: reset."
    } else {
        "Go: http.Transport's IdleConnTimeout. .NET: SocketsHttpHandler's PooledConnectionIdleTimeout. Ruby: \
         Net::HTTP's keep_alive_timeout."
    }
}
