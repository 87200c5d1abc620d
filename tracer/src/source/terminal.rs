//! What somebody does at the terminal, on its way to the loop of a run: a thread waits for it, so that the loop wakes
//! up for it and looks for it at no other time.

use std::io;
use std::thread;

use crossterm::event::{self, Event};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::privileges;

/// Events of the terminal: keys, the mouse, a new size.
pub(super) struct Keys(UnboundedReceiver<Event>);

impl Keys {
    /// Begins to read them.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn start() -> io::Result<Keys> {
        let (sender, events) = unbounded_channel();
        // It is never joined: it waits in a read that nothing ends but the end of the program.
        thread::Builder::new().name("tcptrail-keys".to_owned()).spawn(move || {
            privileges::keep_only(&[]);
            while let Ok(event) = event::read() {
                if sender.send(event).is_err() {
                    return;
                }
            }
        })?;
        Ok(Keys(events))
    }

    /// The next one. Never, when the terminal is gone.
    pub(super) async fn next(&mut self) -> Event {
        match self.0.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// The next one, if it has come already.
    pub(super) fn try_next(&mut self) -> Option<Event> {
        self.0.try_recv().ok()
    }
}

/// The next event of a run that may have no terminal.
pub(super) async fn next(keys: &mut Option<Keys>) -> Event {
    match keys {
        Some(keys) => keys.next().await,
        None => std::future::pending().await,
    }
}
