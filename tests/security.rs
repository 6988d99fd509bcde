//! What must hold against somebody who looks: no secret is told, nobody learns who exists, rules hold in their order, and guessing costs
//! time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use support::clusters::{APP, APP_PASSWORD, MD5, MD5_PASSWORD, OTHER, OTHER_PASSWORD};
use support::frames::{Batch, Frame};
use support::raw::RawClient;
use support::world::{Plan, World};
use trunkline::wire::build;
use trunkline::wire::startup::PROTOCOL_3_0;

/// Guessed wrongly.
const GUESS: &str = "wrong-guess-7319";
/// Stands in statements and parameters.
const LITERAL: &str = "literal-secret-4711";
/// Stands in the configuration and nowhere else.
const UNUSED: &str = "unused-secret-2718";

fn log_in(world: &World, user: &str, password: &str, database: &str) -> Result<(), Frame> {
    RawClient::tcp(world.proxy.port()).login(password, &[("user", user), ("database", database)])
}

#[test]
fn no_secret_is_told_at_any_level_of_the_log() {
    let tables = format!(
        "[log]\nlevel = \"trace\"\n[slow_log]\nslow_query = \"1ms\"\n\
         [admin]\nadmin_users = [\"{APP}\"]\n\
         [users.{MD5}]\npassword = \"{MD5_PASSWORD}\"\n\
         [users.unused]\npassword = \"{UNUSED}\"\nserver_password = \"{UNUSED}\"\n\
         [[hba]]\nusers = [\"{OTHER}\"]\nmethod = \"password\"\nallow_plaintext = true\n\
         [[hba]]\nusers = [\"{MD5}\"]\nmethod = \"md5\"\n[[hba]]\nmethod = \"scram-sha-256\"\n"
    );
    let mut world = Plan { sql: "CREATE TABLE t (n int, s text)", tables: &tables, ..Plan::default() }.start();
    let database = world.db.name.clone();
    for (user, password) in [(APP, APP_PASSWORD), (OTHER, OTHER_PASSWORD), (MD5, MD5_PASSWORD)] {
        log_in(&world, user, password, &database).unwrap();
        log_in(&world, user, GUESS, &database).unwrap_err();
    }
    let _ = log_in(&world, "nobody", GUESS, &database);
    let mut client = world.client();
    for sql in [
        format!("SELECT pg_sleep(0.005), '{LITERAL}'"),
        format!("INSERT INTO t VALUES (1, '{LITERAL}')"),
        format!(
            "ALTER ROLE {APP} PASSWORD '{LITERAL}'; SELECT pg_sleep(0.005); ALTER ROLE {APP} PASSWORD '{APP_PASSWORD}'"
        ),
        format!("SET app.token TO '{LITERAL}'"),
        format!("SELECT '{LITERAL}'::int"),
        format!("SELECT '{LITERAL}"),
        format!("SELECT 1 /* {LITERAL} */ FROM nowhere"),
    ] {
        client.exchange(&Batch::new().query(&sql));
    }
    client.exchange(&Batch::new().run("SELECT pg_sleep(0.005), $1::text", &[Some(LITERAL)]).sync());
    let key = client.key.clone();
    client.cancel(world.proxy.port());
    // What administrators and monitoring see is no place for secrets either.
    let mut console = world.console();
    let mut told = world.proxy.http("/metrics").1;
    for table in ["CONFIG", "USERS", "DATABASES", "CLIENTS", "SERVERS", "POOLS", "ROUTES", "NODES"] {
        told += &format!("{:?}\n", console.exchange(&Batch::new().query(&format!("SHOW {table}"))));
    }
    // A reload that is refused, beside secrets; and one that is not.
    let path = world.proxy.dir().join("trunkline.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    for mistake in [
        config.replace(&format!("\"{UNUSED}\""), &format!("\"{UNUSED}")),
        config.replace("[users.unused]\npassword", "[users.unused]\npasword"),
        config.replace("[users.unused]\npassword = \"", "[users.unused]\nsize = 5\npassword = \"${NOWHERE}"),
        config.replace(UNUSED, &format!("{UNUSED}2")),
    ] {
        world.proxy.rewrite_config(&mistake);
        told += &format!("{:?}\n", console.exchange(&Batch::new().query("RELOAD")));
    }
    world.proxy.wait_for_log(&["reload"]);
    told += &world.proxy.log();
    let key_as_number = u32::from_be_bytes(key[4..8].try_into().unwrap()).to_string();
    let hex: String = key[4..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let secrets = [APP_PASSWORD, OTHER_PASSWORD, MD5_PASSWORD, GUESS, LITERAL, UNUSED, &key_as_number, &hex];
    for secret in secrets.into_iter().chain(["SCRAM-SHA-256$", ",p=", "md5c", "n,,n="]) {
        let shown = told.lines().find(|line| line.contains(secret));
        assert!(shown.is_none(), "{secret:?} in: {shown:?}");
    }
    assert!(told.contains("TRACE") && told.contains("DEBUG"), "the log was asked for everything");
}

/// All that a client sees of a login that fails, without what is random: types, lengths, codes and words.
fn seen(world: &World, user: &str, password: &str, database: &str) -> Vec<String> {
    use bytes::BytesMut;
    use postgres_protocol::authentication::{md5_hash, sasl};
    use postgres_protocol::message::frontend;
    let mut client = RawClient::tcp(world.proxy.port());
    client.startup(&[("user", user), ("database", database)]);
    let mut scram = sasl::ScramSha256::new(password.as_bytes(), sasl::ChannelBinding::unsupported());
    let mut seen = Vec::new();
    while let Ok(frame) = client.try_recv() {
        if frame.tag != b'R' {
            // The name is the client's own.
            let text = format!("{frame:?} {:?} {:?}", frame.field(b'D'), frame.field(b'H'));
            seen.push(text.replace(&format!("\"{user}\""), "\"user\""));
            continue;
        }
        seen.push(format!("{} {} bytes", frame.body[3], frame.body.len()));
        let mut reply = BytesMut::new();
        match frame.body[3] {
            3 => frontend::password_message(password.as_bytes(), &mut reply).unwrap(),
            5 => {
                let hash = md5_hash(user.as_bytes(), password.as_bytes(), frame.body[4..8].try_into().unwrap());
                frontend::password_message(hash.as_bytes(), &mut reply).unwrap();
            }
            10 => frontend::sasl_initial_response("SCRAM-SHA-256", scram.message(), &mut reply).unwrap(),
            _ => {
                scram.update(&frame.body[4..]).unwrap();
                let first = String::from_utf8_lossy(&frame.body[4..]).into_owned();
                seen.push(first.split(",i=").nth(1).unwrap().to_owned());
                frontend::sasl_response(scram.message(), &mut reply).unwrap();
            }
        }
        client.send_bytes(&reply);
    }
    seen
}

#[test]
fn trap_76_nobody_learns_who_exists() {
    for method in ["method = \"scram-sha-256\"", "method = \"md5\"", "method = \"password\"\nallow_plaintext = true"] {
        let tables = format!("[client]\nfailed_login_delay = \"0\"\n[[hba]]\n{method}\n");
        let world = Plan { tables: &tables, ..Plan::default() }.start();
        let known = seen(&world, APP, GUESS, &world.db.name);
        assert!(known.last().unwrap().contains("28P01"), "{known:?}");
        for (user, database) in
            [("nobody", &*world.db.name), ("nobody", "nowhere"), (APP, "nowhere"), (OTHER, "nowhere")]
        {
            assert_eq!(seen(&world, user, GUESS, database), known, "{method}: {user}, {database}");
        }
        // Of the console, too.
        for user in ["nobody", APP] {
            assert_eq!(seen(&world, user, GUESS, "trunkline"), known, "{method}: {user} on the console");
        }
    }
}

#[test]
fn rules_hold_in_their_order() {
    let tables = format!(
        "[[hba]]\nusers = [\"{OTHER}\"]\nmethod = \"reject\"\n\
         [[hba]]\nusers = [\"{OTHER}\"]\nmethod = \"trust\"\n\
         [[hba]]\naddresses = [\"192.0.2.0/24\"]\nmethod = \"trust\"\n\
         [[hba]]\nusers = [\"{APP}\"]\nmethod = \"scram-sha-256\"\n\
         [[hba]]\nusers = [\"{APP}\"]\nmethod = \"trust\"\n"
    );
    let world = Plan { tables: &tables, ..Plan::default() }.start();
    let database = &world.db.name;
    let rejected = log_in(&world, OTHER, OTHER_PASSWORD, database).unwrap_err();
    assert_eq!((rejected.sqlstate().as_str(), rejected.field(b'S').as_deref()), ("28000", Some("FATAL")));
    assert_eq!(log_in(&world, APP, GUESS, database).unwrap_err().sqlstate(), "28P01", "a later rule helps nobody");
    log_in(&world, APP, APP_PASSWORD, database).unwrap();
    let unmatched = log_in(&world, "nobody", GUESS, database).unwrap_err();
    assert_eq!(unmatched.sqlstate(), "28000");
    assert!(unmatched.field(b'M').unwrap().starts_with("no HBA entry for host"), "{unmatched:?}");
}

/// The console is a database of its own: what is said of it holds by both of its names, and what is said of replication opens no way into
/// it, whatever a startup asks for.
#[test]
fn rules_of_the_console_cannot_be_got_round() {
    let tables = format!(
        "[admin]\nadmin_users = [\"{APP}\", \"{OTHER}\"]\n\
         [[hba]]\ndatabases = [\"replication\"]\nmethod = \"trust\"\n\
         [[hba]]\ndatabases = [\"trunkline\"]\nusers = [\"{OTHER}\"]\nmethod = \"reject\"\n\
         [[hba]]\nmethod = \"scram-sha-256\"\n"
    );
    let world = Plan { tables: &tables, ..Plan::default() }.start();
    let log_in = |user: &str, password: &str, database: &str, replication: &str| {
        let parameters = [("user", user), ("database", database), ("replication", replication)];
        RawClient::tcp(world.proxy.port()).login(password, &parameters).map_err(|frame| frame.sqlstate())
    };
    for database in ["trunkline", "pgbouncer"] {
        for replication in ["false", "true", "on", "1", "yes", "t"] {
            assert_eq!(log_in(APP, GUESS, database, replication), Err("28P01".to_owned()), "{database} {replication}");
            assert_eq!(log_in(OTHER, OTHER_PASSWORD, database, replication), Err("28000".to_owned()), "{database}");
        }
        assert_eq!(log_in(APP, APP_PASSWORD, database, "true"), Ok(()));
    }
}

#[test]
fn guessing_passwords_takes_time_and_nobody_elses() {
    let world = Plan { general: "[client]\nfailed_login_delay = \"700ms\"", ..Plan::default() }.start();
    let mut times = Vec::new();
    for _ in 0..13 {
        let began = Instant::now();
        assert_eq!(log_in(&world, APP, GUESS, &world.db.name).unwrap_err().sqlstate(), "28P01");
        times.push(began.elapsed());
    }
    assert!(times[10..].iter().all(|time| *time >= Duration::from_millis(700)), "{times:?}");
    let began = Instant::now();
    log_in(&world, APP, APP_PASSWORD, &world.db.name).unwrap();
    assert!(began.elapsed() < Duration::from_millis(700), "who knows the password does not wait");
}

#[test]
fn connections_that_are_only_held_keep_nobody_out() {
    let world = Plan { general: "[client]\nmax_logins = 20", ..Plan::default() }.start();
    let mut held: Vec<_> = (0..60).map(|_| RawClient::tcp(world.proxy.port())).collect();
    // Those of the console are connections, too.
    for client in &mut held[40..50] {
        client.startup(&[("user", APP), ("database", "trunkline")]);
    }
    for _ in 0..5 {
        log_in(&world, APP, APP_PASSWORD, &world.db.name).unwrap();
    }
    // The oldest had to go, the newest may still log in.
    assert!(held[0].is_closed() && held[30].is_closed() && held[40].is_closed());
    let newest = held.last_mut().unwrap();
    newest.login(APP_PASSWORD, &[("user", APP), ("database", &world.db.name)]).unwrap();
    assert_eq!(newest.value("SELECT 1"), "1");
    assert!(world.counter("trunkline_client_connections_refused_total", &["max_logins"]) >= 40.0);
}

/// A connection from another address of this machine.
fn connect_from(address: &str, world: &World) -> std::net::TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let address: std::net::SocketAddr = format!("{address}:0").parse().unwrap();
    socket.bind(&address.into()).unwrap();
    socket.connect(&std::net::SocketAddr::from(([127, 0, 0, 1], world.proxy.port())).into()).unwrap();
    std::net::TcpStream::from(socket)
}

