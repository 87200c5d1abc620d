//! What outputs need of a run, and how the needs of several add up.

use std::time::Duration;

/// Part the rules take.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum RulesNeed {
    /// None.
    #[default]
    None,
    /// What they would need is read, so that a replay has it; they do not look.
    Facts,
    /// They look.
    Looks,
}

/// Which stacks are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StacksNeed {
    /// JVMs may be asked for names.
    pub attach: bool,
    /// Of accepts and reads, too, whatever it costs; else of connects only. Without them the run cannot be.
    pub accepted: bool,
    /// At the end, names are waited for of what has been open for so long.
    pub named_at_end: Option<Duration>,
    /// Thread dumps and class histograms of the JVMs that the findings are about; with `attach`.
    pub dumps: bool,
}

/// When an output is asked to draw.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Draws {
    /// Never.
    #[default]
    Never,
    /// At the end only.
    AtEnd,
    /// From the beginning on again and again, and at the end.
    Every(Duration),
    /// After a walk over everything; again after a walk when this time has passed. A replay draws at the end.
    Walked {
        /// Not `None`: again.
        again: Option<Duration>,
    },
}

/// When a run is done by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Until {
    /// Somebody stops it, or its time is up.
    #[default]
    Stopped,
    /// It has drawn what it walked.
    Drawn,
    /// The rules know what they need; unless the run was given a time.
    Facts,
}

/// What an output needs of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// Every input, as it comes in.
    pub inputs: bool,
    /// Changes of connections that pass its filter.
    pub changes: bool,
    /// The rules.
    pub rules: RulesNeed,
    /// Stacks of who opens sockets.
    pub stacks: Option<StacksNeed>,
    /// Names of the executables of processes that hold sockets.
    pub executables: bool,
    /// When it draws.
    pub draws: Draws,
    /// Queues and round-trip times are to be no older than this, where walks over every socket are cheap enough.
    pub fresh: Option<Duration>,
    /// The run reads what somebody does at the terminal.
    pub terminal: bool,
    /// When the run is done; what the first output says counts.
    pub until: Until,
}

impl Needs {
    /// What a run needs for this output and others. `until` stays.
    #[must_use]
    pub fn and(self, other: Needs) -> Needs {
        Needs {
            inputs: self.inputs || other.inputs,
            changes: self.changes || other.changes,
            rules: self.rules.max(other.rules),
            stacks: match (self.stacks, other.stacks) {
                (Some(one), Some(two)) => Some(one.and(two)),
                (one, two) => one.or(two),
            },
            executables: self.executables || other.executables,
            draws: self.draws.and(other.draws),
            fresh: match (self.fresh, other.fresh) {
                (Some(one), Some(two)) => Some(one.min(two)),
                (one, two) => one.or(two),
            },
            terminal: self.terminal || other.terminal,
            until: self.until,
        }
    }

    /// Whether an idle run may sleep for a second at a time. What is drawn has times of its own, and reads leave
    /// stacks without an event that wakes the reader.
    #[must_use]
    pub fn may_sleep(&self) -> bool {
        let draws = matches!(self.draws, Draws::Every(_) | Draws::Walked { .. });
        !draws && !self.terminal && self.stacks.is_none_or(|stacks| !stacks.accepted)
    }

    /// Time between draws that need a walk, where there are such draws: `Some(None)` for one draw.
    #[must_use]
    pub fn walked_draws(&self) -> Option<Option<Duration>> {
        match self.draws {
            Draws::Walked { again } => Some(again),
            _ => None,
        }
    }
}

impl StacksNeed {
    fn and(self, other: StacksNeed) -> StacksNeed {
        StacksNeed {
            attach: self.attach || other.attach,
            accepted: self.accepted || other.accepted,
            named_at_end: match (self.named_at_end, other.named_at_end) {
                (Some(one), Some(two)) => Some(one.min(two)),
                (one, two) => one.or(two),
            },
            dumps: self.dumps || other.dumps,
        }
    }
}

impl Draws {
    /// Walks are the source's work, so they win; each output keeps its own interval for the rest.
    fn and(self, other: Draws) -> Draws {
        match (self, other) {
            (Draws::Walked { again: one }, Draws::Walked { again: two }) => Draws::Walked {
                again: match (one, two) {
                    (Some(one), Some(two)) => Some(one.min(two)),
                    (one, two) => one.or(two),
                },
            },
            (walked @ Draws::Walked { .. }, _) | (_, walked @ Draws::Walked { .. }) => walked,
            (Draws::Every(one), Draws::Every(two)) => Draws::Every(one.min(two)),
            (every @ Draws::Every(_), _) | (_, every @ Draws::Every(_)) => every,
            (Draws::AtEnd, _) | (_, Draws::AtEnd) => Draws::AtEnd,
            (Draws::Never, Draws::Never) => Draws::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_draws_reads_keys_or_takes_stacks_of_reads_does_not_sleep() {
        let check = |needs: Needs, expect: bool| assert_eq!(needs.may_sleep(), expect, "{needs:?}");
        let none = Needs::default();
        let second = Duration::from_secs(1);
        check(none, true);
        check(Needs { rules: RulesNeed::Looks, changes: true, ..none }, true);
        check(Needs { draws: Draws::AtEnd, ..none }, true);
        check(Needs { draws: Draws::Every(second), ..none }, false);
        check(Needs { draws: Draws::Walked { again: None }, ..none }, false);
        check(Needs { terminal: true, ..none }, false);
        check(Needs { stacks: Some(StacksNeed::default()), ..none }, true);
        let accepted = StacksNeed { accepted: true, ..StacksNeed::default() };
        check(Needs { stacks: Some(accepted), ..none }, false);
    }
}
