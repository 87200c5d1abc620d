//! The terminal: taken at the beginning, and given back at every end: when the run is over, when it is dropped on
//! the way, and when the program panics.
//!
//! What would be written to stderr meanwhile would stand in the middle of the screen: it goes into a file in memory,
//! and is shown once the terminal is as it was.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::PoisonError;

use crossterm::event::{DisableMouseCapture, EnableMouseCapture};
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, queue};
use rustix::fs::MemfdFlags;

/// What was taken, until it is given back.
static TAKEN: Mutex<Option<Taken>> = Mutex::new(None);

struct Taken {
    /// Where stderr led.
    stderr: Option<OwnedFd>,
    /// What was written to it since.
    said: Option<File>,
    /// The thread whose panic ends the program.
    main: std::thread::ThreadId,
}

/// The terminal is ours for as long as this lives.
#[derive(Debug)]
pub(super) struct Guard(());

/// Whether stdin and stdout are a terminal that can be drawn on; else what to do instead.
///
/// # Errors
/// What is missing, with the remedy.
pub fn check() -> Result<(), String> {
    let instead = "use `tcptrail list`, `stuck` or `tail`, which print lines";
    if !io::stdout().is_terminal() {
        return Err(format!("top draws on a terminal, and stdout is not a terminal: {instead}"));
    }
    if !io::stdin().is_terminal() {
        return Err(format!(
            "top reads keys from a terminal, and stdin is not a terminal: {instead}"
        ));
    }
    if std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty()) {
        return Err(format!("top cannot draw on a terminal of type `dumb` (TERM): {instead}"));
    }
    Ok(())
}

impl Guard {
    /// Takes it.
    ///
    /// # Errors
    /// When it cannot be set.
    pub(super) fn take() -> io::Result<Guard> {
        enable_raw_mode()?;
        let (stderr, said) = match divert_stderr() {
            Ok((stderr, said)) => (Some(stderr), Some(said)),
            // Then it stands in the middle of the screen.
            Err(_) => (None, None),
        };
        let taken = Taken { stderr, said, main: std::thread::current().id() };
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
        restore_on_panic();
        let mut stdout = io::stdout();
        queue!(stdout, EnterAlternateScreen, EnableMouseCapture, cursor::Hide)?;
        stdout.flush()?;
        Ok(Guard(()))
    }

    /// Gives it back, with what leaves the screen appended to `out`, behind whatever is still to be drawn.
    pub(super) fn give_back(&self, out: &mut Vec<u8>) {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(taken) = taken {
            leave(out);
            // What was said follows on stdout's heels: whoever ends the run waits for stdout first.
            settle(taken, out);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        restore();
    }
}

/// To the terminal itself, at once.
fn restore() {
    let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(taken) = taken else { return };
    let mut bytes = Vec::new();
    leave(&mut bytes);
    settle(taken, &mut bytes);
    let mut stdout = io::stdout();
    // Nothing is left to be done where this fails.
    let _ = stdout.write_all(&bytes);
    let _ = stdout.flush();
}

/// Bytes that leave the screen as it was.
fn leave(out: &mut Vec<u8>) {
    // A write to a Vec cannot fail.
    let _ = queue!(out, DisableMouseCapture, cursor::Show, LeaveAlternateScreen);
}

/// The modes of the terminal, and stderr; what was said goes after `out`.
fn settle(taken: Taken, out: &mut Vec<u8>) {
    let _ = disable_raw_mode();
    if let Some(stderr) = &taken.stderr {
        let _ = rustix::stdio::dup2_stderr(stderr);
    }
    let mut said = Vec::new();
    if let Some(mut file) = taken.said {
        let read = file.rewind().and_then(|()| file.read_to_end(&mut said));
        if read.is_err() {
            said.clear();
        }
    }
    // Stderr was a terminal when it was diverted: the same one, as a rule.
    out.extend_from_slice(&said);
}

fn divert_stderr() -> io::Result<(OwnedFd, File)> {
    if !io::stderr().is_terminal() {
        return Err(io::Error::other("it does not stand on the screen"));
    }
    let before = rustix::io::dup(io::stderr())?;
    let file = rustix::fs::memfd_create("tcptrail-stderr", MemfdFlags::CLOEXEC)?;
    rustix::stdio::dup2_stderr(&file)?;
    Ok((before, File::from(file)))
}

/// A panic of the thread that draws ends the program: the terminal is given back before its message is shown.
fn restore_on_panic() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let ours = TAKEN.try_lock().is_ok_and(|taken| {
                taken.as_ref().is_some_and(|taken| taken.main == std::thread::current().id())
            });
            if ours {
                restore();
            }
            before(panic);
        }));
    });
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Panics while the terminal is taken. For the next test, which runs it in a terminal of its own.
    #[test]
    #[ignore = "it panics: another test runs it in a terminal of its own"]
    fn panics_while_the_terminal_is_taken() {
        let _guard = Guard::take().expect("a terminal");
        eprintln!("said before the panic");
        panic!("on purpose");
    }

    /// The screen is left and lines are read as usual before the message of the panic is shown.
    #[test]
    fn a_panic_gives_the_terminal_back() {
        let this = std::env::current_exe().expect("the test");
        let name = "output::top::terminal::tests::panics_while_the_terminal_is_taken";
        let command = format!(
            "stty sane; {} --ignored --exact {name} --nocapture --test-threads=1; stty -a",
            this.display()
        );
        let run = Command::new("script").args(["-qec", &command, "/dev/null"]).output();
        let Ok(run) = run else { return println!("skipped: script is not there") };
        let said = String::from_utf8_lossy(&run.stdout);
        let place = |text: &str| said.find(text).unwrap_or_else(|| panic!("no {text:?}: {said}"));
        let (taken, left) = (place("\u{1b}[?1049h"), place("\u{1b}[?1049l"));
        assert!(taken < left && left < place("on purpose"), "{said}");
        assert!(left < place("said before the panic"), "{said}");
        assert!(place("\u{1b}[?25h") < place("on purpose"), "the cursor: {said}");
        let modes: Vec<&str> = said.split_whitespace().collect();
        for mode in ["icanon", "echo", "isig", "opost"] {
            assert!(modes.contains(&mode), "no {mode}: {said}");
        }
    }
}
