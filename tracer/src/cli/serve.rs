//! Options of `serve`.

use std::path::PathBuf;

use clap::Args;

/// Options of `serve`.
#[derive(Args, Debug, Clone, Default)]
pub struct ServeArgs {
    /// Where HTTP requests are answered: ADDRESS:PORT, or unix:PATH for a socket in the file system. May be repeated
    #[arg(long, value_name = "WHERE", default_value = "127.0.0.1:9435")]
    pub listen: Vec<String>,
    /// Labels that the metrics about findings and leaks have besides workload and rule: pid, port, remote.
    /// Each value of each is a series of its own in Prometheus
    #[arg(long, value_name = "LABEL", value_delimiter = ',')]
    pub labels: Vec<String>,
    /// When something counts as stuck, as in `stuck`: CLOSE_WAIT=30s. May be repeated
    #[arg(long, value_name = "NAME=TIME", value_delimiter = ',')]
    pub threshold: Vec<String>,
    /// Do not take the stacks of threads that connect: findings then do not name the code
    #[arg(long)]
    pub no_openers: bool,
    /// Read options from this file (TOML): a key for each option of this page, without the dashes; what the
    /// command line says goes first
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Only check the configuration: exit code 0 when it is right, else 2
    #[arg(long)]
    pub check_config: bool,
}