fn startup(user: &str, database: &str) -> Vec<u8> {
    let mut packet = Vec::new();
    build::startup(&mut packet, PROTOCOL_3_0, &[("user", user), ("database", database)]);
    packet
}

/// One address that opens connections and says nothing keeps nobody else out, however slowly that one logs in.
#[test]
fn a_flood_from_one_address_turns_away_its_own() {
    let world = Plan { general: "[client]\nmax_logins = 20", ..Plan::default() }.start();
    let mut slow = RawClient::tcp(world.proxy.port());
    let held: Vec<_> = (0..100).map(|_| connect_from("127.0.0.2", &world)).collect();
    let refused = || world.counter("trunkline_client_connections_refused_total", &["max_logins"]);
    let deadline = Instant::now() + Duration::from_secs(10);
    while refused() < 80.0 {
        assert!(Instant::now() < deadline, "{}", refused());
    }
    slow.login(APP_PASSWORD, &[("user", APP), ("database", &world.db.name)]).unwrap();
    assert_eq!(slow.value("SELECT 1"), "1");
    drop(held);
}

#[test]
fn files_with_secrets_that_all_can_read_are_warned_of() {
    let mut world = Plan { primary_only: true, ..Plan::default() }.start();
    world.proxy.wait_for_log(&["WARN", "can be read by every user of this machine", "chmod 640"]);
    let path = world.proxy.dir().join("trunkline.toml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let program = std::process::Command::new(env!("CARGO_BIN_EXE_trunkline"));
    let mut program = program;
    let checked = program.arg("check").arg("--config").arg(&path).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    assert!(checked.status.success() && !said.contains("every user"), "{said}");
    assert!(!said.contains(APP_PASSWORD), "{said}");
}

/// Whoever asks for names that nobody has keeps the connections of `auth_query` busy, but only until it is the turn of others.
#[test]
fn made_up_users_of_one_address_hold_up_no_other() {
    let world = Plan {
        sql: "CREATE FUNCTION find(asked text) RETURNS TABLE (name text, secret text) LANGUAGE plpgsql SECURITY DEFINER AS \
              $$ BEGIN PERFORM pg_sleep(0.2); RETURN QUERY SELECT asked, 'sesame' WHERE asked LIKE 'guest%'; END $$",
        database: "auth_query = \"SELECT name, secret FROM public.find($1)\"\nserver_user = \"app\"",
        ..Plan::default()
    }
    .start();
    let strangers: Vec<_> = (0..100)
        .map(|number| {
            let mut stranger = connect_from("127.0.0.2", &world);
            std::io::Write::write_all(&mut stranger, &startup(&format!("nobody{number}"), &world.db.name)).unwrap();
            stranger
        })
        .collect();
    for guest in ["guest1", "guest2"] {
        let began = Instant::now();
        log_in(&world, guest, "sesame", &world.db.name).unwrap();
        let took = began.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    drop(strangers);
}
