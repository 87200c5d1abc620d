//! What `serve` is asked for.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::{Common, ServeArgs};
use crate::config::error::UsageError;
use crate::config::otlp::{self, OtlpOptions};
use crate::config::size::bytes;
use crate::config::thresholds::thresholds;
use crate::engine::rules::Thresholds;
use crate::text::suggest;

/// Where HTTP requests are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address and port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// A label that metrics about findings have only when asked for: each value is a series of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// The process.
    Pid,
    /// The local port.
    Port,
    /// The other end.
    Remote,
}

impl Extra {
    /// All, with their names.
    pub const ALL: [(Extra, &'static str); 3] =
        [(Extra::Pid, "pid"), (Extra::Port, "port"), (Extra::Remote, "remote")];

    /// Its name, as a label and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        Extra::ALL.iter().find(|(extra, _)| *extra == self).map_or("", |(_, name)| name)
    }
}

/// What the flight recorder keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecorderOptions {
    /// Its directory.
    pub path: PathBuf,
    /// Segments that are older go.
    pub keep: Duration,
    /// All segments together are no larger, bytes.
    pub keep_size: u64,
    /// Segments within this time of a finding's appearance stay beyond `keep`.
    pub pin: Duration,
}

/// How `serve` runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServeOptions {
    /// Where HTTP requests are answered.
    pub listen: Vec<Listen>,
    /// Labels asked for, in the order of [`Extra::ALL`].
    pub labels: Vec<Extra>,
    /// From when on something is stuck.
    pub thresholds: Thresholds,
    /// That, as given.
    pub threshold_words: Vec<String>,
    /// The flight recorder, where one is asked for.
    pub recorder: Option<RecorderOptions>,
    /// Where to push by OTLP, where that is asked for.
    pub otlp: Option<Box<OtlpOptions>>,
    /// The code that opened a socket is to be named.
    pub openers: bool,
}

