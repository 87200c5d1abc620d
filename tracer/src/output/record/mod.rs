//! Recordings: the [`Input`]s of a run in a file, to be replayed later. `writer` packs them, `file` opens
//! the file, `write_behind` writes it on a thread of its own, `record_format` says how it is laid out, and `source::recording` reads it back.

mod file;
mod write_behind;
mod writer;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use file::open_output;
pub use write_behind::WriteBehind;
pub use writer::Writer;

use crate::engine::Engine;
use crate::filter::Filter;
use crate::input::{Input, Origin};
use crate::output::{Needs, Output, RulesNeed, Run};
use crate::record_format::Ended;

/// Begins a recording in a file that a thread of its own writes. Its header is in the file.
pub(super) fn begin(file: Arc<File>, origin: &Origin) -> io::Result<Writer<WriteBehind>> {
    let writer = Writer::new(WriteBehind::start(file)?, origin)?;
    writer.sink().settle()?;
    Ok(writer)
}

/// Writes every input into a file.
pub struct Recorder {
    path: PathBuf,
    filter: Filter,
    /// Until the run begins.
    file: Option<File>,
    /// From then on.
    writer: Option<Writer<WriteBehind>>,
}

impl Recorder {
    /// Opens the file. `filter` says what counts in the totals of a run that only records.
    ///
    /// # Errors
    /// When the file cannot be opened, or is not ours: see [`open_output`].
    pub fn create(path: &Path, filter: Filter) -> io::Result<Recorder> {
        let file = Some(open_output(path)?);
        Ok(Recorder { path: path.to_owned(), filter, file, writer: None })
    }

    fn explain(&self, outcome: io::Result<()>) -> io::Result<()> {
        outcome.map_err(|error| {
            let path = self.path.display();
            let text = format!(
                "cannot write {path}: {error}; you can replay what has been written until now"
            );
            io::Error::new(error.kind(), text)
        })
    }
}

impl Output for Recorder {
    fn needs(&self) -> Needs {
        // The replay is to find what the rules need.
        Needs { inputs: true, rules: RulesNeed::Facts, ..Needs::default() }
    }

    fn filter(&self) -> Filter {
        self.filter.clone()
    }

    fn begin(&mut self, engine: &Engine, _out: &mut Vec<u8>) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            match begin(Arc::new(file), engine.origin()) {
                Ok(writer) => self.writer = Some(writer),
                Err(error) => return self.explain(Err(error)),
            }
        }
        Ok(())
    }

    #[inline]
    fn input(&mut self, input: &Input<'_>) -> io::Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        match writer.push(input) {
            Ok(()) => Ok(()),
            failed => self.explain(failed),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.writer.as_mut().map_or(Ok(()), Writer::flush);
        self.explain(flushed)
    }

    fn end(&mut self, run: &Run<'_>, _out: &mut Vec<u8>) -> io::Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let ended =
            Ended { events: run.totals.events, connections: run.totals.connections, at: run.now };
        self.explain(writer.finish(ended).and_then(WriteBehind::close))
    }
}
