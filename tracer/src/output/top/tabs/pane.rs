//! The pane that opens on a row: lines that whoever draws breaks to the width there is.

use crate::output::top::tabs::cell::Paint;
use crate::output::top::tabs::life::Life;

/// What a pane shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pane {
    /// Its title.
    pub(crate) title: String,
    /// From top to bottom.
    pub(crate) lines: Vec<PaneLine>,
    /// Words of a filter that lets just what it is about through; empty where there are none.
    pub(crate) words: String,
}

/// One thing in a pane.
#[derive(Clone, Debug)]
pub(crate) enum PaneLine {
    /// A sentence, broken between words.
    Words(Paint, String),
    /// What it is called, and what it is.
    Fact(&'static str, Paint, String),
    /// What it is called, in so many columns at the right, and what it is.
    Entry(usize, String, String),
    /// Not broken; cut where it is too long.
    Line(Paint, String),
    /// A heading, with room above.
    Heading(String),
    /// The life of a connection.
    Life(Life),
    /// Figures over time: the name, the figures, and what stands at the end.
    Spark(&'static str, Vec<u32>, String),
}

impl Pane {
    /// With a title.
    pub(crate) fn new(title: impl Into<String>) -> Pane {
        Pane { title: title.into(), ..Pane::default() }
    }

    /// A sentence.
    pub(crate) fn words(&mut self, paint: Paint, text: impl Into<String>) -> &mut Pane {
        self.lines.push(PaneLine::Words(paint, text.into()));
        self
    }

    /// A fact.
    pub(crate) fn fact(&mut self, name: &'static str, text: impl Into<String>) -> &mut Pane {
        self.painted(name, Paint::Plain, text)
    }

    /// A fact in a colour.
    pub(crate) fn painted(
        &mut self,
        name: &'static str,
        paint: Paint,
        text: impl Into<String>,
    ) -> &mut Pane {
        self.lines.push(PaneLine::Fact(name, paint, text.into()));
        self
    }

    /// A fact, where it is known.
    pub(crate) fn maybe(&mut self, name: &'static str, text: Option<String>) -> &mut Pane {
        match text {
            Some(text) => self.fact(name, text),
            None => self.painted(name, Paint::Dim, "-"),
        }
    }

    /// An entry of a list.
    pub(crate) fn entry(&mut self, width: usize, name: &str, text: &str) -> &mut Pane {
        self.lines.push(PaneLine::Entry(width, name.to_owned(), text.to_owned()));
        self
    }

    /// A heading.
    pub(crate) fn heading(&mut self, text: impl Into<String>) -> &mut Pane {
        self.lines.push(PaneLine::Heading(text.into()));
        self
    }

    /// A line.
    pub(crate) fn line(&mut self, paint: Paint, text: impl Into<String>) -> &mut Pane {
        self.lines.push(PaneLine::Line(paint, text.into()));
        self
    }
}
