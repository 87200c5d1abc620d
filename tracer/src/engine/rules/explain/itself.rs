//! Pages of what is about tcptrail itself.

use crate::engine::rules::explain::{Code, Page};

pub(super) const PAGES: &[Page] = &[Page {
    code: Code::Recorder,
    title: "the flight recorder cannot write",
    meaning: "tcptrail serve --recorder records nothing now. Tracing, metrics and findings go on. What happens until \
              recording resumes cannot be replayed.",
    cause: "The file system of the recorder's directory is full, and removing the oldest segments does not help: others \
            fill it. Or a write fails for another reason, which the finding names.",
    steps: &[
        "Look at what fills the file system, and make room: recording resumes by itself within seconds.",
        "Give the recorder a file system of its own, or a smaller --keep-size.",
        "When the error is not a full disk: look for errors of the disk in the kernel's log.",
    ],
    commands: &["df -h DIR", "du -xh --max-depth 2 MOUNT | sort -h | tail", "journalctl -k -p err"],
    anchor: "the-flight-recorder-cannot-write",
}];
