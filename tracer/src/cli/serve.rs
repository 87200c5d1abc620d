//! Options of `serve`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

/// Options of `serve`.
#[derive(Args, Debug, Clone, Default)]
pub struct ServeArgs {
    /// Where to answer HTTP requests: ADDRESS:PORT, or unix:PATH. May be repeated
    #[arg(long, value_name = "WHERE", default_value = "127.0.0.1:9435")]
    pub listen: Vec<String>,
    /// More labels for the metrics about findings and leaks: pid, port, remote. Each value makes one more series
    /// in Prometheus
    #[arg(long, value_name = "LABEL", value_delimiter = ',')]
    pub labels: Vec<String>,
    /// How long until something counts as stuck: CLOSE_WAIT=30s (names: `stuck --help`). May be repeated
    #[arg(long, value_name = "NAME=TIME", value_delimiter = ',')]
    pub threshold: Vec<String>,
    /// Do not take the stacks of connecting threads; findings then do not name the code
    #[arg(long)]
    pub no_openers: bool,
    /// Also record everything into DIR, for `tcptrail replay DIR`. No other user may write there
    #[arg(long, value_name = "DIR")]
    pub recorder: Option<PathBuf>,
    /// With --recorder: how long to keep recordings
    #[arg(long, value_name = "TIME", default_value = "24h", requires = "recorder",
          value_parser = crate::time::parse)]
    pub keep: Duration,
    /// With --recorder: the most that all recordings together take on disk
    #[arg(long, value_name = "SIZE", default_value = "2GiB", requires = "recorder")]
    pub keep_size: String,
    /// With --recorder: keep them longer within this time of a new finding
    #[arg(long, value_name = "TIME", default_value = "10m", requires = "recorder",
          value_parser = crate::time::parse)]
    pub pin: Duration,
    /// Also push by OTLP, to http://HOST:PORT
    ///
    /// Metrics, and each finding as a log record, go to an OpenTelemetry collector there. The one of this machine is
    /// http://127.0.0.1:4318 as a rule.
    #[arg(long, value_name = "URL")]
    pub otlp: Option<String>,
    /// With --otlp: how often to push metrics; findings go at once
    #[arg(long, value_name = "TIME", default_value = "60s", requires = "otlp", hide_short_help = true,
          value_parser = crate::time::parse)]
    pub otlp_interval: Duration,
    /// With --otlp: a header of each request. May be repeated. Put secrets into the file of --config, or into
    /// OTEL_EXPORTER_OTLP_HEADERS: everyone can read command lines
    #[arg(long, value_name = "NAME=VALUE", requires = "otlp", hide_short_help = true)]
    pub otlp_header: Vec<String>,
    /// Read options from this TOML file. Its keys are the options without their dashes; the command line wins
    /// over the file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Only check the configuration: exit code 0 if it is right, else 2
    #[arg(long)]
    pub check_config: bool,
}
