//! The inputs of a recording that may be in several files, up to a moment.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;

use crate::input::Origin;
use crate::record_format::Ended;
use crate::source::recording::error::ReadError;
use crate::source::recording::reader::{Found, Item, Reader};
use crate::time::MonoNs;

/// Reads the first file, and what follows it.
pub(super) struct Inputs {
    reader: Reader<Box<dyn Read>>,
    /// Segments that continue it.
    rest: VecDeque<File>,
    /// What a segment begins with is known: up to its first tick.
    skips: bool,
    /// It is of a flight recorder, which may still be at work: then its end is no damage.
    open_ended: bool,
    until: MonoNs,
    last: MonoNs,
    /// The tick at `until` was delivered.
    complete: bool,
    over: bool,
}

impl Inputs {
    /// Opens the first of them.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub(super) fn open(
        first: Box<dyn Read>,
        rest: VecDeque<File>,
        until: Option<MonoNs>,
    ) -> Result<(Origin, Inputs), ReadError> {
        let (origin, reader) = Reader::open(first)?;
        let inputs = Inputs {
            reader,
            rest,
            skips: false,
            open_ended: origin.segment.is_some(),
            until: until.unwrap_or(MonoNs(u64::MAX)),
            last: origin.start(),
            complete: false,
            over: false,
        };
        Ok((origin, inputs))
    }

    /// The next item; `None` after the end, and after an error.
    ///
    /// # Errors
    /// Where a file is cut or damaged; everything before was delivered. Where the last segment of a flight recorder
    /// is cut, what was recorded ends.
    pub(super) fn next(&mut self) -> Result<Option<Item<'_>>, ReadError> {
        loop {
            if self.over {
                return Ok(None);
            }
            if self.complete {
                return Ok(Some(self.end(self.until)));
            }
            match self.reader.find() {
                Ok(Some(Found::Ended(_))) if !self.rest.is_empty() => self.open_next()?,
                Ok(Some(found)) if self.skips => self.skips = !matches!(found, Found::Tick(_)),
                Ok(Some(found)) => {
                    let at = self.reader.time_of(&found);
                    if at > self.until {
                        return Ok(Some(self.end(self.until)));
                    }
                    self.last = self.last.max(at);
                    // What comes after such a tick may have happened before it.
                    self.complete = at == self.until && matches!(found, Found::Tick(_));
                    return Ok(Some(self.reader.lend(found)));
                }
                Ok(None) => self.over = true,
                Err(ReadError::Truncated { .. }) if self.open_ended && self.rest.is_empty() => {
                    return Ok(Some(self.end(self.last)));
                }
                Err(error) => {
                    self.over = true;
                    return Err(error);
                }
            }
        }
    }

    fn end(&mut self, at: MonoNs) -> Item<'static> {
        self.over = true;
        Item::Ended(Ended { events: 0, connections: 0, at })
    }

    fn open_next(&mut self) -> Result<(), ReadError> {
        let Some(file) = self.rest.pop_front() else { return Ok(()) };
        match Reader::open(Box::new(file) as Box<dyn Read>) {
            Ok((_, reader)) => {
                (self.reader, self.skips) = (reader, true);
                Ok(())
            }
            Err(error) => {
                self.over = true;
                Err(error)
            }
        }
    }
}
