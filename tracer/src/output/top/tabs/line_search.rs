//! Looks for texts in many lines at once: one search over all of them, not one for each.

use memchr::memmem::Finder;

/// Lines in lower case, one after the other.
pub(super) struct Lines {
    text: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Lines {
    /// A line for each of these.
    pub(super) fn of<T>(all: &[T], write: impl Fn(&T, &mut Vec<u8>)) -> Lines {
        let mut lines =
            Lines { text: Vec::with_capacity(all.len() * 32), ends: Vec::with_capacity(all.len()) };
        for one in all {
            write(one, &mut lines.text);
            // No text that is looked for has one, so none is found across lines.
            lines.text.push(b'\n');
            lines.ends.push(lines.text.len());
        }
        lines.text.make_ascii_lowercase();
        lines
    }

    /// How many lines there are.
    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// Which lines have all of these texts, given in lower case and without line breaks.
    pub(super) fn with(&self, texts: &[String]) -> Vec<usize> {
        let Some((first, others)) = texts.split_first() else {
            return (0..self.ends.len()).collect();
        };
        let others: Vec<Finder<'_>> = others.iter().map(Finder::new).collect();
        let first = Finder::new(first);
        let (mut found, mut from, mut line) = (Vec::new(), 0, 0);
        while let Some(at) = self.text.get(from..).and_then(|rest| first.find(rest)) {
            let at = from + at;
            line += self.ends.get(line..).map_or(0, |ends| ends.partition_point(|end| *end <= at));
            let Some(end) = self.ends.get(line).copied() else { break };
            let start = line.checked_sub(1).and_then(|before| self.ends.get(before)).unwrap_or(&0);
            let whole = self.text.get(*start..end).unwrap_or_default();
            if others.iter().all(|text| text.find(whole).is_some()) {
                found.push(line);
            }
            (from, line) = (end, line + 1);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_a_search_of_each_line_finds(
            lines in prop::collection::vec("[abAB:.]{0,6}", 0..40),
            texts in prop::collection::vec("[ab:.]{1,3}", 0..3),
        ) {
            let all = Lines::of(&lines, |line, out| out.extend_from_slice(line.as_bytes()));
            let each: Vec<usize> = (0..lines.len())
                .filter(|at| texts.iter().all(|text| lines[*at].to_lowercase().contains(text.as_str())))
                .collect();
            prop_assert_eq!(all.with(&texts), each);
        }
    }
}
