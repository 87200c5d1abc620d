//! The house stays in order: imports go one way and in no circle, and files stay short enough to read.
//!
//! `ALLOWED` is the drawing of imports in ARCHITECTURE.md. What a file imports is read off its text: its `use`
//! lines and paths that begin with `crate::`, followed through re-exports to the file that defines the name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Which module may import which others, beside itself. The longest name that fits a file counts.
const ALLOWED: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("names", &[]),
    ("frame", &[]),
    ("privileges", &[]),
    ("cli", &["record_format", "text", "time"]),
    ("event", &["time"]),
    ("answer", &["event"]),
    ("text", &["event"]),
    ("engine::conn", &["event", "time"]),
    ("files", &[]),
    ("containers", &["files", "names"]),
    ("hosts", &["files", "names", "privileges", "time"]),
    ("places", &["names"]),
    ("filter", &["engine::conn", "event", "names", "places"]),
    ("destroy", &["engine::conn", "event"]),
    ("input", &["engine::conn", "event", "time"]),
    ("record_format", &["engine::conn", "event", "time"]),
    (
        "engine",
        &["answer", "engine::conn", "event", "filter", "frame", "input", "names", "text", "time"],
    ),
    ("native", &["frame"]),
    ("java", &["answer", "native"]),
    ("symbolize", &["answer", "engine", "frame", "java", "native", "privileges"]),
    (
        "kernel",
        &["destroy", "engine", "engine::conn", "event", "filter", "names", "privileges", "time"],
    ),
    ("config", &["cli", "engine", "engine::conn", "event", "filter", "kernel", "places", "text"]),
    (
        "output",
        &[
            "answer",
            "config",
            "destroy",
            "engine",
            "engine::conn",
            "event",
            "filter",
            "frame",
            "input",
            "java",
            "names",
            "privileges",
            "record_format",
            "text",
            "time",
        ],
    ),
    (
        "source",
        &[
            "answer",
            "config",
            "containers",
            "destroy",
            "engine",
            "engine::conn",
            "event",
            "filter",
            "frame",
            "hosts",
            "input",
            "kernel",
            "names",
            "output",
            "privileges",
            "record_format",
            "symbolize",
            "text",
            "time",
        ],
    ),
    ("explain", &["engine", "text"]),
    (
        "doctor",
        &["engine", "engine::conn", "event", "filter", "kernel", "output", "privileges", "text"],
    ),
];

/// Lines a file may have outside its tests.
const MOST_LINES: usize = 400;

/// Lines a function may have between its braces.
const MOST_LINES_OF_A_FUNCTION: usize = 60;

/// One source file.
struct File {
    /// Its module: `engine::conn::table`.
    module: String,
    /// Without comments and without the tests at its end.
    text: String,
    lines: usize,
}

/// All source files of a crate but their tests.
fn files(root: &Path) -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry"))
        {
            let path = entry.path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8");
            if name == "tests" || name == "tests.rs" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let inner = path.strip_prefix(root).expect("below").with_extension("");
                let mut parts: Vec<_> = inner.iter().filter_map(|part| part.to_str()).collect();
                parts.pop_if(|last| *last == "mod");
                found.push(file(parts.join("::"), &fs::read_to_string(&path).expect("UTF-8")));
            }
        }
    }
    found.sort_by(|one, other| one.module.cmp(&other.module));
    found
}

fn file(module: String, text: &str) -> File {
    // Attributes may stand between the two.
    let tests = text.match_indices("#[cfg(test)]\n").find(|(at, attribute)| {
        let after = text[at + attribute.len()..].lines().find(|line| !line.starts_with("#["));
        after == Some("mod tests {")
    });
    let own = tests.map_or(text, |(at, _)| &text[..at]);
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    File {
        module,
        lines: own.lines().count(),
        text: own.lines().map(code).collect::<Vec<_>>().join("\n"),
    }
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn flatten(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        return if path.is_empty() { Vec::new() } else { vec![path.to_owned()] };
    };
    let close = tree.rfind('}').expect("a closing brace");
    let (before, inner) = (&tree[..open], &tree[open + 1..close]);
    let (mut depth, mut start, mut all) = (0, 0, Vec::new());
    for (at, character) in inner.char_indices().chain([(inner.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                all.extend(flatten(&format!("{before}{}", inner[start..at].trim())));
                start = at + 1;
            }
            _ => {}
        }
    }
    all
}

