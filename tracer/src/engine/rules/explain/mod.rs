//! What each finding means, how it comes and what to do: a page for each code, in `tcptrail explain` and, by its
//! reference, in docs/diagnosing.md.
//!
//! A finding's verdict and advice say what is the case here; they stand in the file of its rule. What is always true
//! of such a finding stands in its page.

mod code;
mod idle;
mod itself;
mod no_answer;
mod not_closed;
mod runs_out;

pub use code::Code;

/// What is always true of a finding.
#[derive(Debug)]
pub struct Page {
    /// Which finding.
    pub code: Code,
    /// It in a few words.
    pub title: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// How it comes about.
    pub cause: &'static str,
    /// What to do, step by step.
    pub steps: &'static [&'static str],
    /// Commands that show more; capital letters stand for what the reader fills in.
    pub commands: &'static [&'static str],
    /// The heading in docs/diagnosing.md, as links have it.
    pub anchor: &'static str,
}

/// All pages, in the order of their codes.
pub fn pages() -> impl Iterator<Item = &'static Page> {
    let all = [not_closed::PAGES, no_answer::PAGES, runs_out::PAGES, idle::PAGES, itself::PAGES];
    all.into_iter().flatten()
}

/// The page of a code.
#[must_use]
pub fn page(code: Code) -> Option<&'static Page> {
    pages().find(|page| page.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rules::RuleId;

    #[test]
    fn every_code_has_one_page_and_every_rule_a_code() {
        let codes: Vec<Code> = pages().map(|page| page.code).collect();
        assert_eq!(codes, Code::ALL, "a page each, in order");
        for rule in RuleId::ALL {
            assert_eq!(Code::of(rule).rule(), rule);
            assert_eq!(Code::of(rule).name(), rule.name(), "the first code of a rule has its name");
        }
    }

    #[test]
    fn pages_are_short_and_whole() {
        for page in pages() {
            let code = page.code;
            assert!(page.title.len() <= 48, "{code}: {}", page.title);
            assert!((1..=4).contains(&page.steps.len()), "{code}");
            assert!(!page.commands.is_empty(), "{code}");
            for command in page.commands {
                assert!(command.len() <= 74, "{code}: {command}");
            }
            for text in [page.meaning, page.cause].iter().chain(page.steps) {
                assert!(text.ends_with(['.', ':']), "{code}: {text}");
                for sentence in text.split(". ") {
                    let words = sentence.split(' ').count();
                    assert!(words <= 25, "{code}: {words} words: {sentence}");
                }
            }
        }
    }
}
