//! Time spent in a state, and how well it is known.

/// Time spent, and how well it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spent {
    /// Between two events of the kernel.
    Exactly(u64),
    /// From a kernel timer: right to a jiffy or, where one was in between, a tick of ours.
    About(u64),
    /// The beginning was not seen.
    AtLeast(u64),
    /// Nothing is known.
    Unknown,
}

impl Spent {
    /// A lower bound; of 0 it says nothing.
    #[must_use]
    pub const fn at_least(ns: u64) -> Spent {
        if ns == 0 { Spent::Unknown } else { Spent::AtLeast(ns) }
    }

    /// The figure, whatever it is worth.
    #[must_use]
    pub const fn ns(self) -> Option<u64> {
        match self {
            Spent::Exactly(ns) | Spent::About(ns) | Spent::AtLeast(ns) => Some(ns),
            Spent::Unknown => None,
        }
    }

    /// Whether it is between two events.
    #[must_use]
    pub const fn is_exact(self) -> bool {
        matches!(self, Spent::Exactly(_))
    }
}

/// How well a moment is known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Known {
    /// An event of the kernel.
    Exactly,
    /// Derived from a timer.
    About,
    /// It was then at the latest.
    AtLatest,
    /// Not at all: a transition was missed.
    Not,
}
