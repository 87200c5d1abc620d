//! The command line, checked and resolved: what is wrong is said in one sentence with the remedy. `types`
//! has what comes out, `resolve` makes it, `filter` and `size` read values.

mod error;
mod filter;
mod resolve;
mod size;
mod types;

pub use error::UsageError;
pub use filter::filter_of;
pub use resolve::{no_options, resolve};
pub use types::{Config, IncidentOptions, LeaksOptions, ReportOptions, Show, Source, StuckOptions};
