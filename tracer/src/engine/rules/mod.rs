//! What is stuck, whose it is, and what to do: a rule per state, and forecasts.
//!
//! Pure: no IO, no clock. [`Watch`] is fed what the table is fed, and asked with the time; it answers
//! with [`Finding`]s that appear, change and clear. What it needs to know of processes and namespaces
//! comes as [`Surroundings`].
//!
//! A socket is stuck when it is in its state for longer than the rule's threshold, and no data goes over it
//! (`progress`). Stuck sockets are grouped by process, state, and local port or remote endpoint. A group
//! leaks when those that outlive the threshold do not leave either (`cohort`), however many others come
//! and go, and more of them keep coming (`generations`).

mod accept_queue;
mod bound;
mod causes;
mod close_wait;
mod closed;
mod closing;
mod cohort;
mod collected;
mod descriptors;
mod drops;
mod established;
mod established_idle;
mod exhaustion;
pub mod explain;
mod fds;
mod fds_workers;
mod fin_wait1;
mod fin_wait2;
mod finding;
pub(crate) mod fingerprint;
pub mod gate;
mod generations;
mod give_up;
mod group;
mod growth;
mod id;
mod idle;
mod idle_reset;
mod judge;
mod keep_alive;
mod last_ack;
mod member;
mod merge;
mod needs;
mod openers;
mod place;
mod pools;
mod ports;
mod progress;
mod quiet;
pub mod recorder;
mod registry;
mod restart;
mod routes;
mod rule;
mod scan;
mod scene;
mod stale_reuse;
mod surroundings;
mod syn_recv;
mod syn_sent;
mod thresholds;
mod time_wait_overflow;
mod told;
mod trouble;
mod unaccepted;
mod watch;
mod words;
mod zones;

#[cfg(test)]
mod tests;

pub use descriptors::Descriptors;
pub use exhaustion::PortUse;
pub use explain::Code;
pub use finding::{Finding, Forecast, Process, Sample, Severity, Update, What};
pub use gate::Gate;
pub use group::Key;
pub use id::RuleId;
pub use needs::Needs;
pub use openers::{Opened, Opener, Openers};
pub use place::Side;
pub use surroundings::{Facts, NetnsFacts, ProcessFacts, Surroundings};
pub use thresholds::Thresholds;
pub use watch::{Options, Watch};

pub(crate) use registry::{rule, rule_of};
pub(crate) use rule::{About, Look, Rule, Said, Stuck};
