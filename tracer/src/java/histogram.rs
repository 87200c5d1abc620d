//! Reads a class histogram as `jcmd PID GC.class_histogram -all` writes it: how many sockets and connections of
//! well-known libraries are on the heap.

/// Instances of one class.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Class {
    /// Its name: `org.apache.http.impl.conn.CPoolEntry`.
    pub name: String,
    /// On the heap, unreachable ones included until they are collected.
    pub instances: u64,
    /// What they take without what they refer to.
    pub bytes: u64,
}

/// Classes that stand for a socket, a pooled connection or what must be closed to give one back.
const WANTED: [&str; 31] = [
    "java.net.Socket",
    "java.net.ServerSocket",
    "sun.nio.ch.NioSocketImpl",
    "java.net.PlainSocketImpl",
    "java.net.SocksSocketImpl",
    "sun.nio.ch.SocketChannelImpl",
    "sun.nio.ch.ServerSocketChannelImpl",
    "sun.security.ssl.SSLSocketImpl",
    "sun.net.www.http.HttpClient",
    "sun.net.www.protocol.http.HttpURLConnection",
    "jdk.internal.net.http.HttpClientImpl",
    "jdk.internal.net.http.PlainHttpConnection",
    "jdk.internal.net.http.Http2Connection",
    "org.apache.http.impl.conn.CPoolEntry",
    "org.apache.http.impl.conn.PoolingHttpClientConnectionManager",
    "org.apache.http.impl.execchain.HttpResponseProxy",
    "org.apache.hc.client5.http.impl.io.PoolingHttpClientConnectionManager",
    "org.apache.hc.core5.pool.PoolEntry",
    "okhttp3.internal.connection.RealConnection",
    "okhttp3.OkHttpClient",
    "io.netty.channel.socket.nio.NioSocketChannel",
    "io.netty.channel.epoll.EpollSocketChannel",
    "io.grpc.internal.ManagedChannelImpl",
    "com.zaxxer.hikari.pool.PoolEntry",
    "com.zaxxer.hikari.HikariDataSource",
    "org.apache.tomcat.jdbc.pool.PooledConnection",
    "org.apache.commons.dbcp2.PoolableConnection",
    "org.postgresql.jdbc.PgConnection",
    "com.mysql.cj.jdbc.ConnectionImpl",
    "redis.clients.jedis.Jedis",
    "org.apache.tomcat.util.net.NioEndpoint$NioSocketWrapper",
];

/// The wanted classes of a histogram, the most instances first.
#[must_use]
pub fn parse(text: &str) -> Vec<Class> {
    let mut classes: Vec<Class> = text.lines().filter_map(line).collect();
    classes.sort_by(|a, b| b.instances.cmp(&a.instances).then_with(|| a.name.cmp(&b.name)));
    classes
}

/// ` 107:             3            240  sun.nio.ch.NioSocketImpl (java.base@17.0.15)`.
fn line(line: &str) -> Option<Class> {
    let mut words = line.split_whitespace();
    words.next()?.strip_suffix(':')?.parse::<u64>().ok()?;
    let instances = words.next()?.parse().ok()?;
    let bytes = words.next()?.parse().ok()?;
    let name = words.next()?;
    WANTED.contains(&name).then(|| Class { name: name.to_owned(), instances, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_pools_are_picked() {
        let text = " num     #instances         #bytes  class name (module)\n\
                    -------------------------------------------------------\n   \
                    1:          1031        4245176  [I (java.base@17.0.15)\n \
                    107:             3            240  sun.nio.ch.NioSocketImpl (java.base@17.0.15)\n \
                    180:             9             80  java.net.Socket (java.base@17.0.15)\n \
                    181:             x             80  java.net.Socket (java.base@17.0.15)\n\
                    Total         99999        9999999\n";
        let names: Vec<(String, u64)> =
            parse(text).into_iter().map(|class| (class.name, class.instances)).collect();
        assert_eq!(
            names,
            [("java.net.Socket".to_owned(), 9), ("sun.nio.ch.NioSocketImpl".to_owned(), 3)]
        );
    }
}
