//! The fuzz targets of tests/fuzz on any compiler: over the corpus, and for some seconds over what seeded mutations make of it.
//! `make fuzz` lets libFuzzer search, which sees what code an input reaches.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "fuzz/targets/mod.rs"]
mod targets;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fastrand::Rng;

/// Seconds of mutations for each target; `TRUNKLINE_FUZZ_SECONDS` says otherwise.
const SECONDS: u64 = 3;
/// Longest input that is made.
const MAX_LEN: usize = 4096;
/// Numbers at which code has its edges, as the protocol writes them.
const EDGES: [u32; 10] = [0, 1, 3, 4, 8, 0x7f, 0xff, 0x3fff_fffe, 0x7fff_ffff, u32::MAX];

fn fuzz_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = fuzz_dir().join("corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    // The order of a directory is nobody's choice; the mutations shall be the same everywhere.
    files.sort();
    assert!(!files.is_empty(), "{}", dir.display());
    files.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The words of a dictionary of libFuzzer's: one `"word"` a line, with `\xNN` for bytes.
fn dictionary(name: &str) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(fuzz_dir().join(format!("dictionaries/{name}.dict"))).unwrap_or_default();
    let words = text.lines().filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix('"'));
    words.map(unescape).collect()
}

fn unescape(word: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = word;
    while let Some((before, escape)) = rest.split_once('\\') {
        out.extend_from_slice(before.as_bytes());
        rest = match escape.strip_prefix('x') {
            Some(hex) => {
                out.push(u8::from_str_radix(&hex[..2], 16).unwrap());
                &hex[2..]
            }
            None => {
                out.push(escape.as_bytes()[0]);
                &escape[1..]
            }
        };
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

/// One small change.
fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[Vec<u8>], rng: &mut Rng) {
    let at = rng.usize(0..=input.len());
    let end = (at + 1 + rng.usize(0..16)).min(input.len());
    match rng.u8(0..9) {
        0 if at < input.len() => input[at] ^= 1 << rng.u8(0..8),
        1 if at < input.len() => input[at] = rng.u8(..),
        2 => drop(input.drain(at..end)),
        3 => {
            let again = input[at..end].repeat(1 + rng.usize(0..4));
            input.splice(at..at, again);
        }
        4 if end - at == 4 => drop(input.splice(at..end, rng.choice(EDGES).unwrap().to_be_bytes())),
        4 => drop(input.splice(at..at, rng.choice(EDGES).unwrap().to_be_bytes())),
        5 | 6 if !words.is_empty() => drop(input.splice(at..at, rng.choice(words).unwrap().iter().copied())),
        7 => {
            let other = rng.choice(corpus).unwrap();
            input.truncate(at);
            input.extend_from_slice(&other[rng.usize(0..=other.len())..]);
        }
        _ => input.insert(at, rng.u8(..)),
    }
    input.truncate(MAX_LEN);
}

fn run(name: &str, target: fn(&[u8])) {
    let corpus = corpus(name);
    let try_one = |what: &str, input: &[u8]| {
        if catch_unwind(|| target(input)).is_err() {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
            fs::write(&path, input).unwrap();
            panic!("{name}: {what} fails, as {}: {}", path.display(), input.escape_ascii());
        }
    };
    for (number, input) in corpus.iter().enumerate() {
        try_one(&format!("number {number} of the corpus"), input);
    }
    let seconds = std::env::var("TRUNKLINE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let seed = std::env::var("TRUNKLINE_FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let (words, mut rng) = (dictionary(name), Rng::with_seed(seed));
    let (began, mut runs) = (Instant::now(), 0u64);
    while began.elapsed() < Duration::from_secs(seconds) {
        let mut input = rng.choice(&corpus).unwrap().clone();
        for _ in 0..1 + rng.usize(0..6) {
            mutate(&mut input, &corpus, &words, &mut rng);
        }
        try_one(&format!("mutation {runs} of seed {seed}"), &input);
        runs += 1;
    }
    eprintln!("{name}: {} of the corpus, {runs} mutations in {seconds} s", corpus.len());
}

#[test]
fn frames() {
    run("frames", targets::frames);
}

#[test]
fn startup() {
    run("startup", targets::startup);
}

#[test]
fn server_login() {
    run("server_login", targets::server_login);
}

#[test]
fn patroni() {
    run("patroni", targets::patroni);
}

#[test]
fn sql() {
    run("sql", targets::sql);
}

#[test]
fn config() {
    run("config", targets::config);
}

/// A target whose corpus is never run would go unnoticed.
#[test]
fn every_target_is_run_and_has_a_corpus() {
    let mut found: Vec<_> = fs::read_dir(fuzz_dir().join("corpus"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    let mut known: Vec<_> = targets::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    known.sort();
    assert_eq!(found, known);
    for name in known {
        assert!(fuzz_dir().join(format!("fuzz_targets/{name}.rs")).exists(), "{name}");
    }
}
