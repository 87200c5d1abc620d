//! Links in documents lead somewhere: to a file that is there, and to a heading that it has.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders with documents, seen from the repository's root.
const FOLDERS: [&str; 3] = ["", "docs", "packaging"];
/// The index, which has to name each document beside it.
const INDEX: &str = "docs/README.md";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Paths of all documents, seen from the root.
fn documents() -> Vec<PathBuf> {
    let mut all = Vec::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(root().join(folder)).into_iter().flatten().flatten() {
            let path = Path::new(folder).join(entry.file_name());
            if path.extension().is_some_and(|end| end == "md") {
                all.push(path);
            }
        }
    }
    all.sort();
    all
}

/// Lines of a document outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// The anchor that a heading gets: lower case, spaces as hyphens, of other signs only hyphens and underscores.
fn anchor(heading: &str) -> String {
    let kept = |sign: &char| sign.is_alphanumeric() || matches!(sign, ' ' | '-' | '_');
    heading.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// Where the links of a line lead.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// What is wrong with a link from this document; nothing when it is right.
fn wrong(from: &Path, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, wanted) = target.split_once('#').unwrap_or((target, ""));
    let path = match file {
        "" => from.to_owned(),
        file => from.parent().unwrap_or(Path::new("")).join(file),
    };
    let full = root().join(&path);
    if !full.exists() {
        return Some(format!("{}: {target} is not there", from.display()));
    }
    if wanted.is_empty() {
        return None;
    }
    let has = fs::read_to_string(&full).is_ok_and(|text| anchors(&text).contains(wanted));
    (!has).then(|| format!("{}: {target}: there is no such heading", from.display()))
}

#[test]
fn links_lead_somewhere() {
    let mut faults = Vec::new();
    let mut links = 0;
    for document in documents() {
        let text = fs::read_to_string(root().join(&document)).unwrap_or_default();
        for target in prose(&text).flat_map(targets) {
            links += 1;
            faults.extend(wrong(&document, target));
        }
    }
    assert!(links > 100, "only {links} links were found");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_index_names_every_document() {
    let index = fs::read_to_string(root().join(INDEX)).unwrap_or_default();
    let named: BTreeSet<&str> = prose(&index)
        .flat_map(targets)
        .map(|target| target.split_once('#').map_or(target, |(file, _)| file))
        .collect();
    let missing: Vec<_> = documents()
        .into_iter()
        .filter(|path| path.starts_with("docs") && path != Path::new(INDEX))
        .filter(|path| {
            !named.contains(path.file_name().and_then(|name| name.to_str()).unwrap_or(""))
        })
        .collect();
    assert!(missing.is_empty(), "{INDEX} does not name {missing:?}");
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let check = |target, expect: bool| {
        let wrong = wrong(Path::new("docs/README.md"), target);
        assert_eq!(wrong.is_some(), expect, "{target}: {wrong:?}");
    };
    check("style.md", false);
    check("../README.md", false);
    check("diagnosing.md#close_wait", false);
    check("diagnosing.md#fin_wait1-closing-last_ack", false);
    check("https://example.org/x", false);
    check("nothing.md", true);
    check("diagnosing.md#no-such-heading", true);
    check("#no-such-heading", true);
}

#[test]
fn every_code_of_a_finding_is_explained() {
    let text = fs::read_to_string(root().join("docs/diagnosing.md")).unwrap_or_default();
    let headings = anchors(&text);
    for page in tracer::engine::rules::explain::pages() {
        let code = page.code.to_string();
        // In the table, and below its heading.
        assert!(text.matches(&code).count() >= 2, "docs/diagnosing.md does not name {code}");
        assert!(headings.contains(page.anchor), "{code}: there is no heading {}", page.anchor);
    }
}