/// `use` lines of a file: whether they re-export, and the paths.
fn uses(text: &str) -> Vec<(bool, String)> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("use ") {
        let line = rest[..at].rsplit('\n').next().unwrap_or_default().trim();
        let after = &rest[at + 4..];
        if line.is_empty() || line == "pub" || line.starts_with("pub(") {
            let end = after.find(';').unwrap_or(after.len());
            let tree = after[..end].replace('\n', " ");
            // A line of a text may begin with the same word.
            let of_paths = |c: char| c.is_alphanumeric() || " _:{},*".contains(c);
            if !tree.chars().all(of_paths) {
                rest = after;
                continue;
            }
            all.extend(flatten(&tree).into_iter().map(|path| (!line.is_empty(), path)));
        }
        rest = after;
    }
    all
}

/// Other paths from the crate's root that stand in a file's text.
fn paths(text: &str) -> Vec<String> {
    text.match_indices("crate::")
        .map(|(at, _)| {
            let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            text[at..].chars().take_while(|&c| is_part(c)).collect::<String>()
        })
        .map(|path| path.trim_end_matches(':').to_owned())
        .collect()
}

/// Which files of a crate a path can mean.
struct Names<'a> {
    modules: BTreeSet<&'a str>,
    /// By module: names it re-exports, and what they are.
    exports: BTreeMap<&'a str, BTreeMap<String, String>>,
}

impl Names<'_> {
    /// A path as seen from a module, from the crate's root on; `None` when it leads out of the crate.
    fn absolute(&self, module: &str, path: &str) -> Option<String> {
        let join = |base: &str, rest: &str| match base {
            "" => rest.to_owned(),
            _ => format!("{base}::{rest}"),
        };
        let (first, rest) = path.split_once("::")?;
        match first {
            "crate" => Some(rest.to_owned()),
            "self" => Some(join(module, rest)),
            "super" => {
                let above = module.rsplit_once("::").map_or("", |(above, _)| above);
                if rest.starts_with("super::") {
                    self.absolute(above, rest)
                } else {
                    Some(join(above, rest))
                }
            }
            child => {
                let child = join(module, child);
                self.modules.contains(child.as_str()).then(|| format!("{child}::{rest}"))
            }
        }
    }

    /// The module that defines what an absolute path names.
    fn defining(&self, path: &str) -> Option<String> {
        let mut path = path.to_owned();
        for _ in 0..8 {
            let parts: Vec<&str> = path.split("::").collect();
            let known =
                |length: &usize| self.modules.contains(parts[..*length].join("::").as_str());
            let length = (1..=parts.len()).rev().find(known)?;
            let module = parts[..length].join("::");
            let export = parts
                .get(length)
                .and_then(|name| self.exports.get(module.as_str())?.get(*name).cloned());
            match export {
                Some(export) if export != path => {
                    path = [&[export.as_str()], &parts[length + 1..]].concat().join("::");
                }
                _ => return Some(module),
            }
        }
        None
    }
}

/// Which module imports which.
fn imports(files: &[File]) -> BTreeMap<String, BTreeSet<String>> {
    let mut names = Names {
        modules: files.iter().map(|file| file.module.as_str()).collect(),
        exports: BTreeMap::new(),
    };
    for file in files {
        let exported = uses(&file.text).into_iter().filter(|(exports, _)| *exports);
        let exported = exported.filter_map(|(_, path)| names.absolute(&file.module, &path));
        let of_file =
            exported.map(|path| (path.rsplit("::").next().unwrap_or_default().to_owned(), path));
        let of_file = of_file.collect();
        names.exports.insert(&file.module, of_file);
    }
    let mut graph = BTreeMap::new();
    for file in files.iter().filter(|file| !["lib", "main"].contains(&file.module.as_str())) {
        // What a module only hands on, its users import where it is.
        let own = uses(&file.text).into_iter().filter(|(exports, _)| !exports);
        let own = own.map(|(_, path)| path).chain(paths(&file.text));
        let found = own
            .filter_map(|path| names.absolute(&file.module, &path))
            .filter_map(|path| names.defining(&path))
            .filter(|module| *module != file.module);
        graph.insert(file.module.clone(), found.collect());
    }
    graph
}

