//! Why a program is refused, in a line.

use aya::programs::ProgramError;

/// How the lines begin that the verifier ends its log with.
const STATISTICS: [&str; 3] = ["processed ", "stack depth ", "verification time "];

/// A program error in one line: the kernel's errno, and the verifier's last words.
pub(super) fn in_words(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            // The very last lines are statistics.
            let verdict = log.lines().rev().map(str::trim).find(|line| {
                !line.is_empty() && !STATISTICS.iter().any(|word| line.starts_with(word))
            });
            match verdict {
                Some(verdict) => format!("{io_error} (verifier: {verdict})"),
                None => io_error.to_string(),
            }
        }
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(error) = source {
                text = format!("{text}: {error}");
                source = error.source();
            }
            text
        }
    }
}
