//! What containers are called, and which pods they are of: from the files of Docker, Podman, CRI-O and containerd, and
//! from the links that kubelet makes to logs. No engine and no API server is asked.
//!
//! Whoever runs containers chooses what is in these files. They are read up to a size, never waited for, and what makes
//! no sense is as if it were not there.

mod engines;
mod kubelet;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::names::{self, Given};
use engines::Lists;
use kubelet::Links;

/// Containers that are looked for in one round; the others come in the next. A look takes some tens of microseconds.
const MOST_IN_A_ROUND: usize = 1_000;
/// Files come a little later than the cgroup. What has no name after so many rounds gets none.
const MOST_ROUNDS: u8 = 6;

/// What became of a container.
#[derive(Debug)]
enum Found {
    Named(Given),
    /// Nothing says its name, after so many rounds.
    Nameless(u8),
}

/// Names of containers, by the id of their cgroup. Each is looked for until it is found, and then never again.
#[derive(Debug)]
pub struct Containers {
    root: PathBuf,
    found: HashMap<u64, Found>,
}

impl Containers {
    /// Of the files below this root: `/`, but in tests.
    #[must_use]
    pub fn below(root: &Path) -> Containers {
        Containers { root: root.to_owned(), found: HashMap::new() }
    }

    /// The names of those among these cgroups (id, path below the root of the hierarchy) that are containers and have a
    /// name. Others are forgotten.
    pub fn named<'c>(
        &mut self,
        cgroups: impl Iterator<Item = (u64, &'c [u8])>,
    ) -> impl Iterator<Item = (u64, &Given)> {
        let mut before = std::mem::take(&mut self.found);
        let mut round = Round::new(&self.root);
        for (cgroup, path) in cgroups {
            let Some(id) = names::container(path).and_then(|id| std::str::from_utf8(id).ok())
            else {
                continue;
            };
            let rounds = match before.remove(&cgroup) {
                Some(Found::Nameless(rounds)) if rounds < MOST_ROUNDS => rounds,
                Some(known) => {
                    self.found.insert(cgroup, known);
                    continue;
                }
                None => 0,
            };
            let found = match round.look(id, path) {
                Looked::Found(given) => Found::Named(given),
                Looked::Nothing => Found::Nameless(rounds + 1),
                Looked::Later => Found::Nameless(rounds),
            };
            self.found.insert(cgroup, found);
        }
        self.found.iter().filter_map(|(cgroup, found)| match found {
            Found::Named(given) => Some((*cgroup, given)),
            Found::Nameless(_) => None,
        })
    }
}

enum Looked {
    Found(Given),
    Nothing,
    /// Enough was done in this round.
    Later,
}

/// What is read once in a round, when the first container asks for it.
struct Round<'r> {
    root: &'r Path,
    looked: usize,
    links: Option<Links>,
    lists: Option<Lists>,
}

impl<'r> Round<'r> {
    fn new(root: &'r Path) -> Round<'r> {
        Round { root, looked: 0, links: None, lists: None }
    }

    fn look(&mut self, id: &str, path: &[u8]) -> Looked {
        // The name of a container of LXC is its id.
        if id.len() != 64 {
            let container = Some(id.to_owned());
            return Looked::Found(Given { container, ..Given::default() });
        }
        if self.looked == MOST_IN_A_ROUND {
            return Looked::Later;
        }
        self.looked += 1;
        let links = self.links.get_or_insert_with(|| Links::read(self.root));
        // A pod's first container only holds its namespaces, and has no log.
        if let Some(given) = links.container(id) {
            return Looked::Found(given.clone());
        }
        let lists = self.lists.get_or_insert_with(|| Lists::read(self.root));
        let by_engine = lists.container(id).or_else(|| engines::container(self.root, id));
        let of_pod = || kubelet::pod_uid(path).and_then(|uid| links.pod(&uid).cloned());
        match by_engine.or_else(of_pod) {
            Some(given) => Looked::Found(given),
            None => Looked::Nothing,
        }
    }
}

#[cfg(test)]
mod tests;