/// A circle of imports, if there is one.
fn circle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit<'g>(
        module: &'g str,
        graph: &'g BTreeMap<String, BTreeSet<String>>,
        trail: &mut Vec<&'g str>,
        done: &mut BTreeSet<&'g str>,
    ) -> Option<Vec<String>> {
        if let Some(at) = trail.iter().position(|other| *other == module) {
            return Some(trail[at..].iter().map(|&module| module.to_owned()).collect());
        }
        if done.contains(module) {
            return None;
        }
        trail.push(module);
        for imported in graph.get(module).into_iter().flatten() {
            if let Some(found) = visit(imported, graph, trail, done) {
                return Some(found);
            }
        }
        trail.pop();
        done.insert(module);
        None
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|module| visit(module, graph, &mut Vec::new(), &mut done))
}

/// The row of `ALLOWED` that a module belongs to.
fn row(module: &str) -> Option<&'static (&'static str, &'static [&'static str])> {
    let below = |name: &str| {
        module.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    ALLOWED.iter().filter(|(name, _)| below(name)).max_by_key(|(name, _)| name.len())
}

/// Imports that the drawing does not have.
fn upwards(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (module, imported) in graph {
        let Some((own, allowed)) = row(module) else {
            wrong.push(format!("{module} has no row"));
            continue;
        };
        for other in imported {
            let of = row(other).map_or("", |(name, _)| name);
            if of != *own && !allowed.contains(&of) {
                wrong.push(format!("{module} imports {other}"));
            }
        }
    }
    wrong
}

fn crates() -> [(&'static str, String); 5] {
    ["tracer", "tracer-common", "tracer-ebpf", "xtask", "tests"]
        .map(|name| (name, format!("{}/../{name}/src", env!("CARGO_MANIFEST_DIR"))))
}

#[test]
fn imports_go_one_way() {
    let graph = imports(&files(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").as_path()));
    assert!(graph.len() > 50, "{} files", graph.len());
    let wrong = upwards(&graph);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_the_kernel_folder_knows_aya() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let knows = |file: &File| file.text.contains("aya::") || file.text.contains("aya_log::");
    let (inside, outside): (Vec<File>, Vec<File>) =
        files(&src).into_iter().filter(knows).partition(|file| file.module.starts_with("kernel"));
    assert!(!inside.is_empty());
    let outside: Vec<String> = outside.into_iter().map(|file| file.module).collect();
    assert!(outside.is_empty(), "{outside:?}");
}

#[test]
fn imports_go_in_no_circle() {
    for (name, path) in crates() {
        assert_eq!(circle(&imports(&files(Path::new(&path)))), None, "{name}");
    }
    // An object of its own, whose modules begin there.
    let stacks = format!("{}/../tracer-ebpf/src/stacks", env!("CARGO_MANIFEST_DIR"));
    let graph = imports(&files(Path::new(&stacks)));
    assert!(graph["emit"].contains("walk"), "{graph:?}");
    assert_eq!(circle(&graph), None);
}

#[test]
fn files_are_short() {
    let mut long = Vec::new();
    for (name, path) in crates() {
        let of_crate = files(Path::new(&path)).into_iter().filter(|file| file.lines > MOST_LINES);
        long.extend(of_crate.map(|file| format!("{name} {}: {}", file.module, file.lines)));
    }
    assert!(long.is_empty(), "longer than {MOST_LINES} lines: {long:#?}");
}

#[test]
fn architecture_names_every_folder() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("../ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    assert!(text.lines().count() < 200, "{} lines", text.lines().count());
    // A line each: the folder's name, then what it is for.
    let named: BTreeSet<&str> =
        text.lines().filter_map(|line| line.split_whitespace().next()?.strip_suffix('/')).collect();
    let mut missing = Vec::new();
    for (name, path) in crates() {
        let mut folders = vec![Path::new(&path).to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                let folder = path.file_name().and_then(|name| name.to_str()).expect("UTF-8");
                if path.is_dir() && !["tests", "bin", "snapshots"].contains(&folder) {
                    if !named.contains(folder) {
                        missing.push(format!("{name}: {folder}/"));
                    }
                    folders.push(path);
                }
            }
        }
    }
    assert!(missing.is_empty(), "no line of ARCHITECTURE.md is about {missing:?}");
}

/// Functions of a file that are too long. The code is formatted: a function ends where its indentation does.
fn long_functions(file: &File) -> Vec<String> {
    let lines: Vec<&str> = file.text.lines().collect();
    let mut long = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some((before, after)) = code.split_once("fn ") else { continue };
        let words =
            ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern", "\"C\""];
        if !before.split_whitespace().all(|word| words.contains(&word)) {
            continue;
        }
        let indent = &line[..line.len() - code.len()];
        let rest = &lines[at..];
        let Some(open) = rest.iter().position(|line| line.ends_with('{')) else { continue };
        let close = format!("{indent}}}");
        let Some(end) = rest.iter().position(|line| *line == close) else { continue };
        if end > open && end - open - 1 > MOST_LINES_OF_A_FUNCTION {
            let is_name = |c: char| c.is_alphanumeric() || c == '_';
            long.push(after.chars().take_while(|&c| is_name(c)).collect());
        }
    }
    long
}

#[test]
fn functions_are_short() {
    let mut long = Vec::new();
    for (name, path) in crates() {
        for file in files(Path::new(&path)) {
            let of_file = long_functions(&file).into_iter();
            long.extend(of_file.map(|function| format!("{name} {} {function}", file.module)));
        }
    }
    assert!(long.is_empty(), "longer than {MOST_LINES_OF_A_FUNCTION} lines: {long:#?}");
}

#[test]
fn what_is_wrong_is_found() {
    let graph = |files: &[(&str, &str)]| {
        let files: Vec<File> =
            files.iter().map(|(module, text)| file((*module).to_owned(), text)).collect();
        imports(&files)
    };
    let check = |files: &[(&str, &str)], wrong: &[&str], in_circle: &[&str]| {
        let graph = graph(files);
        assert_eq!(upwards(&graph), wrong, "{files:?}");
        assert_eq!(circle(&graph).unwrap_or_default(), in_circle, "{files:?}");
    };
    check(&[("time", ""), ("event", "use crate::time::MonoNs;")], &[], &[]);
    check(
        &[("time", "use crate::event::Event;"), ("event", "use crate::time::MonoNs;")],
        &["time imports event"],
        &["event", "time"],
    );
    // Through a re-export, from a path in the text, within braces, and of a parent.
    check(
        &[
            ("engine", "pub use rules::Watch;"),
            ("engine::rules", "fn f() { crate::output::print(); }"),
            ("output", "use crate::{engine::Watch, time::{MonoNs, Human}};"),
            ("time", ""),
        ],
        &["engine::rules imports output"],
        &["engine::rules", "output"],
    );
    check(
        &[
            ("engine", "pub(crate) use a::A;"),
            ("engine::a", "use super::b::B;"),
            ("engine::b", "use crate::engine::A;"),
        ],
        &[],
        &["engine::a", "engine::b"],
    );
    // Neither words in comments nor what only the tests import.
    check(
        &[
            (
                "time",
                "// use crate::event::Event;\n#[cfg(test)]\nmod tests {\n    use crate::event::E;",
            ),
            ("event", "use crate::time::MonoNs;"),
        ],
        &[],
        &[],
    );
    check(&[("attic", "")], &["attic has no row"], &[]);

    let function = |lines: usize| {
        let body = "        work();\n".repeat(lines);
        file(
            "x".to_owned(),
            &format!("impl X {{\n    pub(super) fn f(&self) {{\n{body}    }}\n}}\n"),
        )
    };
    assert!(long_functions(&function(MOST_LINES_OF_A_FUNCTION)).is_empty());
    assert_eq!(long_functions(&function(MOST_LINES_OF_A_FUNCTION + 1)), ["f"]);
}
