//! The command line, checked and resolved: what is wrong is said in one sentence with the remedy. `types`
//! has what comes out, `resolve` makes it, `filter`, `listing`, `size`, `span` and `thresholds` read values, `ends` says where they go, `top` and
//! `serve` are commands' own, `otlp` a part of `serve`, `file` reads options from a file.

mod ends;
mod error;
mod file;
mod filter;
mod listing;
mod otlp;
mod resolve;
mod serve;
mod size;
mod span;
mod thresholds;
mod top;
mod types;

pub use error::UsageError;
pub use file::with_file;
pub use filter::filter_of;
pub use listing::{Key, Listing, Order};
pub use otlp::{Endpoint, OtlpOptions};
pub use resolve::{color, no_options, resolve};
pub use serve::{Extra, Listen, RecorderOptions, ServeOptions};
pub use span::{Span, When, between, moment};
pub use types::{
    Config, IncidentOptions, KillOptions, LeaksOptions, ReportOptions, Show, Source, StatsOptions,
    StuckOptions, TopOptions,
};
