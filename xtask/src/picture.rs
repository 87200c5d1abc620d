//! `picture`: a terminal's screen as SVG, for the documentation: what `tmux capture-pane -e -p` prints goes in.

use std::fmt::Write;
use std::io::{Read, stdin};
use std::process::ExitCode;

use anyhow::{Context, Result};

/// A cell of a monospaced font of 14 pixels.
const WIDTH: f64 = 8.4;
const HEIGHT: usize = 18;
const MARGIN: usize = 14;

const BACKGROUND: &str = "#16181d";
const FOREGROUND: &str = "#d7dae0";
/// The eight colours of a terminal.
const COLORS: [&str; 8] =
    ["#3b4048", "#f07178", "#a5d46a", "#ffcb6b", "#82aaff", "#c792ea", "#6fd3ff", "#d7dae0"];

/// How text looks.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Style {
    color: Option<usize>,
    bold: bool,
    dim: bool,
    underlined: bool,
    inverse: bool,
}

/// Pieces of one line, each in one style.
type Line = Vec<(Style, String)>;

pub(crate) fn verb() -> Result<ExitCode> {
    let mut text = String::new();
    stdin().read_to_string(&mut text).context("stdin: a screen, as tmux prints it")?;
    print!("{}", svg(&lines(&text)));
    Ok(ExitCode::SUCCESS)
}

/// Takes the escape sequences out of a screen.
fn lines(text: &str) -> Vec<Line> {
    let mut style = Style::default();
    text.lines().map(|line| pieces(line, &mut style)).collect()
}

fn pieces(line: &str, style: &mut Style) -> Line {
    let mut pieces: Line = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("\x1b[")
            && let Some(end) = after.find(|c: char| c.is_ascii_alphabetic())
        {
            if after[end..].starts_with('m') {
                *style = changed(*style, &after[..end]);
            }
            rest = &after[end + 1..];
            continue;
        }
        // The first character is text, or an escape that is none of these.
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let end = rest[first..].find('\x1b').map_or(rest.len(), |at| at + first);
        pieces.push((*style, rest[..end].to_owned()));
        rest = &rest[end..];
    }
    pieces
}

/// A style after the numbers of an escape sequence.
fn changed(mut style: Style, numbers: &str) -> Style {
    let mut numbers = numbers.split(';').map(|number| number.parse().unwrap_or(0_usize));
    while let Some(number) = numbers.next() {
        match number {
            // One of 256 colours, of which the first are those below.
            38 if numbers.next() == Some(5) => {
                style.color = numbers.next().map(|color| color % 8);
            }
            48 => drop(numbers.nth(1)),
            0 => style = Style::default(),
            1 => style.bold = true,
            2 => style.dim = true,
            4 => style.underlined = true,
            7 => style.inverse = true,
            22 => (style.bold, style.dim) = (false, false),
            24 => style.underlined = false,
            27 => style.inverse = false,
            30..=37 => style.color = Some(number - 30),
            39 => style.color = None,
            90..=97 => style.color = Some(number - 90),
            _ => {}
        }
    }
    style
}

fn svg(lines: &[Line]) -> String {
    let columns = |line: &Line| line.iter().map(|(_, text)| text.chars().count()).sum::<usize>();
    let most = lines.iter().map(columns).max().unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "a margin")]
    let width = across(most) + 2.0 * MARGIN as f64;
    let height = lines.len() * HEIGHT + 2 * MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height}\" viewBox=\"0 0 {width:.0} {height}\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n\
         <g font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace\" font-size=\"14\" xml:space=\"preserve\">\n"
    );
    for (number, line) in lines.iter().enumerate() {
        let mut column = 0;
        for (style, text) in line {
            piece(&mut out, (column, number), *style, text);
            column += text.chars().count();
        }
    }
    out.push_str("</g>\n</svg>\n");
    out
}

#[expect(clippy::cast_precision_loss, reason = "columns of a screen")]
fn across(columns: usize) -> f64 {
    columns as f64 * WIDTH
}

fn piece(out: &mut String, (column, line): (usize, usize), style: Style, text: &str) {
    let color = style.color.and_then(|color| COLORS.get(color)).copied();
    let (mut front, mut back) = (color.unwrap_or(FOREGROUND), None);
    if style.inverse {
        (front, back) = (BACKGROUND, Some(color.unwrap_or(FOREGROUND)));
    }
    #[expect(clippy::cast_precision_loss, reason = "a margin")]
    let x = MARGIN as f64 + across(column);
    let (y, length) = (MARGIN + line * HEIGHT, across(text.chars().count()));
    // A write to a String cannot fail.
    if let Some(back) = back {
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{length:.1}\" height=\"{HEIGHT}\" fill=\"{back}\"/>"
        );
    }
    if text.trim().is_empty() {
        return;
    }
    let mut more = String::new();
    for (on, attribute) in [
        (style.bold, " font-weight=\"bold\""),
        (style.dim, " opacity=\"0.6\""),
        (style.underlined, " text-decoration=\"underline\""),
    ] {
        more.push_str(if on { attribute } else { "" });
    }
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{}\" fill=\"{front}\" textLength=\"{length:.1}\"{more}>{}</text>",
        y + 14,
        escaped(text)
    );
}

fn escaped(text: &str) -> String {
    // Spaces at both ends count, and not every reader keeps them.
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace(' ', "\u{a0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_become_styles() {
        let found = lines("a\x1b[1;31mb\x1b[0mc\n\x1b[7md\n\u{2581}\x1b[0;38;5;1;1me");
        assert_eq!(found[2][1].0, Style { bold: true, color: Some(1), ..Style::default() });
        let red = Style { bold: true, color: Some(1), ..Style::default() };
        let plain = Style::default();
        let inverse = Style { inverse: true, ..plain };
        let piece = |style, text: &str| (style, text.to_owned());
        assert_eq!(found[0], [piece(plain, "a"), piece(red, "b"), piece(plain, "c")]);
        assert_eq!(found[1], [piece(inverse, "d")]);
    }

    #[test]
    fn text_cannot_end_its_element() {
        let picture = svg(&lines("<script>&"));
        assert!(picture.contains("&lt;script&gt;&amp;"), "{picture}");
        assert_eq!(picture.matches("<text").count(), 1);
    }
}
