use super::super::value::Rows;
use super::compare::is_like;
use super::*;

/// `list` and `items`, some of them NULL.
fn lists() -> Rows {
    let row = |list: &str, items: Option<i32>| vec![Value::from(list), items.map_or(Value::Null, Value::Int)];
    vec![row("pools", Some(3)), row("users", Some(3)), row("peers", None), row("Dns_names", Some(-1))]
}

fn shown(rows: &Rows) -> String {
    let value = |value: &Value| match value {
        Value::Null => "NULL".to_owned(),
        Value::Text(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Big(number) => number.to_string(),
        Value::Numeric(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
    };
    rows.iter().map(|row| row.iter().map(value).collect::<Vec<_>>().join(",")).collect::<Vec<_>>().join(" ")
}

fn with(sql: &str, parameters: &[Value]) -> String {
    let select = parse(sql).unwrap_or_else(|error| panic!("{sql}: {error}")).unwrap();
    shown(&run::over(&select, &lists(), parameters).unwrap_or_else(|error| panic!("{sql}: {error}")))
}

#[test]
fn rows_columns_and_order() {
    for (sql, expected) in [
        ("SELECT * FROM lists", "pools,3 users,3 peers,NULL Dns_names,-1"),
        ("SELECT items AS n, list, 'x' FROM lists l WHERE l.list = 'pools';", "3,pools,x"),
        ("select LIST from LISTS order by items desc nulls last, list desc", "users pools Dns_names peers"),
        ("SELECT list FROM lists ORDER BY 1", "Dns_names peers pools users"),
        ("SELECT list, items AS n FROM lists ORDER BY n, list LIMIT 2 OFFSET 1", "pools,3 users,3"),
        ("SELECT list FROM lists ORDER BY items DESC LIMIT 1", "peers"),
        ("SELECT list FROM lists LIMIT 0", ""),
        ("SELECT list FROM lists LIMIT ALL OFFSET 3", "Dns_names"),
        ("SELECT -1, 2.5 FROM lists LIMIT 1", "-1,2.5"),
    ] {
        assert_eq!(with(sql, &[]), expected, "{sql}");
    }
}

/// A thread of a test has as much of a stack as a worker.
#[test]
fn what_is_deep_or_long_is_refused() {
    let code = |sql: &str| parse(sql).unwrap_err().code;
    let chain = |count: usize| format!("SELECT list FROM lists WHERE {}", vec!["items = 1"; count].join(" OR "));
    assert_eq!(with(&chain(100), &[]), "");
    assert_eq!(code(&chain(200)), SqlState::STATEMENT_TOO_COMPLEX);
    assert_eq!(code(&chain(80_000)), SqlState::STATEMENT_TOO_COMPLEX);
    let having = format!("SELECT list FROM lists GROUP BY list HAVING {}", vec!["count(*) > 0"; 900].join(" AND "));
    assert_eq!(code(&having), SqlState::STATEMENT_TOO_COMPLEX);
    for sql in [vec!["SELECT 1"; 900].join(" UNION "), format!("SELECT {} FROM lists", vec!["1"; 7000].join("+"))] {
        // Refused, or nothing that the console has.
        assert!(!matches!(parse(&sql), Ok(Some(_))));
    }
    let nots = format!("SELECT list FROM lists WHERE {}items = 1", "NOT ".repeat(4000));
    assert!(parse(&nots).is_err());
}

#[test]
fn conditions_know_three_values() {
    for (condition, expected) in [
        ("items > 0", "pools users"),
        ("items >= -1 AND NOT items = 3", "Dns_names"),
        ("items <> 3", "Dns_names"),
        ("NOT (items = 3 OR items IS NULL)", "Dns_names"),
        ("items IS NULL", "peers"),
        ("items IS NOT NULL AND list < 'pools'", "Dns_names"),
        ("items = NULL OR list = 'peers'", "peers"),
        ("items IN (3, NULL)", "pools users"),
        ("items NOT IN (3, NULL)", ""),
        ("items NOT IN (3, 4)", "Dns_names"),
        ("list IN ('peers', 'users')", "users peers"),
        ("items BETWEEN -1 AND 2", "Dns_names"),
        ("items NOT BETWEEN -1 AND 2", "pools users"),
        ("list LIKE 'p%s' AND list NOT LIKE '%ee%'", "pools"),
        ("list ILIKE 'dns\\_%'", "Dns_names"),
        ("items = '3'", "pools users"),
        ("items < 2.5", "Dns_names"),
        ("3 = items", "pools users"),
        ("true", "pools users peers Dns_names"),
        ("NULL", ""),
    ] {
        assert_eq!(with(&format!("SELECT list FROM lists WHERE {condition}"), &[]), expected, "{condition}");
    }
}

#[test]
fn aggregates() {
    for (sql, expected) in [
        (
            "SELECT count(*), count(items), count(DISTINCT items), sum(items), min(items), max(list), avg(items) FROM lists",
            "4,3,2,5,-1,users,1.6666666666666667",
        ),
        ("SELECT count(*), sum(items), max(items) FROM lists WHERE list = 'none'", "0,NULL,NULL"),
        ("SELECT items, count(*) AS n FROM lists GROUP BY items ORDER BY n DESC, items", "3,2 -1,1 NULL,1"),
        ("SELECT items FROM lists GROUP BY items HAVING count(*) > 1", "3"),
        ("SELECT count(1) FROM lists HAVING sum(items) > 100", ""),
    ] {
        assert_eq!(with(sql, &[]), expected, "{sql}");
    }
    // A text where user is a word of SQL.
    let select = parse("SELECT user, sum(cl_active), max(pool_mode) m FROM pools GROUP BY user").unwrap().unwrap();
    assert_eq!(select.columns(), [("user", Kind::Text), ("sum", Kind::Big), ("m", Kind::Text)]);
}

#[test]
fn parameters_take_the_type_of_their_place() {
    let sql = "SELECT list FROM lists WHERE list LIKE $1 AND items = $2 LIMIT $3";
    let select = parse(sql).unwrap().unwrap();
    assert_eq!(select.parameters(), [Kind::Text, Kind::Int, Kind::Big]);
    let values = [
        parameter(Some(b"%s"), true, Kind::Text).unwrap(),
        parameter(Some(&3i32.to_be_bytes()), true, Kind::Int).unwrap(),
        parameter(Some(b"1"), false, Kind::Big).unwrap(),
    ];
    assert_eq!(with(sql, &values), "pools");
    assert_eq!(parameter(Some(b"x"), false, Kind::Int).unwrap_err().code, SqlState::INVALID_TEXT_REPRESENTATION);
    assert_eq!(parameter(Some(b"xyz"), true, Kind::Int).unwrap_err().code, SqlState::INVALID_BINARY_REPRESENTATION);
    assert_eq!(parse("SELECT * FROM totals WHERE value > $1").unwrap().unwrap().parameters(), [Kind::Big]);
}

#[test]
fn what_is_not_possible_says_so() {
    for (sql, code) in [
        ("SELECT * FROM pools JOIN users ON true", "0A000"),
        ("SELECT * FROM pools, users", "0A000"),
        ("SELECT DISTINCT database FROM pools", "0A000"),
        ("SELECT * FROM pools WHERE cl_active > (SELECT 1)", "0A000"),
        ("SELECT * FROM pools FOR UPDATE", "0A000"),
        ("SELECT lower(database) FROM pools", "0A000"),
        ("SELECT cl_active + 1 FROM pools", "0A000"),
        ("SELECT cl_active::text FROM pools", "0A000"),
        ("SELECT count(*) OVER () FROM pools", "0A000"),
        ("SELECT * FROM pools WHERE count(*) > 1", "0A000"),
        ("SELECT * FROM pools ORDER BY database USING <", "0A000"),
        ("SELECT * FROM pool", "42P01"),
        ("SELECT cl_activ FROM pools", "42703"),
        ("SELECT x.database FROM pools p", "42P01"),
        ("SELECT database, count(*) FROM pools", "42803"),
        ("SELECT * FROM pools WHERE database = 1", "42883"),
        ("SELECT * FROM pools WHERE cl_active = 'many'", "22P02"),
        ("SELECT sum(database) FROM pools", "42883"),
        ("SELECT * FROM pools WHERE cl_active LIKE '1%'", "42883"),
        ("SELECT * FROM pools ORDER BY 99", "42P10"),
        ("SELECT * FROM pools WHERE", "42601"),
        ("SELECT * FROM pools WHERE database = $0", "42601"),
        ("SELECT * FROM pools WHERE database = $70000", "42601"),
    ] {
        let error = parse(sql).unwrap_err();
        assert_eq!(error.code.as_str(), code, "{sql}: {error}");
    }
    for sql in ["SELECT 1", "SELECT oid FROM pg_class", "SELECT * FROM pg_catalog.pg_type", "SELECT * FROM f()"] {
        assert_eq!(parse(sql).unwrap(), None, "{sql}");
    }
    let select = parse("SELECT * FROM lists LIMIT -1").unwrap().unwrap();
    assert_eq!(run::over(&select, &lists(), &[]).unwrap_err().code, SqlState::INVALID_PARAMETER_VALUE);
}

#[test]
fn patterns() {
    for (text, pattern, like) in [
        ("", "", true),
        ("", "%", true),
        ("a", "_", true),
        ("", "_", false),
        ("abc", "a%", true),
        ("abcabd", "%abd", true),
        ("aab", "%ab", true),
        ("abc", "%b", false),
        ("a%c", "a\\%c", true),
        ("abc", "a\\%c", false),
        ("äöü", "_ö_", true),
        ("abcd", "a%c%d%", true),
    ] {
        assert_eq!(is_like(text, pattern, false), like, "{text} {pattern}");
    }
    // In time that does not grow with every %.
    assert!(!is_like(&"a".repeat(500), &format!("{}b", "%a".repeat(100)), false));
}
