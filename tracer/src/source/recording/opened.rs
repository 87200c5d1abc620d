//! What a replay reads: a recording, or the bundle of an incident that holds one.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Result;

use crate::config::{self, Config, ReportOptions, Show, StuckOptions, TopOptions};
use crate::engine::rules::Thresholds;
use crate::output::incident::bundle::Bundle;
use crate::output::incident::evidence::{About, Evidence, RECORDING};

/// How a zstd stream begins (RFC 8878).
const ZSTD: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

/// The recording in a file, and of a bundle what the run that made it says of itself.
///
/// # Errors
/// When it cannot be read, or is a folder or archive without a recording.
pub(super) fn opened(file: File, path: &Path) -> Result<(Box<dyn Read>, About)> {
    let is_folder = file.metadata()?.is_dir();
    let mut first = [0; ZSTD.len()];
    let got = if is_folder { 0 } else { file.read_at(&mut first, 0).unwrap_or(0) };
    if !is_folder && first[..got] != ZSTD {
        return Ok((Box::new(file), About::default()));
    }
    let mut bundle = Bundle::read(path)?;
    let about = Evidence::of(&bundle)?.about;
    Ok((Box::new(io::Cursor::new(bundle.take(RECORDING)?)), about))
}

/// With the filters and thresholds of the run that made a bundle, where none are given.
///
/// # Errors
/// When this version does not know its filters.
pub(super) fn as_watched(config: &Config, about: &About) -> Result<Config> {
    let mut config = config.clone();
    if config.filter_words.is_empty() {
        config.filter = config::filter_of(&about.filter_args)?;
    }
    let (thresholds, given) = match &mut config.show {
        Show::Incident(options) => (&mut options.thresholds, !options.threshold_words.is_empty()),
        Show::Stuck(StuckOptions { thresholds, .. })
        | Show::Report(ReportOptions { thresholds, .. })
        | Show::Top(TopOptions { thresholds, .. }) => {
            let given = *thresholds != Thresholds::default();
            (thresholds, given)
        }
        _ => return Ok(config),
    };
    for text in about.thresholds.iter().filter(|_| !given) {
        // One that this version does not know keeps its default.
        let _ = thresholds.set(text);
    }
    Ok(config)
}
