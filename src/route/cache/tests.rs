use crate::observe::Metrics;

use super::*;
use crate::catalog::{Sink, Snapshot};
use crate::sql::{FunctionLists, StatementLists};

fn cache() -> DecisionCache {
    DecisionCache::new(Knowledge::default())
}

const STD: LexOptions = LexOptions { standard_conforming_strings: true, safe_encoding: true };
const OFF: LexOptions = LexOptions { standard_conforming_strings: false, safe_encoding: true };

#[test]
fn a_text_is_analysed_once_and_its_literals_do_not_matter() {
    let cache = cache();
    for id in 0..100 {
        let sql = format!("SELECT * FROM t WHERE id = {id}");
        assert_eq!(cache.decide(sql.as_bytes(), STD).target, Target::Replica);
        assert_eq!(cache.decide(sql.as_bytes(), STD).target, Target::Replica);
    }
    assert_eq!(cache.misses(), 1);
}

#[test]
fn the_stable_fingerprint_is_kept_with_what_is_decided() {
    let cache = cache();
    let mut texts: Vec<Vec<u8>> = (0..9).map(|id| format!("SELECT * FROM t WHERE id = {id}").into_bytes()).collect();
    // Literals of several kinds, one that is not kept by its fingerprint, and one that no thread keeps.
    texts.extend(
        ["SELECT * FROM t WHERE id = 'x'", "SELECT set_config('a', 'b', 't')", r"SELECT '\'' OR '"].map(Into::into),
    );
    texts.push([b"SELECT 1 --".as_slice(), &[b' '; MAX_CACHED_TEXT]].concat());
    for text in &texts {
        for opts in [STD, OFF] {
            assert_eq!(cache.fingerprint_of(text, opts), sql::fingerprint(text, opts), "not judged yet");
            cache.decide(text, opts);
            for _ in 0..2 {
                assert_eq!(cache.fingerprint_of(text, opts), sql::fingerprint(text, opts));
            }
        }
    }
    cache.remember_primary(&texts[0], STD, RerunCause::ReadOnly);
    for text in &texts {
        cache.decide(text, STD);
        assert_eq!(cache.fingerprint_of(text, STD), sql::fingerprint(text, STD), "by other rules");
    }
}

#[test]
fn trap_19_standard_conforming_strings_is_part_of_the_key() {
    let cache = cache();
    let sql = br"SELECT '\'; DELETE FROM t; --'";
    assert_eq!(cache.decide(sql, STD).target, Target::Primary);
    assert_eq!(cache.decide(sql, OFF).target, Target::Replica);
    assert_eq!(cache.decide(sql, STD).target, Target::Primary);
}

#[test]
fn trap_19_an_unsafe_encoding_shares_nothing_with_ascii_texts() {
    let cache = cache();
    let sjis = LexOptions { safe_encoding: false, ..STD };
    assert_eq!(cache.decide(b"SELECT 'x'", sjis).target, Target::Replica);
    assert_eq!(cache.decide(b"SELECT '\x95\x5c'", sjis).reason, Reason::Encoding);
    assert_eq!(cache.decide(b"SELECT 'y'", sjis).target, Target::Replica);
}

#[test]
fn hinted_texts_share_nothing_with_others() {
    let cache = cache();
    assert_eq!(cache.decide(b"SELECT 1", STD).target, Target::Replica);
    assert_eq!(cache.decide(b"/* trunkline: primary */ SELECT 1", STD).target, Target::Primary);
    assert_eq!(cache.decide(b"SELECT 2", STD).target, Target::Replica);
    assert_eq!(cache.decide(b"SELECT f()", STD).target, Target::Primary);
    assert_eq!(cache.decide(b"SELECT f() -- trunkline: replica", STD).target, Target::Replica);
    assert_eq!(cache.decide(b"SELECT f() -- ", STD).target, Target::Primary);
}

#[test]
fn where_literals_matter_nothing_is_shared() {
    let cache = cache();
    let effects = |sql: &str| cache.decide(sql.as_bytes(), STD).effects;
    assert!(effects("SELECT set_config('a', 'b', 't')").contains(Effects::SET_LOCAL));
    assert!(effects("SELECT set_config('a', 'b', 'f')").contains(Effects::SET_SESSION));
    assert!(!effects("SELECT set_config('a', 'b', 't')").contains(Effects::SET_SESSION));
    assert_eq!(cache.decide(b"EXPLAIN (ANALYZE 0) DELETE FROM t", STD).reason, Reason::Explain);
    assert_eq!(cache.decide(b"EXPLAIN (ANALYZE 1) DELETE FROM t", STD).reason, Reason::Write);
}

#[test]
fn texts_of_one_key_are_judged_alike_whatever_numbers_the_parser_knows() {
    let alike = [
        ["SELECT 42 'x'", "SELECT 0X3f'x'"],
        ["SELECT a[42] 1", "SELECT a[17777777777777777777777] 1"],
        ["SELECT a[42] 1", "SELECT a[000000000000000000000042] 1"],
        ["SELECT x::varchar(10)", "SELECT x::varchar(1.5)"],
        ["SELECT 42 .&b", "SELECT .11.&b"],
    ];
    for [a, b] in alike {
        let alone = |sql: &str| cache().decide(sql.as_bytes(), STD);
        assert_eq!(alone(a), alone(b), "{a} | {b}");
        let cache = cache();
        assert_eq!(cache.decide(b.as_bytes(), STD), cache.decide(a.as_bytes(), STD));
        assert_eq!(cache.misses(), 1, "{a} | {b}");
    }
}

