//! `list --group-by`: how many sockets have something in common, and the oldest of each kind.

use std::collections::HashMap;
use std::io::Write;

use crate::config::{Key, Listing, Order};
use crate::engine::Engine;
use crate::engine::conn::{Connection, Spent};
use crate::output::json::Object;
use crate::output::lines::list::rows::{self, Ranked, Value, process, value};
use crate::output::lines::list::text::age;
use crate::output::lines::whose::{Whose, whose};
use crate::output::lines::{Pen, ends, times};
use crate::text::{self, Paint, Row, Terminal};
use crate::time::MonoNs;

/// Sockets that have the values of all keys in common.
pub(super) struct Group<'e> {
    count: usize,
    /// How long the oldest has been in its state; the one that has been there longest for sure.
    oldest: Spent,
    /// One of them, for what they have in common.
    one: &'e Connection,
}

/// The groups of `conns`, in their order.
pub(super) fn groups<'e>(
    conns: &[&'e Connection],
    listing: &Listing,
    engine: &Engine,
    now: MonoNs,
) -> Vec<Group<'e>> {
    let mut places: HashMap<Vec<Vec<u8>>, usize> = HashMap::new();
    let mut groups: Vec<Group<'e>> = Vec::new();
    for conn in conns {
        let words = listing.group_by.iter().map(|key| word(*key, engine, conn)).collect();
        let place = *places.entry(words).or_insert(groups.len());
        let spent = conn.in_state(now);
        match groups.get_mut(place) {
            Some(group) => {
                group.count += 1;
                if spent.ns() > group.oldest.ns() {
                    group.oldest = spent;
                }
            }
            None => groups.push(Group { count: 1, oldest: spent, one: conn }),
        }
    }
    let most = [Order { key: Key::Count, reverse: false }, Order { key: Key::Age, reverse: false }];
    let orders = if listing.sort.is_empty() { most.as_slice() } else { &listing.sort };
    for order in orders.iter().rev() {
        groups.sort_by_cached_key(|group| {
            let value = match order.key {
                Key::Count => Value::Number(u64::try_from(group.count).ok()),
                Key::Age => Value::Number(group.oldest.ns()),
                key => value(key, engine, group.one, now),
            };
            Ranked { value, order: *order }
        });
    }
    groups
}

/// What a socket has for a key, as it is shown.
fn word(key: Key, engine: &Engine, conn: &Connection) -> Vec<u8> {
    let mut word = Vec::new();
    match key {
        Key::State => word.extend_from_slice(conn.state.name().as_bytes()),
        Key::Process => word = process(engine.table(), conn),
        Key::Local => ends::local(engine.names(), conn, &mut word),
        Key::Remote => ends::remote(engine.names(), conn, &mut word),
        Key::Addr => {
            // A write to a Vec cannot fail.
            let _ = write!(word, "{}", conn.tuple.remote().ip());
        }
        key => match value(key, engine, conn, MonoNs(0)) {
            Value::Number(Some(number)) => {
                let _ = write!(word, "{number}");
            }
            Value::Name(Some(name)) => text::name(&name, &mut word),
            Value::Number(None) | Value::Name(None) | Value::End(..) => word.push(b'-'),
        },
    }
    word
}

/// The rows of the table; what goes above and below is the caller's.
pub(super) struct Table {
    keys: Vec<Key>,
    words: Vec<Vec<Vec<u8>>>,
    widths: Vec<usize>,
    count_width: usize,
}

impl Table {
    pub(super) fn new(groups: &[Group<'_>], listing: &Listing, engine: &Engine) -> Table {
        let keys = listing.group_by.clone();
        let words: Vec<Vec<Vec<u8>>> = groups
            .iter()
            .map(|group| keys.iter().map(|key| word(*key, engine, group.one)).collect())
            .collect();
        let widths = keys.iter().enumerate().map(|(index, key)| {
            let of_row = |row: &Vec<Vec<u8>>| row.get(index).map_or(0, |word| text::columns(word));
            words.iter().map(of_row).max().unwrap_or(0).max(key.name().len())
        });
        let widths = widths.collect();
        let most = groups.iter().map(|group| group.count).max().unwrap_or(0);
        Table { widths, keys, words, count_width: most.to_string().len().max(5) }
    }

    pub(super) fn header(&self, terminal: Terminal, out: &mut Vec<u8>) {
        let mut row = Row::new(out, terminal, self.count_width + 1);
        row.right(self.count_width, Paint::Dim, b"COUNT").right(8, Paint::Dim, b"OLDEST");
        for (key, width) in self.keys.iter().zip(&self.widths) {
            row.cell(*width, Paint::Dim, key.name().to_ascii_uppercase().as_bytes());
        }
        row.end();
    }

    pub(super) fn line(&self, pen: &mut Pen, index: usize, group: &Group<'_>, out: &mut Vec<u8>) {
        let cell = &mut pen.cell;
        let mut row = Row::new(out, pen.terminal, self.count_width + 1);
        cell.clear();
        let _ = write!(cell, "{}", group.count);
        row.right(self.count_width, Paint::Plain, cell);
        cell.clear();
        age(group.oldest, cell);
        row.right(8, Paint::Plain, cell);
        let words = self.words.get(index).map(Vec::as_slice).unwrap_or_default();
        for ((word, width), key) in words.iter().zip(&self.widths).zip(&self.keys) {
            let paint =
                if *key == Key::State { Paint::of_state(group.one.state) } else { Paint::Plain };
            row.cell(*width, paint, word);
        }
        row.end();
    }
}

/// A group, with a field for each key.
pub(super) fn json(
    pen: &mut Pen,
    engine: &Engine,
    group: &Group<'_>,
    keys: &[Key],
    now: MonoNs,
    out: &mut Vec<u8>,
) {
    let mut object = Object::event(out, "group");
    times(&mut object, &mut pen.clock, now);
    object
        .number("count", group.count)
        .number_or_null("oldest_ns", group.oldest.ns())
        .boolean("exact", group.oldest.is_exact());
    for key in keys {
        let name = key.name();
        if *key == Key::Process {
            object.string(name, &rows::process_as_is(engine.table(), group.one));
            object.number_or_null("pid", pid(engine, group.one));
            continue;
        }
        match rows::value(*key, engine, group.one, now) {
            Value::Number(number) => object.number_or_null(name, number),
            Value::Name(word) => object.string_or_null(name, word.as_deref()),
            Value::End(..) => object.string(name, &word(*key, engine, group.one)),
        };
    }
    object.end();
}

/// The process that holds a socket.
fn pid(engine: &Engine, conn: &Connection) -> Option<u32> {
    let holder = rows::held_by(engine.table(), conn).first();
    match (holder, whose(conn)) {
        (Some(holder), _) => Some(holder.pid),
        (None, Whose::Process) => conn.owner.as_ref()?.pid(),
        _ => None,
    }
}
