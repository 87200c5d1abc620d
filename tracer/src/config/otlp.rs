//! Where `serve` pushes to by OTLP, and as whom.

use std::time::Duration;

use hyper::Uri;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::cli::ServeArgs;
use crate::config::error::UsageError;

/// Where OTLP requests go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Name or address, of IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What stands before `/v1/metrics` and `/v1/logs`, without a slash at its end.
    pub base: String,
}

impl Endpoint {
    /// Host and port, as in a URL and in the header `Host`.
    #[must_use]
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// What is pushed by OTLP, and where to.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpOptions {
    /// The collector.
    pub endpoint: Endpoint,
    /// Time between two pushes of metrics.
    pub interval: Duration,
    /// More headers of each request; they may be secrets, and `Debug` shows no values.
    pub headers: HeaderMap,
    /// More resource attributes.
    pub resource: Vec<(String, String)>,
}

/// Shorter, the collector has more work than whoever looks has use.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
const MOST_INTERVAL: Duration = Duration::from_secs(3600);
/// As the specification of OpenTelemetry names them.
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const RESOURCE: &str = "OTEL_RESOURCE_ATTRIBUTES";
/// What each request has, and nobody else may say.
const OURS: [HeaderName; 7] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::TRANSFER_ENCODING,
    header::EXPECT,
];

pub(super) fn otlp(
    url: &str,
    args: &ServeArgs,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<OtlpOptions, UsageError> {
    let interval = args.otlp_interval;
    if !(LEAST_INTERVAL..=MOST_INTERVAL).contains(&interval) {
        return Err(UsageError("--otlp-interval must be from 1s to 1h, like 60s".into()));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(HEADERS, &environment(HEADERS).unwrap_or_default())? {
        add(HEADERS, &name, &value, &mut headers)?;
    }
    for text in &args.otlp_header {
        // Not the text: it may be a secret.
        let (name, value) = text.split_once('=').ok_or_else(|| {
            UsageError("--otlp-header: write NAME=VALUE, such as authorization=Bearer x".into())
        })?;
        add("--otlp-header", name.trim(), value.trim(), &mut headers)?;
    }
    let resource = pairs(RESOURCE, &environment(RESOURCE).unwrap_or_default())?;
    Ok(OtlpOptions { endpoint: endpoint(url)?, interval, headers, resource })
}

/// Where a URL leads.
fn endpoint(url: &str) -> Result<Endpoint, UsageError> {
    let wrong = |what: &str| UsageError(format!("--otlp {url}: {what}"));
    let uri: Uri = url
        .parse()
        .map_err(|_| wrong("not a URL; give the collector's, such as http://127.0.0.1:4318"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err(wrong(
                "tcptrail does not speak TLS; push to a collector on this node, such as http://127.0.0.1:4318, and let it send on by https",
            ));
        }
        _ => return Err(wrong("not a URL with http://, such as http://127.0.0.1:4318")),
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err(UsageError(
            "--otlp: the URL has a user or password in it; give --otlp-header authorization=VALUE instead"
                .into(),
        ));
    }
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let Some(port) = uri.port_u16().filter(|&port| port != 0) else {
        return Err(wrong("give the port, too; collectors take OTLP over HTTP on 4318 as a rule"));
    };
    if host.is_empty() {
        return Err(wrong("no host; give the collector's URL, such as http://127.0.0.1:4318"));
    }
    if uri.query().is_some() || url.contains('#') {
        return Err(wrong("leave out what begins with ? or #"));
    }
    let base = uri.path().trim_end_matches('/').to_owned();
    if base.ends_with("/v1/metrics") || base.ends_with("/v1/logs") {
        return Err(wrong(
            "leave out /v1/metrics or /v1/logs; tcptrail adds them, because it pushes both",
        ));
    }
    Ok(Endpoint { host, port, base })
}

/// Adds a header, or puts it in the place of one of this name. Errors do not show its value.
fn add(source: &str, name: &str, value: &str, headers: &mut HeaderMap) -> Result<(), UsageError> {
    let known = HeaderName::from_bytes(name.as_bytes());
    let Some(known) = known.ok().filter(|name| !OURS.contains(name)) else {
        return Err(UsageError(format!(
            "{source}: {name:?} is no name of a header that can be set; take one such as authorization"
        )));
    };
    let mut value = HeaderValue::from_str(value).map_err(|_| {
        UsageError(format!(
            "{source}: the value of {name} has a character that headers cannot have"
        ))
    })?;
    value.set_sensitive(true);
    headers.insert(known, value);
    Ok(())
}

/// Reads `name=value,name=value`, where values have `%2C` for a comma, as environment variables of OpenTelemetry do.
fn pairs(variable: &str, text: &str) -> Result<Vec<(String, String)>, UsageError> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (name, value) = part.split_once('=')?;
        let name = name.trim();
        (!name.is_empty()).then_some(())?;
        Some((name.to_owned(), decoded(value.trim())?))
    };
    parts
        .map(|part| {
            pair(part).ok_or_else(|| {
                UsageError(format!(
                    "{variable} in the environment: not a list of NAME=VALUE with commas between them"
                ))
            })
        })
        .collect()
}

