//! How `list` sorts, limits and groups what it shows.

use crate::config::error::UsageError;
use crate::text::suggest;

/// What sockets are sorted or grouped by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// For how long it has been in its state.
    Age,
    /// Its state.
    State,
    /// Who has it: name and process id.
    Process,
    /// Who has it: the name alone.
    Comm,
    /// Our side of the handshake.
    Role,
    /// Our address and port.
    Local,
    /// Our port.
    Lport,
    /// The other side's address and port.
    Remote,
    /// The other side's address.
    Addr,
    /// The other side's port.
    Rport,
    /// Bytes unread; of a listener, connections not accepted.
    RecvQ,
    /// Bytes not acknowledged; of a listener, the limit of its queue.
    SendQ,
    /// Smoothed round-trip time.
    Rtt,
    /// Segments sent again.
    Retransmits,
    /// Network namespace.
    Netns,
    /// Container.
    Container,
    /// Of groups, how many sockets.
    Count,
}

impl Key {
    /// All, with their names on the command line.
    pub const ALL: [(Key, &'static str); 17] = [
        (Key::Age, "age"),
        (Key::State, "state"),
        (Key::Process, "process"),
        (Key::Comm, "comm"),
        (Key::Role, "role"),
        (Key::Local, "local"),
        (Key::Lport, "lport"),
        (Key::Remote, "remote"),
        (Key::Addr, "addr"),
        (Key::Rport, "rport"),
        (Key::RecvQ, "recv-q"),
        (Key::SendQ, "send-q"),
        (Key::Rtt, "rtt"),
        (Key::Retransmits, "retransmits"),
        (Key::Netns, "netns"),
        (Key::Container, "container"),
        (Key::Count, "count"),
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        Key::ALL.iter().find(|(key, _)| *key == self).map_or("", |(_, name)| name)
    }

    /// Whether sockets may be grouped by it.
    #[must_use]
    pub const fn groups(self) -> bool {
        !matches!(
            self,
            Key::Age | Key::RecvQ | Key::SendQ | Key::Rtt | Key::Retransmits | Key::Count
        )
    }

    /// Whether the largest comes first when it is sorted by; else names and addresses go up.
    #[must_use]
    pub const fn largest_first(self) -> bool {
        !self.groups()
    }
}

/// A key, and which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order {
    /// By what.
    pub key: Key,
    /// The other way than [`Key::largest_first`] says.
    pub reverse: bool,
}

/// What `list` shows of what passes the filter, and in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// By the first, then by the next; none for listeners first, then by state and age.
    pub sort: Vec<Order>,
    /// No more than so many rows.
    pub top: Option<usize>,
    /// A row for each group of sockets that have these in common; none for a row each.
    pub group_by: Vec<Key>,
}

impl Listing {
    /// From `--sort`, `--reverse`, `--top` and `--group-by`.
    ///
    /// # Errors
    /// What is wrong, with the remedy.
    pub fn new(
        sort: &[String],
        reverse: bool,
        top: Option<usize>,
        group_by: &[String],
    ) -> Result<Listing, UsageError> {
        let group_by =
            group_by.iter().map(|text| group_key(text)).collect::<Result<Vec<_>, _>>()?;
        let mut sort = sort
            .iter()
            .map(|text| order(text, reverse, &group_by))
            .collect::<Result<Vec<_>, UsageError>>()?;
        if reverse && sort.is_empty() {
            // What the order is without --sort.
            let key = if group_by.is_empty() { Key::Age } else { Key::Count };
            sort.push(Order { key, reverse });
        }
        if top == Some(0) {
            return Err(UsageError("--top 0 shows nothing: give the number of rows".into()));
        }
        Ok(Listing { sort, top, group_by })
    }
}

fn key(option: &str, text: &str, may: impl Fn(Key) -> bool) -> Result<Key, UsageError> {
    let plain = text.trim().to_ascii_lowercase().replace('_', "-");
    let found = Key::ALL.iter().find(|(key, name)| *name == plain && may(*key));
    found.map(|(key, _)| *key).ok_or_else(|| {
        let names: Vec<&str> =
            Key::ALL.iter().filter(|(key, _)| may(*key)).map(|(_, name)| *name).collect();
        let like = suggest::nearest(&plain, &names);
        UsageError(format!("{option} {text}: unknown{like}; use one of {}", names.join(", ")))
    })
}

fn group_key(text: &str) -> Result<Key, UsageError> {
    key("--group-by", text, Key::groups)
}

/// `age`, or `-age` for the other way.
fn order(text: &str, reverse: bool, group_by: &[Key]) -> Result<Order, UsageError> {
    let (name, other_way) = match text.trim().strip_prefix('-') {
        Some(name) => (name, true),
        None => (text, false),
    };
    let may = |key: Key| match group_by {
        [] => key != Key::Count,
        groups => matches!(key, Key::Count | Key::Age) || groups.contains(&key),
    };
    let option = if group_by.is_empty() { "--sort" } else { "--sort (of groups)" };
    Ok(Order { key: key(option, name, may)?, reverse: reverse != other_way })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(sort: &[&str], reverse: bool, group_by: &[&str]) -> Result<Listing, String> {
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        Listing::new(&owned(sort), reverse, None, &owned(group_by)).map_err(|error| error.0)
    }

    #[test]
    fn keys_go_either_way() {
        let check = |sort: &[&str], reverse, expect: &[(Key, bool)]| {
            let sorted = listing(sort, reverse, &[]).expect("good").sort;
            let sorted: Vec<_> = sorted.iter().map(|order| (order.key, order.reverse)).collect();
            assert_eq!(sorted, expect, "{sort:?}");
        };
        check(&[], false, &[]);
        check(&[], true, &[(Key::Age, true)]);
        check(&["age"], false, &[(Key::Age, false)]);
        check(&["-age", "recv_q"], false, &[(Key::Age, true), (Key::RecvQ, false)]);
        check(&["-age"], true, &[(Key::Age, false)]);
    }

    #[test]
    fn what_is_not_known_is_said_with_what_is() {
        let check = |sort: &[&str], group_by: &[&str], expect: &str| {
            let error = listing(sort, false, group_by).expect_err("wrong");
            assert!(error.contains(expect), "{error}");
        };
        check(&["agee"], &[], "did you mean age?");
        check(&["count"], &[], "--sort count: unknown");
        check(&["rtt"], &["state"], "one of age, state, count");
        check(&[], &["rtt"], "--group-by rtt: unknown");
        assert!(listing(&["count", "-state"], false, &["state"]).is_ok());
    }

    #[test]
    fn every_key_has_a_name_of_its_own() {
        for (index, (key, name)) in Key::ALL.iter().enumerate() {
            assert_eq!(key.name(), *name);
            let rest = &Key::ALL[index + 1..];
            assert!(rest.iter().all(|other| other.0 != *key && other.1 != *name), "{name}");
        }
    }
}
