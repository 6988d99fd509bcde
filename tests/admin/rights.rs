//! Who may log in, and what they may do; RELOAD.

use super::*;

fn refused(fixture: &Fixture, user: &str, password: &str, database: &str) -> Frame {
    let mut client = RawClient::tcp(fixture.proxy.port());
    let error = client.login(password, &[("user", user), ("database", database)]).unwrap_err();
    assert!(client.is_closed());
    error
}

#[test]
fn only_those_who_are_named_get_in() {
    let fixture = Fixture::new();
    for database in ["trunkline", "pgbouncer"] {
        let error = refused(&fixture, NOBODY, "x", database);
        assert_eq!(error.sqlstate(), "28000");
        assert!(error.field(b'M').unwrap().contains("not allowed"), "{error:?}");
        assert_eq!(error.field(b'S').as_deref(), Some("FATAL"));
    }
    // Without the password nobody learns who is named.
    for user in [APP, OTHER, NOBODY, "unknown"] {
        let error = refused(&fixture, user, "wrong", "trunkline");
        assert_eq!((error.sqlstate().as_str(), error.field(b'H')), ("28P01", None), "{user}");
    }
}

#[test]
fn stats_users_may_only_show_trap_79() {
    let fixture = Fixture::new();
    let mut client = fixture.console_as(OTHER, OTHER_PASSWORD);
    for sql in ["SHOW POOLS", "SHOW CONFIG", "SHOW ROUTE 'SELECT 1'", "SELECT stats", "SHOW timezone"] {
        client.rows(sql);
    }
    // Traps 72 and 79: every command has its check, whatever it is given.
    let name = &fixture.db.name;
    let commands = [
        "RELOAD",
        "PAUSE",
        "RESUME",
        "KILL",
        "KILL_CLIENT 1",
        "FORGET LEARNED",
        "FORGET ROUTES",
        "RECONNECT",
        "SUSPEND",
        "WAIT_CLOSE",
        "SHUTDOWN",
        "SHUTDOWN WAIT_FOR_CLIENTS",
        "SET max_client_conn = 1",
        "SET nonsense = 1",
    ];
    let of_database = ["PAUSE", "RESUME", "DISABLE", "ENABLE", "RECONNECT", "KILL", "WAIT_CLOSE"];
    let of_database = of_database.iter().map(|verb| format!("{verb} {name}"));
    for sql in commands.iter().map(|sql| (*sql).to_owned()).chain(of_database) {
        let sql = sql.as_str();
        assert_eq!(client.failure(sql), "42501", "{sql}");
        let frames = client.exchange(&Batch::new().run(sql, &[]).sync());
        assert_eq!(frames.iter().find(|frame| frame.tag == b'E').unwrap().sqlstate(), "42501", "{sql}");
    }
    // Nothing of it has happened.
    let mut admin = fixture.console();
    assert_eq!(table(&mut admin, "SHOW STATE")[0]["value"].as_deref(), Some("yes"));
    let databases = table(&mut admin, "SHOW DATABASES");
    assert!(
        databases.iter().all(|row| row["paused"].as_deref() == Some("0") && row["disabled"].as_deref() == Some("0"))
    );
}

#[test]
fn a_reload_takes_rights_away_at_once() {
    let fixture = Fixture::new();
    let mut admin = fixture.console();
    let mut stats = fixture.console_as(OTHER, OTHER_PASSWORD);
    let text = config(&fixture.db, "");
    fixture.proxy.rewrite_config(&text.replace(&format!("stats_users = [\"{OTHER}\"]"), "stats_users = []"));
    assert_eq!(tags(&admin.exchange(&Batch::new().query("RELOAD"))), "CZ");
    assert_eq!(stats.failure("SHOW POOLS"), "42501");
    assert_eq!(refused(&fixture, OTHER, OTHER_PASSWORD, "trunkline").sqlstate(), "28000");
}

#[test]
fn reload_applies_or_says_why_not() {
    let fixture = Fixture::new();
    let mut client = fixture.console();
    let size = |client: &mut RawClient| table(client, "SHOW DATABASES")[0]["pool_size"].clone().unwrap();
    assert_eq!(size(&mut client), "3");
    let text = config(&fixture.db, "");
    fixture.proxy.rewrite_config(&text.replace("size = 3", "size = 5"));
    assert_eq!(summary(&client.exchange(&Batch::new().query("reload;"))), "CommandComplete(RELOAD) ReadyForQuery(I)");
    assert_eq!(size(&mut client), "5");

    fixture.proxy.rewrite_config(&text.replace("size = 3", "size = \"many\""));
    let frames = client.exchange(&Batch::new().query("RELOAD"));
    assert_eq!(summary(&frames), "ErrorResponse(ERROR F0000: RELOAD failed, see logs) ReadyForQuery(I)");
    let detail = frames[0].field(b'D').unwrap();
    assert!(detail.contains("size"), "{detail}");
    assert_eq!(size(&mut client), "5", "a refused reload changes nothing");
}

#[test]
fn a_url_user_is_an_administrator() {
    let db = TestDb::new(clusters::shared());
    let proxy = Setup::before(&db).start();
    let mut client = RawClient::connect(proxy.port(), APP, APP_PASSWORD, "trunkline");
    assert_eq!(table(&mut client, "SHOW NODES").len(), 3);
    assert_eq!(client.failure("RELOAD"), "F0000");
}

#[test]
fn unknown_input_is_answered_and_the_session_goes_on() {
    let fixture = Fixture::new();
    let mut client = fixture.console();
    let mut texts = String::new();
    for sql in [
        "SHOW POOL",
        "SHOW 'pools'",
        "SHOW POOLS now",
        "frobnicate",
        "SELECT 1",
        "SELECT n.nspname FROM pg_catalog.pg_namespace n",
        "INSERT INTO t VALUES (1)",
        "SHOW ROUTE SELECT 1",
        "SHOW ROUTE 'SELECT 1' nowhere",
        "SHOW 'unterminated",
        "PAUSE a b",
        "SELECT * FROM pool",
        "SELECT database FROM pools JOIN users ON true",
    ] {
        let frames = client.exchange(&Batch::new().query(sql));
        assert_eq!(tags(&frames), "EZ", "{sql}");
        let field = |key| frames[0].field(key).unwrap_or_default();
        texts += &format!("{sql}\n  {} {}\n  {}\n", frames[0].sqlstate(), field(b'M'), field(b'H'));
    }
    insta::assert_snapshot!(texts);
    let frames = client.exchange(&Batch::new().raw(b'Q', b"SHOW \xff\0"));
    assert_eq!(summary(&frames[1..]), "ReadyForQuery(I)");
    assert_eq!(frames[0].sqlstate(), "22021");
    assert!(client.value("SHOW VERSION").starts_with("Trunkline"));
}