pub(super) fn serve(args: &ServeArgs, common: &Common) -> Result<ServeOptions, UsageError> {
    if !common.filters.state.is_empty() || common.filters.min_duration.is_some() {
        return Err(UsageError(
            "serve counts all connections: leave --state and --min-duration out; the metrics have the state as a label"
                .into(),
        ));
    }
    let listen = args.listen.iter().map(|text| listen(text)).collect::<Result<_, _>>()?;
    let asked = args.labels.iter().map(|text| label(text)).collect::<Result<Vec<_>, _>>()?;
    let labels = Extra::ALL.into_iter().map(|(extra, _)| extra);
    Ok(ServeOptions {
        listen,
        labels: labels.filter(|extra| asked.contains(extra)).collect(),
        thresholds: thresholds(&args.threshold)?,
        threshold_words: args.threshold.clone(),
        recorder: args.recorder.as_ref().map(|path| recorder(path, args)).transpose()?,
        otlp: args
            .otlp
            .as_ref()
            .map(|url| otlp::otlp(url, args, environment).map(Box::new))
            .transpose()?,
        openers: !args.no_openers,
    })
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Less does not hold a segment or two.
const LEAST_SIZE: u64 = 1 << 20;
const LEAST_TIME: Duration = Duration::from_secs(10);

fn recorder(path: &Path, args: &ServeArgs) -> Result<RecorderOptions, UsageError> {
    let size = &args.keep_size;
    let wrong =
        || UsageError(format!("--keep-size {size}: not a size of at least 1MiB, like 2GiB"));
    let keep_size = bytes(size).filter(|&size| size >= LEAST_SIZE).ok_or_else(wrong)?;
    if args.keep < LEAST_TIME {
        return Err(UsageError("--keep must be at least 10s, like 24h".into()));
    }
    Ok(RecorderOptions { path: path.to_owned(), keep: args.keep, keep_size, pin: args.pin })
}

fn listen(text: &str) -> Result<Listen, UsageError> {
    if let Some(path) = text.strip_prefix("unix:") {
        return match path.starts_with('/') {
            true => Ok(Listen::Unix(path.into())),
            false => Err(UsageError(format!(
                "--listen {text}: give an absolute path, such as unix:/run/tcptrail/http.sock"
            ))),
        };
    }
    text.parse().map(Listen::Tcp).map_err(|_| {
        UsageError(format!(
            "--listen {text}: not an address with a port, such as 127.0.0.1:9435 or [::1]:9435, and not unix:PATH"
        ))
    })
}

fn label(text: &str) -> Result<Extra, UsageError> {
    let found = Extra::ALL.iter().find(|(_, name)| *name == text);
    found.map(|(extra, _)| *extra).ok_or_else(|| {
        let names = Extra::ALL.map(|(_, name)| name);
        let like = suggest::nearest(text, &names);
        UsageError(format!("--labels {text}: unknown{like}; use one of {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Cli;
    use crate::config::{Extra, Listen, ServeOptions, Show, resolve};

    fn options(line: &str) -> Result<ServeOptions, String> {
        let cli = Cli::try_parse_from(line.split(' ')).expect("clap takes it");
        let config = resolve(cli.command, &cli.common).map_err(|error| error.to_string())?;
        match config.show {
            Show::Serve(options) => Ok(options),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn where_it_listens_is_checked() {
        let check = |words: &str, expect: Result<Vec<Listen>, &str>| {
            let told = options(&format!("tcptrail serve{words}")).map(|options| options.listen);
            match (told, expect) {
                (Err(told), Err(part)) => assert!(told.contains(part), "{words}: {told}"),
                (told, expect) => assert_eq!(told.ok(), expect.ok(), "{words}"),
            }
        };
        let tcp = |text: &str| Listen::Tcp(text.parse().expect("an address"));
        check("", Ok(vec![tcp("127.0.0.1:9435")]));
        check(" --listen [::1]:80", Ok(vec![tcp("[::1]:80")]));
        let both = " --listen 127.0.0.1:1 --listen unix:/run/x";
        check(both, Ok(vec![tcp("127.0.0.1:1"), Listen::Unix("/run/x".into())]));
        check(" --listen localhost", Err("not an address with a port"));
        check(" --listen unix:x", Err("an absolute path"));
        check(" --state CLOSE_WAIT", Err("leave --state"));
    }

    #[test]
    fn what_the_recorder_keeps_is_checked() {
        let told = |words: &str| {
            let told = options(&format!("tcptrail serve --recorder /x{words}"));
            told.map(|options| {
                let it = options.recorder.expect("one is asked for");
                (it.keep.as_secs(), it.keep_size, it.pin.as_secs())
            })
        };
        assert_eq!(told(""), Ok((86_400, 2 << 30, 600)));
        assert_eq!(told(" --keep 3d --keep-size 500MiB --pin 0"), Ok((259_200, 500 << 20, 0)));
        let check = |words: &str, part: &str| {
            let error = told(words).expect_err(words);
            assert!(error.contains(part), "{error}");
        };
        check(" --keep-size lots", "not a size");
        check(" --keep-size 10KiB", "at least 1MiB");
        check(" --keep 1s", "at least 10s");
        let alone = Cli::try_parse_from(["tcptrail", "serve", "--keep", "1h"]);
        assert!(alone.expect_err("needs --recorder").to_string().contains("--recorder"));
    }

    #[test]
    fn where_it_pushes_is_checked() {
        let told = |words: &str| {
            let told = options(&format!("tcptrail serve --otlp {words}"));
            told.map(|options| {
                let it = options.otlp.expect("it is asked for");
                (it.endpoint.authority(), it.interval.as_secs())
            })
        };
        assert_eq!(told("http://a:4318"), Ok(("a:4318".into(), 60)));
        assert_eq!(told("http://a:4318 --otlp-interval 15s"), Ok(("a:4318".into(), 15)));
        for words in ["http://a:4318 --otlp-interval 10ms", "http://a:4318 --otlp-interval 2h"] {
            assert!(told(words).expect_err(words).contains("from 1s to 1h"));
        }
        assert!(told("https://a:4318").expect_err("TLS").contains("does not speak TLS"));
        let alone = Cli::try_parse_from(["tcptrail", "serve", "--otlp-interval", "1m"]);
        assert!(alone.expect_err("needs --otlp").to_string().contains("--otlp"));
    }

    #[test]
    fn labels_are_checked() {
        let labels = |words: &str| options(&format!("tcptrail serve{words}")).map(|it| it.labels);
        assert_eq!(labels(""), Ok(vec![]));
        assert_eq!(labels(" --labels remote,pid"), Ok(vec![Extra::Pid, Extra::Remote]));
        let error = labels(" --labels prot").expect_err("no such label");
        assert!(error.contains("did you mean port?"), "{error}");
    }
}
