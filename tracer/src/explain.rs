//! `explain`: what a finding means, how it comes about, what to do, and what to look at.

use crate::engine::rules::explain::{Code, Page, page, pages};
use crate::text::{Paint, Row, Terminal, suggest};

/// Lines are no longer than this, however wide the terminal is.
const WIDTH: usize = 80;
/// Below each heading.
const INDENT: usize = 2;

/// The page of a code (`TT101`) or of a rule (`close_wait`); without either, a line for each code.
///
/// # Errors
/// When nothing has this name; with the name most like it.
pub fn text(what: Option<&str>, terminal: Terminal) -> Result<Vec<u8>, String> {
    let width = terminal.width.unwrap_or(WIDTH).min(WIDTH);
    let terminal = Terminal { width: Some(width), ..terminal };
    let mut out = Vec::new();
    match what {
        None => list(terminal, &mut out),
        Some(what) => {
            let page = find(what).and_then(page).ok_or_else(|| unknown(what))?;
            write(page, terminal, &mut out);
        }
    }
    Ok(out)
}

fn list(terminal: Terminal, out: &mut Vec<u8>) {
    for page in pages() {
        entry(page, terminal, 0, out);
    }
    out.push(b'\n');
    words(terminal, 0, Paint::Dim, "tcptrail explain TT101 explains one of them.", out);
}

/// `TT101  close_wait   the peer has closed, the application has not`.
fn entry(page: &Page, terminal: Terminal, indent: usize, out: &mut Vec<u8>) {
    out.extend(std::iter::repeat_n(b' ', indent));
    Row::new(out, terminal, 0)
        .cell(5, Paint::Plain, page.code.to_string().as_bytes())
        .cell(23, Paint::Plain, page.code.name().as_bytes())
        .cell(0, Paint::Dim, page.title.as_bytes())
        .end();
}

/// Letters and digits, in capitals: `TT101`, `tt-101`; `CLOSE_WAIT`, `close-wait`.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect()
}

fn find(what: &str) -> Option<Code> {
    let wanted = plain(what);
    Code::ALL.into_iter().find(|code| {
        let code_is = plain(&code.to_string());
        wanted == code_is
            || code_is.strip_prefix("TT") == Some(&wanted)
            || wanted == plain(code.name())
    })
}

fn unknown(what: &str) -> String {
    let codes = Code::ALL.map(|code| code.to_string());
    let names = Code::ALL.iter().map(|code| code.name());
    let all: Vec<&str> = codes.iter().map(String::as_str).chain(names).collect();
    let like = suggest::nearest(what, &all);
    format!("there is no finding {what}{like}: `tcptrail explain` lists all codes")
}

fn write(page: &Page, terminal: Terminal, out: &mut Vec<u8>) {
    let code = page.code;
    words(terminal, 0, Paint::Warn, &format!("{code} {}: {}", code.name(), page.title), out);
    heading(terminal, "What it means", out);
    words(terminal, INDENT, Paint::Plain, page.meaning, out);
    heading(terminal, "How it comes about", out);
    words(terminal, INDENT, Paint::Plain, page.cause, out);
    heading(terminal, "What to do", out);
    for (index, step) in page.steps.iter().enumerate() {
        words(terminal, INDENT + 3, Paint::Plain, &format!("{}. {step}", index + 1), out);
    }
    heading(terminal, "What to look at", out);
    for command in page.commands {
        words(terminal, INDENT, Paint::Plain, command, out);
    }
    let others: Vec<&Page> =
        pages().filter(|it| it.code.rule() == code.rule() && it.code != code).collect();
    if !others.is_empty() {
        heading(terminal, "Other causes of the same state", out);
        for other in others {
            entry(other, terminal, INDENT, out);
        }
    }
    heading(terminal, "Read on", out);
    words(terminal, INDENT, Paint::Plain, &format!("docs/diagnosing.md#{}", page.anchor), out);
}

fn heading(terminal: Terminal, name: &str, out: &mut Vec<u8>) {
    out.push(b'\n');
    words(terminal, 0, Paint::Dim, name, out);
}

/// Word by word, so that lines break between them. The number of a step stands left of its lines.
fn words(terminal: Terminal, indent: usize, paint: Paint, text: &str, out: &mut Vec<u8>) {
    let numbered = text.as_bytes().first().is_some_and(u8::is_ascii_digit);
    let lead = if numbered { indent.saturating_sub(3) } else { indent };
    out.extend(std::iter::repeat_n(b' ', lead));
    let width = terminal.width.map(|width| width.saturating_sub(lead));
    let mut row = Row::new(out, Terminal { width, ..terminal }, indent);
    for word in text.split(' ') {
        row.cell(0, paint, word.as_bytes());
    }
    row.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: Terminal = Terminal { width: None, color: false };

    fn told(what: Option<&str>, width: Option<usize>) -> String {
        let terminal = Terminal { width, color: false };
        String::from_utf8(text(what, terminal).expect("a page")).expect("UTF-8")
    }

    #[test]
    fn codes_and_names_are_found_however_they_are_written() {
        let check = |what: &str, expect: Option<Code>| assert_eq!(find(what), expect, "{what}");
        for what in ["TT101", "tt101", "101", "close_wait", "CLOSE_WAIT", "close-wait"] {
            check(what, Some(Code::CloseWait));
        }
        check("close_wait/restart", Some(Code::CloseWaitRestart));
        check("FDS", Some(Code::Fds));
        check("TT999", None);
        check("", None);
        for code in Code::ALL {
            check(&code.to_string(), Some(code));
            check(code.name(), Some(code));
        }
    }

    #[test]
    fn an_unknown_name_is_said_with_the_nearest() {
        let check = |what: &str, like: &str| {
            let error = text(Some(what), PIPE).expect_err("no page");
            assert!(error.contains(like) && error.contains("lists all codes"), "{error}");
        };
        check("TT1O1", "did you mean TT101?");
        check("close_wiat", "did you mean close_wait?");
        check("xyzzy", "there is no finding xyzzy: ");
    }

    #[test]
    fn every_page_fits_a_screen() {
        for code in Code::ALL {
            let page = told(Some(&code.to_string()), None);
            assert!(page.lines().count() <= 40, "{page}");
            assert!(page.lines().all(|line| line.chars().count() <= WIDTH), "{page}");
            assert!(page.lines().all(|line| !line.ends_with(' ')), "{page}");
        }
        let list = told(None, None);
        assert_eq!(list.lines().count(), Code::ALL.len() + 2, "{list}");
        assert!(list.lines().all(|line| line.chars().count() <= WIDTH), "{list}");
    }

    #[test]
    fn a_page_as_it_is_read() {
        insta::assert_snapshot!(told(Some("TT101"), Some(80)));
        insta::assert_snapshot!(told(None, Some(80)));
    }
}