/// Without percent-encoding.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            let digits = std::str::from_utf8(digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after;
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_lead_to_a_collector_or_say_why_not() {
        let check = |url: &str, expect: Result<(&str, u16, &str), &str>| match (
            endpoint(url).map_err(|error| error.to_string()),
            expect,
        ) {
            (Err(told), Err(part)) => assert!(told.contains(part), "{url}: {told}"),
            (told, expect) => {
                let expect = expect.ok().map(|(host, port, base)| Endpoint {
                    host: host.into(),
                    port,
                    base: base.into(),
                });
                assert_eq!(told.ok(), expect, "{url}");
            }
        };
        check("http://127.0.0.1:4318", Ok(("127.0.0.1", 4318, "")));
        check("http://collector:4318/", Ok(("collector", 4318, "")));
        check("http://[::1]:4318/otlp/", Ok(("::1", 4318, "/otlp")));
        check("https://collector:4318", Err("does not speak TLS"));
        check("grpc://collector:4317", Err("not a URL with http://"));
        check("127.0.0.1:4318", Err("not a URL"));
        check("collector", Err("not a URL with http://"));
        check("", Err("not a URL"));
        check("http://collector", Err("give the port"));
        check("http://collector:0", Err("give the port"));
        check("http://a:b@collector:4318", Err("--otlp-header"));
        check("http://collector:4318/v1/logs", Err("leave out /v1/metrics"));
        check("http://collector:4318/?x=1", Err("leave out what begins with ?"));
        check("http://:4318", Err(""));
        let six = endpoint("http://[::1]:4318").expect("a URL");
        assert_eq!(six.authority(), "[::1]:4318");
    }

    #[test]
    fn a_password_in_the_url_is_not_repeated() {
        let told = endpoint("http://user:secret@collector:4318").expect_err("a password");
        assert!(!told.to_string().contains("secret"), "{told}");
    }

    #[test]
    fn headers_come_from_the_environment_and_the_command_line() {
        let told = |words: &[&str], environment: &str| {
            let args = ServeArgs {
                otlp_interval: Duration::from_secs(60),
                otlp_header: words.iter().map(|&word| word.to_owned()).collect(),
                ..ServeArgs::default()
            };
            otlp("http://a:1", &args, |name| (name == HEADERS).then(|| environment.to_owned()))
                .map(|options| options.headers)
                .map_err(|error| error.to_string())
        };
        let headers = told(&["b = 3=4"], "a=1%2C2, b=5,").expect("headers");
        let values: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(values, [("a", &b"1,2"[..]), ("b", b"3=4")]);
        assert!(!format!("{headers:?}").contains("3=4"), "a secret shows: {headers:?}");
        let check = |words: &[&str], environment: &str, part: &str| {
            let error = told(words, environment).expect_err("it makes no sense");
            assert!(error.contains(part) && !error.contains("secret"), "{error}");
        };
        check(&["secret"], "", "NAME=VALUE");
        check(&["a b=secret"], "", "no name of a header");
        check(&["host=secret"], "", "no name of a header");
        check(&["a=secret\nx"], "", "a character that headers cannot have");
        check(&[], "a=secret,b", HEADERS);
        check(&[], "a=%secret", HEADERS);
        check(&[], "=secret", HEADERS);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(?s).{0,60}") {
            let _ = endpoint(&text);
            let _ = pairs(RESOURCE, &text);
        }
    }
}
