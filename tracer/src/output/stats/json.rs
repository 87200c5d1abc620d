//! Figures for programs: an object for each group and measure.

use std::io::Write;

use crate::engine::Engine;
use crate::engine::stats::{By, Figures, Measure, Retransmits, Spread};
use crate::output::json::{Object, string};
use crate::output::lines::{Pen, drops, times};
use crate::output::stats::labels::Group;
use crate::output::stats::text::{Page, QUANTILES};

pub(super) fn objects(
    pen: &mut Pen,
    engine: &Engine,
    page: &Page<'_>,
    groups: &[Group<'_>],
    out: &mut Vec<u8>,
) {
    for group in groups {
        figures(pen, page, &group.figures, Some(&group.names), out);
    }
    let others = page.stats.others();
    if others.connections != 0 && !page.stats.by().is_empty() {
        figures(pen, page, others, None, out);
    }
    if page.again != Retransmits::default() {
        let mut object = Object::event(out, "retransmits");
        times(&mut object, &mut pen.clock, page.now);
        for (cause, _, count) in page.again.by_cause() {
            object.number(cause, count);
        }
        object
            .number("spurious", page.again.spurious)
            .number("not_sent", page.again.not_sent)
            .end();
    }
    for (reason, place, count) in page.drops.by_reason() {
        let mut object = Object::event(out, "drops");
        times(&mut object, &mut pen.clock, page.now);
        object
            .string("reason", drops::name(engine, reason).as_bytes())
            .plain("hook", place.name())
            .number("count", count)
            .end();
    }
}

/// `names` is null for what has no group of its own.
fn figures(
    pen: &mut Pen,
    page: &Page<'_>,
    figures: &Figures,
    names: Option<&Vec<Option<Vec<u8>>>>,
    out: &mut Vec<u8>,
) {
    for measure in Measure::ALL {
        let Some(spread) = figures.spread(measure) else { continue };
        let mut object = Object::event(out, "stats");
        times(&mut object, &mut pen.clock, page.now);
        object.with("group", |out| group(page.stats.by(), names, out));
        object
            .number("connections", figures.connections)
            .number("failed", figures.failed)
            .plain("measure", measure.name())
            .plain("unit", if measure.is_bytes() { "bytes" } else { "ns" })
            .number("count", spread.count())
            .number("left_out", spread.left_out)
            .number_or_null("min", spread.min());
        for (name, share) in QUANTILES {
            object.number_or_null(&name.replace('.', "_"), spread.quantile(share));
        }
        object
            .number_or_null("max", spread.max())
            .number_or_null("mean", spread.mean())
            .with("precision", |out| {
                // A write to a Vec cannot fail.
                let _ = write!(out, "{}", page.stats.precision());
            })
            .with("buckets", |out| buckets(spread, out))
            .end();
    }
}

/// `{"process":"nginx[812]","remote":null}`.
fn group(by: &[By], names: Option<&Vec<Option<Vec<u8>>>>, out: &mut Vec<u8>) {
    let Some(names) = names else {
        out.extend_from_slice(b"null");
        return;
    };
    out.push(b'{');
    for (index, (by, name)) in by.iter().zip(names).enumerate() {
        if index != 0 {
            out.push(b',');
        }
        let _ = write!(out, "\"{}\":", by.name());
        match name {
            Some(name) => string(name, out),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
}

/// `[{"from":1024,"below":2048,"count":3}]`.
fn buckets(spread: &Spread, out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, (from, below, count)) in spread.doublings().into_iter().enumerate() {
        if index != 0 {
            out.push(b',');
        }
        let _ = write!(out, "{{\"from\":{from},\"below\":{below},\"count\":{count}}}");
    }
    out.push(b']');
}
