//! What JVMs answered during a live run. Recordings do not hold it; a bundle of `incident` does.

use crate::event::Comm;

/// What is said of a process that has ended.
pub const ENDED: &str = "it has ended";
/// What is said of a process that is no JVM.
pub const NO_JVM: &str = "it is no HotSpot JVM";

/// What a JVM is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Question {
    /// A thread dump, as `jcmd PID Thread.print` shows it.
    Threads,
    /// A class histogram of the whole heap, as `jcmd PID GC.class_histogram -all` shows it.
    Classes,
}

/// What it said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The process.
    pub pid: u32,
    /// Its name.
    pub comm: Comm,
    /// What it was asked.
    pub question: Question,
    /// Its text, or a sentence why there is none.
    pub text: Result<Vec<u8>, String>,
}
