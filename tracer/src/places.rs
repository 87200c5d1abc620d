//! Filters by service, container and pod: which cgroups they mean.

use std::collections::HashSet;
use std::sync::{Arc, RwLock};

use crate::names::{Names, Place};

/// Digits of a container's id that say which one is meant.
const ID_PREFIX: usize = 8;

/// What is wanted. Names may have `*` for any number of characters. Clones share which cgroups these are, because
/// every output has a clone of the filter, and names come while it runs.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Units of systemd, with or without `.service`.
    services: Vec<String>,
    /// Names of containers, or the beginnings of their ids.
    containers: Vec<String>,
    /// Namespaces and names of pods.
    pods: Vec<(String, String)>,
    /// Only a run with such a filter takes this lock, and nobody else has it then.
    within: Arc<RwLock<Within>>,
}

/// The cgroups that are wanted, of those that have a name so far.
#[derive(Debug, Default)]
struct Within {
    version: u64,
    cgroups: HashSet<u64>,
}

impl PartialEq for Places {
    fn eq(&self, other: &Places) -> bool {
        let of = |places: &Places| {
            (places.services.clone(), places.containers.clone(), places.pods.clone())
        };
        of(self) == of(other)
    }
}

impl Eq for Places {}

impl Places {
    /// Services, containers, and pods by namespace and name.
    #[must_use]
    pub fn new(
        services: Vec<String>,
        containers: Vec<String>,
        pods: Vec<(String, String)>,
    ) -> Places {
        Places { services, containers, pods, within: Arc::default() }
    }

    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.containers.is_empty() && self.pods.is_empty()
    }

    /// Finds out which cgroups are meant, if names have come since the last time.
    pub fn learn(&self, names: &Names) {
        if self.is_empty() {
            return;
        }
        let Ok(mut within) = self.within.write() else { return };
        if within.version != names.version() {
            within.version = names.version();
            within.cgroups =
                names.cgroups().filter(|&id| self.wants_place(&names.place(id))).collect();
        }
    }

    /// Whether what is in this cgroup is wanted. Of a cgroup whose name is not known it is not.
    pub(crate) fn wants(&self, cgroup: u64) -> bool {
        self.is_empty() || self.within.read().is_ok_and(|within| within.cgroups.contains(&cgroup))
    }

    fn wants_place(&self, place: &Place<'_>) -> bool {
        let service = |wanted: &String| {
            let name = place.service.unwrap_or_default();
            let short = name.strip_suffix(b".service").unwrap_or(name);
            !name.is_empty() && (is_like(wanted, name) || is_like(wanted, short))
        };
        let container = |wanted: &String| {
            let id = place.container.unwrap_or_default();
            let by_id = wanted.len() >= ID_PREFIX && id.starts_with(wanted.as_bytes());
            by_id || place.container_name.is_some_and(|name| is_like(wanted, name))
        };
        let pod = |(namespace, name): &(String, String)| {
            place.namespace.is_some_and(|known| is_like(namespace, known))
                && place.pod.is_some_and(|known| is_like(name, known))
        };
        (self.services.is_empty() || self.services.iter().any(service))
            && (self.containers.is_empty() || self.containers.iter().any(container))
            && (self.pods.is_empty() || self.pods.iter().any(pod))
    }
}

/// Whether a name is like this pattern, in which `*` stands for any number of characters.
fn is_like(pattern: &str, name: &[u8]) -> bool {
    let mut parts = pattern.as_bytes().split(|&byte| byte == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts.filter(|part| !part.is_empty()) {
        let Some(at) = rest.windows(part.len()).position(|window| window == part) else {
            return false;
        };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{Entry, Given, encode};

    #[test]
    fn stars_stand_for_anything() {
        let check = |pattern: &str, name: &str, expect| {
            assert_eq!(is_like(pattern, name.as_bytes()), expect, "{pattern} {name}");
        };
        check("web", "web", true);
        check("web", "web1", false);
        check("web*", "web", true);
        check("web*", "web-7", true);
        check("*web", "my-web", true);
        check("*", "", true);
        check("a*b*c", "a-b-b-c", true);
        check("a*b*c", "a-c", false);
        check("a*a", "a", false);
        check("", "", true);
        check("", "x", false);
        check("**x", "yx", true);
    }

    #[test]
    fn cgroups_are_found_as_their_names_come() {
        let id = "0123456789abcdef".repeat(4);
        let given = Given {
            container: Some("app".to_owned()),
            namespace: Some("shop".to_owned()),
            pod: Some("web-0".to_owned()),
        };
        let mut names = Names::default();
        let mut take = |entries: &[(Entry, &[u8])]| {
            let mut bytes = Vec::new();
            for (entry, name) in entries {
                encode(*entry, name, &mut bytes);
            }
            names.take_in(&bytes);
            names.cgroups().count()
        };
        take(&[
            (Entry::Cgroup(1), b"/system.slice/nginx.service"),
            (Entry::Cgroup(2), format!("/kubepods/podx/{id}").as_bytes()),
            (Entry::Cgroup(3), b"/"),
        ]);
        let places = |services: &[&str], containers: &[&str], pods: &[(&str, &str)]| Places {
            services: services.iter().map(|&name| name.into()).collect(),
            containers: containers.iter().map(|&name| name.into()).collect(),
            pods: pods.iter().map(|&(namespace, name)| (namespace.into(), name.into())).collect(),
            ..Places::default()
        };
        let early = places(&[], &["app"], &[]);
        let clone = early.clone();
        early.learn(&names);
        assert!(!clone.wants(2));
        let mut bytes = Vec::new();
        encode(Entry::Container(2), &given.encode(), &mut bytes);
        names.take_in(&bytes);
        early.learn(&names);
        assert!(clone.wants(2), "clones share what is learned");
        let check = |places: Places, expect: &[u64]| {
            places.learn(&names);
            let wanted: Vec<u64> =
                [1, 2, 3, 4].into_iter().filter(|&id| places.wants(id)).collect();
            assert_eq!(wanted, expect, "{places:?}");
        };
        check(places(&[], &[], &[]), &[1, 2, 3, 4]);
        check(places(&["nginx"], &[], &[]), &[1]);
        check(places(&["nginx.service"], &[], &[]), &[1]);
        check(places(&["*"], &[], &[]), &[1]);
        check(places(&["ngin"], &[], &[]), &[]);
        check(places(&[], &["a*"], &[]), &[2]);
        check(places(&[], &["0123456789ab"], &[]), &[2]);
        check(places(&[], &["0123"], &[]), &[]);
        check(places(&[], &[], &[("shop", "web-*")]), &[2]);
        check(places(&[], &[], &[("*", "web-0")]), &[2]);
        check(places(&[], &[], &[("other", "*")]), &[]);
        check(places(&[], &["app"], &[("shop", "*")]), &[2]);
        check(places(&["nginx"], &["app"], &[]), &[]);
    }
}
