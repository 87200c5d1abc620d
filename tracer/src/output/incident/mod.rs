//! `incident`: one page that says what is wrong, and a bundle that holds all of its evidence.
//!
//! `watch` gathers during a live run, `replay` reads a bundle; both write the page by `page`, from findings and
//! `evidence`: what a replay cannot take from the recording (stacks, thread dumps, the machine). `bundle` is the
//! archive.

pub mod bundle;
mod case;
mod code;
pub mod evidence;
pub mod page;
mod replay;
mod watch;
mod words;

#[cfg(test)]
mod tests;

pub use replay::Replayed;
pub use watch::{Options, PAGE_WIDTH, Watching};
