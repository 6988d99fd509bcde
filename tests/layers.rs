//! The house rules that a compiler doesn't hold: a room imports only rooms above it, and files stay small.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, low to high: each may import the ones before it. ARCHITECTURE.md tells what lives where.
const ROOMS: [&str; 14] = [
    "wire", "sql", "config", "observe", "net", "auth", "backend", "pool", "topology", "catalog", "route", "session",
    "admin", "app",
];
/// Most lines of a file.
const FILE_LINES: usize = 600;
/// Most lines of tests inside a file that is not one of tests.
const INLINE_TEST_LINES: usize = 150;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `dir`, with its text.
fn files(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

fn rank(room: &str) -> Option<usize> {
    ROOMS.iter().position(|known| *known == room)
}

/// The text with comments blanked out, line by line: a link in a comment is no import.
/// A `//` inside a string ends the line too early, which can only hide what stands in a string.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The names that follow each `prefix::` in `code`: one identifier, or the first ones of a `{…}` group.
fn names_after<'a>(code: &'a str, prefix: &str) -> Vec<(usize, &'a str)> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        if code[..at].ends_with(|c: char| is_name(c) || c == ':' || c == '$') {
            continue;
        }
        let line = 1 + code[..at].matches('\n').count();
        let rest = &code[at + prefix.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut start = true;
            for (i, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    c if start && is_name(c) => {
                        let name = &group[i..];
                        found.push((line, &name[..name.find(|c| !is_name(c)).unwrap_or(name.len())]));
                        start = false;
                    }
                    _ => {}
                }
            }
        } else {
            found.push((line, &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())]));
        }
    }
    found
}

/// Imports in `text`, a file `path` of `src/`, that go upwards.
fn upward(path: &Path, text: &str) -> Vec<String> {
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    let room = parts[0].trim_end_matches(".rs");
    let Some(own) = rank(room) else { return Vec::new() };
    let code = code(text);
    let mut wrong = Vec::new();
    for (line, name) in names_after(&code, "crate::") {
        match rank(name) {
            Some(other) if other > own => wrong.push(format!("{}:{line}: {room} imports {name}", path.display())),
            _ => {}
        }
    }
    // From `room/file.rs` two `super` lead to the crate's root; one more with each folder and inline module.
    let depth = if parts.last() == Some(&"mod.rs") { parts.len() - 1 } else { parts.len() };
    for supers in depth..depth + 3 {
        for (line, name) in names_after(&code, &"super::".repeat(supers)) {
            if rank(name).is_some() && name != room {
                let hint = format!("{}:{line}: write crate::{name}", path.display());
                wrong.push(format!("{hint} instead of a chain of super"));
            }
        }
    }
    wrong
}

/// Lines of the inline test modules of `text`.
fn inline_test_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let mut total = 0;
    for (start, line) in lines.iter().enumerate() {
        if !line.trim_start().starts_with("#[cfg(test)]") {
            continue;
        }
        let Some(open) = (start..lines.len()).find(|i| !lines[*i].trim_start().starts_with("#[")) else { continue };
        let declaration = lines[open].trim_start();
        if !(declaration.contains("mod ") && declaration.ends_with('{')) {
            continue;
        }
        let indent = lines[open].len() - declaration.len();
        let close = format!("{}}}", " ".repeat(indent));
        let end = (open..lines.len()).find(|i| lines[*i] == close).unwrap_or(lines.len() - 1);
        total += end - start + 1;
    }
    total
}

#[test]
fn rooms_import_only_rooms_above_them() {
    let src = root().join("src");
    let wrong: Vec<String> =
        files(&src).iter().flat_map(|(path, text)| upward(path.strip_prefix(&src).unwrap(), text)).collect();
    assert!(wrong.is_empty(), "imports that go upwards:\n{}", wrong.join("\n"));
}

#[test]
fn the_crate_is_the_rooms() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let declared: Vec<&str> = lib.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(declared, ROOMS, "src/lib.rs lists the rooms in their order");
}

#[test]
fn files_stay_small() {
    let mut wrong = Vec::new();
    for dir in ["src", "tests", "benches"] {
        for (path, text) in files(&root().join(dir)) {
            let lines = text.lines().count();
            let shown = path.strip_prefix(root()).unwrap().display();
            if lines > FILE_LINES {
                wrong.push(format!("{shown}: {lines} lines, at most {FILE_LINES}"));
            }
            let is_tests = dir == "tests" || path.iter().any(|part| part == "tests" || part == "tests.rs");
            let inline = inline_test_lines(&text);
            if !is_tests && inline > INLINE_TEST_LINES {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                wrong.push(format!("{shown}: {inline} lines of tests inside; move them to {stem}/tests.rs"));
            }
        }
    }
    assert!(wrong.is_empty(), "files that are too long:\n{}", wrong.join("\n"));
}

#[test]
fn this_test_sees() {
    let wrong = |path: &str, text: &str| upward(Path::new(path), text).len();
    assert_eq!(wrong("wire/mod.rs", "use crate::sql::lexer;"), 1);
    assert_eq!(wrong("wire/mod.rs", "use crate::{sql, wire::{app}, session::serve};"), 2);
    assert_eq!(wrong("wire/mod.rs", "use crate::{\n    wire,\n    sql,\n};"), 1);
    assert_eq!(wrong("wire/mod.rs", "fn f() -> crate::app::X {}"), 1);
    assert_eq!(wrong("wire/mod.rs", "/// See [`crate::app`].\nuse crate::wire::x; // crate::sql"), 0);
    assert_eq!(wrong("session/relay.rs", "use crate::{pool, wire::x};\npub(in crate::session) fn f() {}"), 0);
    assert_eq!(wrong("wire/frame.rs", "use super::super::sql::x;"), 1);
    assert_eq!(wrong("session/extended/x.rs", "use super::super::pool;"), 0, "a module of its own room");
    assert_eq!(inline_test_lines("fn a() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n    fn t() {\n    }\n}\n"), 6);
    assert_eq!(inline_test_lines("#[cfg(test)]\nmod tests;\nfn a() {\n}\n"), 0);
}
