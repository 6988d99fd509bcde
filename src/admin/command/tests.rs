use super::*;
use crate::admin::action::NodeName;
use crate::admin::wish::Shutdown;

fn one(text: &str) -> Result<Command, ErrorNotice> {
    let statements = Statements::of(text)?;
    assert_eq!(statements.len(), 1, "{text}");
    statements.commands().next().unwrap()
}

fn table(text: &str) -> &'static str {
    match one(text) {
        Ok(Command::Table(table)) => table.name,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn names_in_any_case_with_quotes_comments_and_semicolons() {
    for text in
        ["SHOW POOLS", "show pools;", "Show \"pools\" ;;", "/* a */ SHOW -- b\n POOLS", "SELECT pools", "select POOLS;"]
    {
        assert_eq!(table(text), "pools");
    }
    assert_eq!(one("SHOW HELP").unwrap(), Command::Help);
    assert_eq!(one("SHOW;").unwrap(), Command::Help);
    assert_eq!(one(" reload ; ").unwrap(), Command::Act(Action::Reload));
    for text in ["", " ", ";;", "-- ping", "/* x */;"] {
        assert_eq!(Statements::of(text).unwrap().len(), 0);
    }
    assert_eq!(Statements::of("SHOW POOLS; SHOW STATS").unwrap().commands().count(), 2);
}

#[test]
fn route_takes_a_string_or_a_parameter() {
    let route = |sql: Option<&str>, database: Option<&str>| Command::Route {
        sql: sql.map(str::to_owned),
        database: database.map(str::to_owned),
    };
    assert_eq!(one("SHOW ROUTE 'SELECT ''a'''").unwrap(), route(Some("SELECT 'a'"), None));
    assert_eq!(one("show route $$SELECT ';'$$ shop;").unwrap(), route(Some("SELECT ';'"), Some("shop")));
    assert_eq!(one("SHOW ROUTE $x$a$$b$x$").unwrap(), route(Some("a$$b"), None));
    assert_eq!(one("SHOW ROUTE $1 \"Shop\"").unwrap(), route(None, Some("Shop")));
    assert_eq!(one("SHOW ROUTE $1").unwrap().parameters().len(), 1);
    for text in ["SHOW ROUTE", "SHOW ROUTE shop", "SHOW ROUTE 'a' b c", "SHOW ROUTE E'a'", "SHOW ROUTE 'a"] {
        assert_eq!(one(text).unwrap_err().code, SqlState::SYNTAX_ERROR, "{text}");
    }
}

#[test]
fn what_it_cannot_do_gets_a_clean_error_with_a_hint() {
    for (text, code) in [
        ("SELECT c.oid FROM pg_catalog.pg_class c", SqlState::FEATURE_NOT_SUPPORTED),
        ("SELECT version()", SqlState::FEATURE_NOT_SUPPORTED),
        ("SELECT 1", SqlState::FEATURE_NOT_SUPPORTED),
        ("WITH x AS (SELECT 1) SELECT", SqlState::FEATURE_NOT_SUPPORTED),
        ("SHOW POOL", SqlState::UNDEFINED_OBJECT),
        ("SHOW 'pools'", SqlState::SYNTAX_ERROR),
        ("PAUSE a b", SqlState::SYNTAX_ERROR),
        ("DISABLE", SqlState::SYNTAX_ERROR),
        ("DISABLE NODE shop.", SqlState::SYNTAX_ERROR),
        ("DISABLE NODE a b", SqlState::SYNTAX_ERROR),
        ("SWITCHOVER", SqlState::SYNTAX_ERROR),
        ("SWITCHOVER a b", SqlState::SYNTAX_ERROR),
        ("SUSPEND a", SqlState::SYNTAX_ERROR),
        ("SHUTDOWN now", SqlState::SYNTAX_ERROR),
        ("KILL_CLIENT", SqlState::INVALID_PARAMETER_VALUE),
        ("SET pool_mode", SqlState::SYNTAX_ERROR),
        ("SHOW POOLS x", SqlState::SYNTAX_ERROR),
        ("RELOAD now", SqlState::SYNTAX_ERROR),
        ("frobnicate", SqlState::SYNTAX_ERROR),
        ("(", SqlState::SYNTAX_ERROR),
    ] {
        let error = one(text).unwrap_err();
        assert_eq!(error.code, code, "{text}");
        assert!(error.hint.is_some() && !error.is_fatal(), "{text}");
    }
    assert!(one("SHOW POOL").unwrap_err().hint.unwrap().contains("SHOW POOLS"));
    assert_eq!(one("show 'x").unwrap_err().code, SqlState::SYNTAX_ERROR);
}

#[test]
fn changes_need_an_administrator() {
    for text in ["RELOAD", "PAUSE", "kill_client 7", "SHUTDOWN WAIT_FOR_CLIENTS", "SET max_client_conn = 3"] {
        assert_eq!(one(text).unwrap().needs(), Rights::Admin, "{text}");
    }
    for text in ["SHOW CONFIG", "SHOW ROUTE 'x'", "SELECT stats", "SET extra_float_digits = 3", "SET TIME ZONE 'UTC'"] {
        assert_eq!(one(text).unwrap().needs(), Rights::Stats, "{text}");
    }
}

#[test]
fn commands_that_change_something() {
    let act = |text: &str| match one(text) {
        Ok(Command::Act(action)) => action,
        other => panic!("{text}: {other:?}"),
    };
    let name = |text: &str| Some(text.to_owned());
    let node = |database: &str, node: &str| NodeName { database: database.to_owned(), node: node.to_owned() };
    let set = |key: &str, value: &str| Action::Set { key: key.to_owned(), value: value.to_owned() };
    for (text, expected) in [
        ("PAUSE", Action::Pause(None)),
        ("pause Shop;", Action::Pause(name("shop"))),
        ("Pause \"Shop\"", Action::Pause(name("Shop"))),
        ("DISABLE node", Action::Disable("node".to_owned())),
        ("DISABLE NODE Shop.r1", Action::DisableNode(node("shop", "r1"))),
        ("enable node \"Shop\".\"eu-1\"", Action::EnableNode(node("Shop", "eu-1"))),
        ("ENABLE NODE 'shop.r1'", Action::EnableNode(node("shop", "r1"))),
        ("SWITCHOVER shop", Action::Switchover { database: "shop".to_owned(), replica: None }),
        ("switchover Shop.\"Eu-1\"", Action::Switchover { database: "shop".to_owned(), replica: name("Eu-1") }),
        ("RESUME 'shop'", Action::Resume(name("shop"))),
        ("WAIT_CLOSE shop", Action::WaitClose(name("shop"))),
        ("kill_client 17", Action::KillClient(17)),
        ("SHUTDOWN wait_for_clients", Action::Shutdown(Shutdown::WaitForClients)),
        ("SET query_timeout = 30", set("query_timeout", "30")),
        ("set query_timeout=200ms;", set("query_timeout", "200ms")),
        ("SET pool.size TO '5'", set("pool.size", "5")),
        ("SET server_reset_query = 'DISCARD ALL; SELECT ''x'''", set("server_reset_query", "DISCARD ALL; SELECT 'x'")),
        ("SET admin_users = ann, bob", set("admin_users", "ann,bob")),
        ("SET whatever = ''", set("whatever", "")),
    ] {
        assert_eq!(act(text), expected, "{text}");
    }
    assert_eq!(act("SET query_timeout = 30").tag(), "SET query_timeout=30");
}
