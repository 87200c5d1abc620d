//! A stack with names: its frames, and what kind of code each is.

/// Longest name kept, bytes; the rest is cut.
const LONGEST: usize = 512;

/// Whose code it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Of the application.
    Application,
    /// Of a library in wide use, which did what the application asked.
    Library,
    /// Of the runtime: the JDK, the C library, the JVM.
    Runtime,
    /// Not known.
    Unknown,
}

/// One frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Class and method, or function; never empty.
    pub name: String,
    /// Line in its source file, where the code tells.
    pub line: Option<u32>,
    /// Whose code it is.
    pub kind: Kind,
}

/// A stack with names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Named {
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// Thread id as thread dumps have it (`nid`), where the thread is still there.
    pub nid: Option<u32>,
    /// What kept frames from being known, and what helps.
    pub note: Option<String>,
}

const JDK: [&str; 5] = ["java.", "javax.", "jdk.", "sun.", "com.sun."];
const LIBRARIES: [&str; 32] = [
    "org.apache.",
    "org.eclipse.jetty.",
    "org.eclipse.jdt.",
    "io.netty.",
    "io.undertow.",
    "io.vertx.",
    "io.grpc.",
    "io.micrometer.",
    "io.lettuce.",
    "okhttp3.",
    "okio.",
    "retrofit2.",
    "org.springframework.",
    "org.hibernate.",
    "org.jboss.",
    "org.glassfish.",
    "org.postgresql.",
    "org.mariadb.",
    "oracle.jdbc.",
    "com.mysql.",
    "com.mongodb.",
    "com.zaxxer.hikari.",
    "com.fasterxml.",
    "com.google.common.",
    "com.amazonaws.",
    "software.amazon.",
    "reactor.",
    "jakarta.",
    "redis.clients.",
    "kotlin.",
    "scala.",
    "groovy.",
];
const RUNTIME_FILES: [&str; 17] = [
    "libc.so",
    "libc-",
    "ld-linux",
    "libpthread",
    "libjvm.so",
    "libnio.so",
    "libnet.so",
    "libjava.so",
    "libjli.so",
    "libstdc++",
    "python",
    "libpython",
    "_socket.",
    "ruby",
    "libruby",
    "perl",
    "node",
];
const LIBRARY_FILES: [&str; 5] = ["libssl", "libcrypto", "libcurl", "libnss_", "libresolv"];

impl Frame {
    /// A Java method: `java.net.Socket.connect`.
    #[must_use]
    pub fn java(name: &str, line: Option<u32>) -> Frame {
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
        // Classes that the JVM makes of lambdas and method references are nobody's code, and have other names in
        // each run.
        let kind = if starts(&JDK) || name.contains("$$Lambda") {
            Kind::Runtime
        } else if starts(&LIBRARIES) {
            Kind::Library
        } else {
            Kind::Application
        };
        Frame { name: cut(name), line, kind }
    }

    /// A function of an ELF file.
    #[must_use]
    pub fn native(name: &str, file: &str, line: Option<u32>) -> Frame {
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| file.starts_with(prefix));
        // Rust's and C++'s own libraries are linked in.
        let own = ["std::", "core::", "alloc::", "<std::", "<core::", "__libc_start", "_start"];
        let kind = if starts(&RUNTIME_FILES) || own.iter().any(|prefix| name.starts_with(prefix)) {
            Kind::Runtime
        } else if starts(&LIBRARY_FILES) {
            Kind::Library
        } else {
            Kind::Application
        };
        Frame { name: cut(name), line, kind }
    }

    /// Code of the JVM that is no method, by its name in the perf map.
    #[must_use]
    pub fn stub(name: &str) -> Frame {
        Frame { name: cut(name), line: None, kind: Kind::Runtime }
    }

    /// An address without a name.
    #[must_use]
    pub fn unknown(name: String) -> Frame {
        Frame { name, line: None, kind: Kind::Unknown }
    }

    /// With its line, where that is known.
    #[must_use]
    pub fn text(&self) -> String {
        match self.line {
            Some(line) => format!("{}:{line}", self.name),
            None => self.name.clone(),
        }
    }
}

fn cut(name: &str) -> String {
    match name.char_indices().find(|(at, character)| at + character.len_utf8() > LONGEST) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None if name.is_empty() => "?".to_owned(),
        None => name.to_owned(),
    }
}

/// The innermost frame of the application; where there is none, of a library.
#[must_use]
pub fn opener(frames: &[Frame]) -> Option<&Frame> {
    let first = |kind: Kind| frames.iter().find(|frame| frame.kind == kind);
    first(Kind::Application).or_else(|| first(Kind::Library))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(frames: &[Frame], expect: Option<&str>) {
        assert_eq!(opener(frames).map(|frame| frame.name.as_str()), expect);
    }

    #[test]
    fn the_innermost_frame_of_the_application_is_the_opener() {
        let frames = [
            Frame::native("connect", "libc.so.6", None),
            Frame::java("sun.nio.ch.Net.connect0", None),
            Frame::java("org.apache.http.impl.client.CloseableHttpClient.execute", None),
            Frame::java("com.acme.Crawler.fetch", Some(42)),
            Frame::java("com.acme.Crawler.crawl", None),
        ];
        check(&frames, Some("com.acme.Crawler.fetch"));
        check(&frames[..3], Some("org.apache.http.impl.client.CloseableHttpClient.execute"));
        check(&frames[..2], None);
        let lambda = Frame::java("com.acme.Crawler$$Lambda/0x00000000b6080438.run", None);
        check(&[lambda, frames[3].clone()], Some("com.acme.Crawler.fetch"));
        check(&[Frame::native("fetch", "crawler", None)], Some("fetch"));
        check(&[Frame::native("<std::net::TcpStream>::connect", "crawler", None)], None);
    }

    #[test]
    fn long_names_are_cut_and_none_is_empty() {
        assert_eq!(Frame::java(&"\u{e9}".repeat(10_000), None).name.len(), LONGEST + 3);
        assert_eq!(Frame::java("", None).name, "?");
    }
}
