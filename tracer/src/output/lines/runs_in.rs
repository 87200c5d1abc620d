//! Where something runs: service, container, pod; in JSON and for people.

use crate::engine::Engine;
use crate::engine::conn::Connection;
use crate::engine::rules::Finding;
use crate::names::{Kept, Names, Place};
use crate::output::json::{Object, key};
use crate::output::lines::beyond::Beyond;
use crate::text::{self, Paint, Row};

/// Where it runs: `cgroup` (its path) and `container` (its id), in lines about sockets and ends.
pub(crate) fn surroundings(object: &mut Object<'_>, names: &Names, conn: &Connection) {
    let place = names.place(conn.cgroup);
    object
        .string_or_null(key!("cgroup"), place.path)
        .string_or_null(key!("container"), place.container);
}

/// Where what a finding is about runs, as far as it is known.
pub(crate) fn place_of<'e>(engine: &'e Engine, finding: &Finding) -> Place<'e> {
    let mut cgroup = finding.cgroup;
    if cgroup == 0 {
        let conns = finding.conns.iter();
        let mut found = conns.filter_map(|sample| engine.table().find_any(sample.id));
        cgroup = found.find_map(|conn| (conn.cgroup != 0).then_some(conn.cgroup)).unwrap_or(0);
    }
    engine.names().place(cgroup)
}

/// What is known around a finding, kept: where it runs, and what is at the other end.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Known {
    place: Kept,
    pub(super) beyond: Beyond,
}

impl Known {
    /// Of a finding, while its sockets are known.
    pub(crate) fn of(engine: &Engine, finding: &Finding) -> Known {
        let place = Kept::from(&place_of(engine, finding));
        Known { place, beyond: Beyond::of(engine, finding) }
    }

    /// Where it runs.
    pub(crate) fn place(&self) -> Place<'_> {
        self.place.place()
    }
}

/// Where it runs, in the names that people gave.
#[inline]
pub(crate) fn called(object: &mut Object<'_>, place: &Place<'_>) {
    object
        .string_or_null(key!("service"), place.service)
        .string_or_null(key!("container_name"), place.container_name)
        .string_or_null(key!("pod"), place.pod)
        .string_or_null(key!("k8s_namespace"), place.namespace);
}

/// The same for people: `pod shop/web-0 (app)`, `container web`, `service shop.service`; nothing where nothing is known.
pub(crate) fn whereabouts(place: &Place<'_>, out: &mut Vec<u8>) {
    if let (Some(namespace), Some(pod)) = (place.namespace, place.pod) {
        out.extend_from_slice(b"pod ");
        text::name(namespace, out);
        out.push(b'/');
        text::name(pod, out);
        if let Some(container) = place.container_name {
            out.extend_from_slice(b" (");
            text::name(container, out);
            out.push(b')');
        }
    } else if let Some(container) = place.short_container() {
        out.extend_from_slice(b"container ");
        text::name(container, out);
    } else if let Some(service) = place.service {
        out.extend_from_slice(b"service ");
        text::name(service, out);
    }
}

/// The same at the end of a row, if that has room for it.
pub(crate) fn where_room(row: &mut Row<'_>, place: &Place<'_>, cell: &mut Vec<u8>) {
    if place.is_known() {
        cell.clear();
        cell.extend_from_slice(b"| ");
        whereabouts(place, cell);
        if row.has_room(text::columns(cell)) {
            row.cell(0, Paint::Dim, cell);
        }
    }
}
