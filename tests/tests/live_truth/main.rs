//! Every connection and every state, told truthfully: what a test does, by its own clock, with
//! segments made by hand, beside what `ss` shows and what tcptrail says.
//!
//! Everything that waits for a timer of the kernel's waits beside the others: run this with more
//! threads than there are CPUs.

mod ages;
mod begin;
mod end;
mod existing;
mod flood;
mod losses;
mod minis;
mod peers;
mod proxy;
mod reasons;
mod stage;
