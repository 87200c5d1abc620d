//! The list of outputs: which ones a command line asks for.

use anyhow::{Context, Result};
use jiff::tz::TimeZone;

use crate::config::{Config, Show};
use crate::output::Output;
use crate::output::lines::{Form, Leaks, Life, List, Pen, Setting, Stuck, Tail};
use crate::output::record::Recorder;
use crate::text::Terminal;

/// Outputs of a run, the one that speaks for it first. `live` when events come from the kernel.
///
/// # Errors
/// When the file of a recording cannot be opened.
pub fn outputs(config: &Config, live: bool) -> Result<Vec<Box<dyn Output>>> {
    let setting = || Setting {
        pen: Pen::new(config.json, Terminal::of_stdout(config.color), TimeZone::system()),
        filter: config.filter.clone(),
    };
    let on_terminal = Terminal::of_stdout(false).width.is_some();
    let mut outputs: Vec<Box<dyn Output>> = Vec::new();
    match &config.show {
        Show::Tail => outputs.push(Box::new(Tail(setting()))),
        Show::Life { with_time_wait } => {
            outputs.push(Box::new(Life { setting: setting(), with_time_wait: *with_time_wait }));
        }
        Show::List { watch } => outputs.push(Box::new(List::new(setting(), *watch, live))),
        Show::Leaks(options) => {
            outputs.push(Box::new(Leaks::new(setting(), *options, on_terminal)));
        }
        Show::Stuck(options) => {
            let form = match options.once {
                true => Form::Once,
                // Nobody could read screens that pass as fast as a file is read.
                false if on_terminal && live => Form::Frames,
                false => Form::Lines,
            };
            let gates = !options.gates.is_empty();
            outputs.push(Box::new(Stuck::new(setting(), form, options.openers, gates)));
        }
        Show::Nothing => {}
    }
    if let Some(path) = &config.record_to {
        let recorder = Recorder::create(path, config.filter.clone());
        let cannot = || format!("cannot write {}", path.display());
        outputs.push(Box::new(recorder.with_context(cannot)?));
    }
    Ok(outputs)
}
