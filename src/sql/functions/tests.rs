use super::*;

fn reason(schema: Option<&str>, name: &str) -> Option<Reason> {
    judge(FunctionName { schema, name }, &FunctionLists::default()).reason
}

#[test]
fn the_table_is_whole() {
    assert!(TABLE.len() > 2600, "{}", TABLE.len());
    for name in SAFE_VOLATILE.iter().chain(&NODE_STATE) {
        assert!(TABLE.contains_key(name), "{name} is not a function of PostgreSQL");
    }
}

#[test]
fn volatility_and_its_corrections() {
    assert_eq!(reason(None, "lower"), None);
    assert_eq!(reason(Some("pg_catalog"), "now"), None);
    assert_eq!(reason(None, "random"), None);
    assert_eq!(reason(None, "pg_sleep"), None);
    assert_eq!(reason(None, "nextval"), Some(Reason::Sequence));
    assert_eq!(reason(None, "pg_stat_get_activity"), Some(Reason::NodeState));
    assert_eq!(reason(None, "pg_reload_conf"), Some(Reason::VolatileFunction));
    assert_eq!(reason(Some("public"), "lower"), Some(Reason::UnknownFunction));
    assert_eq!(reason(None, "LOWER"), Some(Reason::UnknownFunction));
    assert_eq!(reason(Some("information_schema"), "_pg_truetypid"), None);
}

#[test]
fn lists_come_first() {
    let lists = FunctionLists::new(["nextval", " Shop.Price "], ["audit.log"]);
    let of = |schema, name| judge(FunctionName { schema, name }, &lists);
    assert_eq!(of(None, "nextval").reason, None);
    assert_eq!(of(Some("shop"), "price").reason, None);
    assert_eq!(of(None, "price").reason, Some(Reason::UnknownFunction));
    assert_eq!(of(None, "log").reason, Some(Reason::ListedFunction), "search_path may lead to audit.log");
    assert_eq!(of(Some("pg_catalog"), "log").reason, None);
}
