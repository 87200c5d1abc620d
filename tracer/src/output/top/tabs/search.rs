//! Which connections have the text that is typed in their row.
//!
//! A hundred thousand rows are looked through for every key. Nothing is allocated for each, and what many rows have alike
//! is looked through once for all that follow each other.

use std::sync::Arc;

use memchr::memmem::Finder;
use tracer_common::TcpState;

use crate::engine::conn::{Connection, Role};
use crate::output::lines;
use crate::output::top::tabs::scene::Scene;
use crate::output::top::tabs::whose::{Whose, owner_into, whose, without_holders};
use crate::text;

/// More texts than that are not told apart in a mask: rows are looked through as a whole.
const MOST: usize = u32::BITS as usize;
/// Begins what a row says of further holders, `java[12] +1`. It is looked up for each row only where a text has it.
const FURTHER: u8 = b'+';

/// Looks for texts, in lower case, in the rows of connections.
pub(super) struct Search<'a> {
    scene: &'a Scene<'a>,
    texts: Vec<Finder<'a>>,
    /// What rows have alike cannot be told from the rest.
    whole: bool,
    /// Of the row before: what it had alike with others, and which texts are in that.
    last: Option<(Alike, u32)>,
    line: Vec<u8>,
}

/// What many rows have alike.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Alike {
    state: TcpState,
    role: Role,
    whose: Whose,
    /// Where its owner's name stands: one for all sockets of a process.
    task: usize,
    cgroup: u64,
}

impl<'a> Search<'a> {
    pub(super) fn new(scene: &'a Scene<'a>, texts: &'a [String]) -> Search<'a> {
        let whole =
            texts.len() > MOST || texts.iter().any(|text| text.as_bytes().contains(&FURTHER));
        let texts = texts.iter().map(|text| Finder::new(text.as_bytes())).collect();
        Search { scene, texts, whole, last: None, line: Vec::new() }
    }

    /// Whether each text is somewhere in the row of this connection, figures left out.
    pub(super) fn finds(&mut self, conn: &Connection) -> bool {
        if self.texts.is_empty() {
            return true;
        }
        if self.whole {
            self.line.clear();
            self.ends(conn);
            self.alike(conn);
            owner_into(self.scene.table(), conn, &mut self.line);
            self.line.make_ascii_lowercase();
            return self.texts.iter().all(|text| text.find(&self.line).is_some());
        }
        let found = self.found_alike(conn);
        if found.count_ones() as usize == self.texts.len() {
            return true;
        }
        self.line.clear();
        self.ends(conn);
        self.line.make_ascii_lowercase();
        let Search { texts, line, .. } = self;
        let missing = |at: usize| found & (1 << at) == 0;
        texts.iter().enumerate().all(|(at, text)| !missing(at) || text.find(line).is_some())
    }

    /// Which texts are in what this row has alike with others; `None` where rows are looked through as a whole.
    pub(super) fn in_alike(&mut self, conn: &Connection) -> Option<u32> {
        (!self.whole).then(|| self.found_alike(conn))
    }

    /// Which texts are in what this row has alike with others.
    fn found_alike(&mut self, conn: &Connection) -> u32 {
        let alike = Alike {
            state: conn.state,
            role: conn.role,
            whose: whose(conn),
            task: conn.owner.as_ref().map_or(0, |owner| Arc::as_ptr(&owner.task) as usize),
            cgroup: conn.cgroup,
        };
        if let Some((last, found)) = self.last
            && last == alike
        {
            return found;
        }
        self.line.clear();
        self.alike(conn);
        self.line.make_ascii_lowercase();
        let Search { texts, line, .. } = self;
        let bits = texts.iter().enumerate();
        let found =
            bits.fold(0, |found, (at, text)| found | u32::from(text.find(line).is_some()) << at);
        self.last = Some((alike, found));
        found
    }

    fn alike(&mut self, conn: &Connection) {
        let names = self.scene.engine.names();
        let out = &mut self.line;
        out.extend_from_slice(conn.state.name().as_bytes());
        out.push(b'\n');
        without_holders(conn, out);
        out.push(b'\n');
        out.extend_from_slice(conn.role.name().as_bytes());
        out.push(b'\n');
        let place = names.place(conn.cgroup);
        let known = [place.service, place.container, place.container_name, place.pod];
        for name in known.into_iter().flatten() {
            text::name(name, out);
            out.push(b'\n');
        }
    }

    fn ends(&mut self, conn: &Connection) {
        ends_into(self.scene, conn, &mut self.line);
        self.line.push(b'\n');
    }
}

/// Both ends of a connection, as a row has them. A text has no blanks, so none is found across them.
pub(super) fn ends_into(scene: &Scene<'_>, conn: &Connection, out: &mut Vec<u8>) {
    let names = scene.engine.names();
    lines::ends::local(names, conn, out);
    out.push(b' ');
    lines::ends::remote(names, conn, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Filter;
    use crate::output::top::model::Model;
    use crate::output::top::tabs::whose::owner;
    use crate::output::top::tests::{options, stage};

    #[test]
    fn a_text_is_found_where_a_row_has_it() {
        let stage = stage("synthetic", (160, 50), options());
        let (model, scope) = (Model::default(), Filter::default());
        let scene = Scene { engine: &stage.engine, model: &model, scope: &scope, now: stage.now };
        let mut found = [0; 2];
        let mut check = |typed: &[&str]| {
            let texts: Vec<String> = typed.iter().map(|text| (*text).to_owned()).collect();
            let mut search = Search::new(&scene, &texts);
            for conn in scene.table().iter() {
                let mut row = Vec::new();
                let names = stage.engine.names();
                lines::ends::local(names, conn, &mut row);
                row.push(b'\n');
                lines::ends::remote(names, conn, &mut row);
                let row = String::from_utf8(row).expect("text");
                let (state, role) = (conn.state.name(), conn.role.name());
                let whose = owner(scene.table(), conn);
                // Of figures only this one is looked for, with its sign.
                let further = typed.contains(&"+1") || typed.len() > MOST;
                let whose = if further { &whose } else { whose.split(" +").next().unwrap_or("") };
                let row = format!("{row}\n{state}\n{role}\n{whose}").to_lowercase();
                let expect = texts.iter().all(|text| row.contains(text));
                assert_eq!(search.finds(conn), expect, "{typed:?} in {row:?}");
                found[usize::from(expect)] += 1;
            }
        };
        check(&[]);
        for text in
            ["1", "127.", ":80", "close", "java", "client", "[", "kernel", "estab", "+1", "nowhere"]
        {
            check(&[text]);
            check(&[text, ":8"]);
            check(&["server", text, "1"]);
        }
        check(&["1"; MOST + 1]);
        assert!(found[0] > 0 && found[1] > 0, "{found:?}");
    }
}
