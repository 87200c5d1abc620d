//! What somebody may have meant who mistyped a name.

/// How like a name has to be; clap takes the same for commands and options.
const LIKE: f64 = 0.7;

/// ` (did you mean X?)` with the name most like `text`, or nothing when none is like it.
#[must_use]
pub fn nearest(text: &str, names: &[&str]) -> String {
    let text = text.to_ascii_uppercase();
    let like = |name: &&str| strsim::jaro(&text, &name.to_ascii_uppercase());
    let best = names.iter().map(|name| (like(name), name)).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((score, name)) if score > LIKE && !text.eq_ignore_ascii_case(name) => {
            format!(" (did you mean {name}?)")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_like_name_is_suggested_and_none_that_is_not() {
        let names = ["ESTABLISHED", "CLOSE_WAIT", "CLOSING", "CLOSE"];
        let check = |text: &str, expect: &str| assert_eq!(nearest(text, &names), expect, "{text}");
        check("CLOSEWAIT", " (did you mean CLOSE_WAIT?)");
        check("clos_wait", " (did you mean CLOSE_WAIT?)");
        check("stablished", " (did you mean ESTABLISHED?)");
        check("xyz", "");
        check("", "");
        // Right already: what is wrong is something else.
        check("close_wait", "");
    }
}