#[test]
fn reload_forgets() {
    let cache = cache();
    assert_eq!(cache.decide(b"SELECT f(1)", STD).target, Target::Primary);
    cache.reload(FunctionLists::new(["f"], ["lower"]), StatementLists::default());
    assert_eq!(cache.decide(b"SELECT f(1)", STD).target, Target::Replica);
    assert_eq!(cache.decide(b"SELECT lower('x')", STD).reason, Reason::ListedFunction);
    cache.reload(FunctionLists::default(), StatementLists::default());
    assert_eq!(cache.decide(b"SELECT f(1)", STD).target, Target::Primary);
}

#[test]
fn patterns_are_matched_when_a_statement_is_first_seen() {
    let lists = || StatementLists::new(["select * from audit*"], ["select f(*"]);
    let cache = DecisionCache::new(Knowledge { statements: lists(), ..Knowledge::default() });
    for id in 0..100 {
        let sql = format!("SELECT f({id})");
        assert_eq!(cache.decide(sql.as_bytes(), STD).reason, Reason::ListedRead);
        let sql = format!("SELECT a FROM audit WHERE id = {id}");
        assert_eq!(cache.decide(sql.as_bytes(), STD).reason, Reason::ListedStatement);
    }
    assert_eq!(cache.misses(), 2);
    cache.reload(FunctionLists::default(), StatementLists::default());
    assert_eq!(cache.decide(b"SELECT f(1)", STD).target, Target::Primary);
}

#[test]
fn two_caches_of_a_thread_do_not_mix() {
    let (one, two) = (cache(), DecisionCache::new(Knowledge::from(FunctionLists::new(["f"], [""; 0]))));
    for _ in 0..3 {
        assert_eq!(one.decide(b"SELECT f()", STD).target, Target::Primary);
        assert_eq!(two.decide(b"SELECT f()", STD).target, Target::Replica);
    }
}

#[test]
fn what_a_standby_refused_stays_on_the_primary() {
    let cache = cache();
    assert_eq!(cache.decide(b"SELECT * FROM bumping_view WHERE id = 1", STD).target, Target::Replica);
    cache.remember_primary(b"SELECT * FROM bumping_view WHERE id = 1", STD, RerunCause::ReadOnly);
    for id in 1..4 {
        let sql = format!("SELECT * FROM bumping_view WHERE id = {id}");
        assert_eq!(cache.decide(sql.as_bytes(), STD).reason, Reason::Learned);
    }
    cache.reload(FunctionLists::default(), StatementLists::default());
    assert_eq!(cache.decide(b"SELECT * FROM bumping_view WHERE id = 9", STD).reason, Reason::Learned);
    assert_eq!(cache.decide(b"SELECT * FROM other_view WHERE id = 9", STD).target, Target::Replica);
}

#[test]
fn long_texts_are_decided_as_well() {
    let cache = cache();
    let list = (0..20_000).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let sql = format!("SELECT * FROM t WHERE id IN ({list})");
    assert_eq!(cache.decide(sql.as_bytes(), STD).target, Target::Replica);
    assert_eq!(cache.decide(b"SELECT * FROM t WHERE id IN (1)", STD).target, Target::Replica);
    assert_eq!(cache.misses(), 1, "they are the same statement");
    let columns = vec!["a"; 20_000].join(", ");
    let sql = format!("SELECT {columns} FROM t");
    assert_eq!(cache.decide(sql.as_bytes(), STD).reason, Reason::TooLong);
}

#[test]
fn decisions_are_shared_between_threads() {
    let cache = cache();
    cache.decide(b"SELECT * FROM t", STD);
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(cache.decide(b"SELECT * FROM t", STD).target, Target::Replica));
    });
    assert_eq!(cache.misses(), 1);
}

#[test]
fn a_schema_that_was_read_too_early_is_judged_by_once_it_holds() {
    let cache = cache();
    cache.follow(Arc::new(Watched::new("db".to_owned(), Metrics::new().catalog_of("db"))));
    let (old, new) = (Arc::new(Snapshot::default()), Arc::new(Snapshot::default()));
    let judges_by = |snapshot: &Arc<Snapshot>| match cache.knowledge().catalog {
        sql::Catalog::Known(facts) => Arc::as_ptr(&facts).cast::<()>() == Arc::as_ptr(snapshot).cast(),
        _ => false,
    };
    assert!(cache.loaded(old.clone(), 0) && judges_by(&old));
    cache.remember_primary(b"SELECT * FROM v", STD, RerunCause::ReadOnly);
    // What is found to hold still says nothing new of what was learned.
    cache.schema_changed();
    assert!(!judges_by(&old));
    assert!(cache.loaded(old.clone(), 1) && judges_by(&old));
    assert_eq!(cache.decide(b"SELECT * FROM v", STD).reason, Reason::Learned);
    // A second change comes while the first is being read, and has nothing to show for itself.
    cache.schema_changed();
    cache.schema_changed();
    assert!(!cache.loaded(new.clone(), 2), "there was one more change");
    assert!(cache.loaded(new.clone(), 3) && judges_by(&new), "the old one is over");
    assert_eq!(cache.learned(), []);
    assert_eq!(cache.decide(b"SELECT * FROM v", STD).target, Target::Replica);
}
