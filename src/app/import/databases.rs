//! The section `[databases]`.

use super::ini::{Ini, Line};
use super::main_section::{Shared, count, time, word};
use super::notes::Notes;
use super::out::{Toml, key};
use super::users::Userlist;

/// The query that PgBouncer asks by default, in the form that also tells until when a password is valid.
const AUTH_QUERY: &str =
    "SELECT rolname, rolpassword, rolvaliduntil FROM pg_catalog.pg_authid WHERE rolname = $1 AND rolcanlogin";

/// Settings that PgBouncer sends with the startup packet of each server connection.
const STARTUP: [&str; 4] = ["client_encoding", "datestyle", "timezone", "application_name"];

/// Leaves out databases whose names the console has.
pub(super) fn names(ini: &mut Ini, notes: &mut Notes) {
    ini.databases.retain(|line| {
        let reserved = line.name == "pgbouncer" || line.name == "trunkline";
        if reserved {
            notes.add(&line.place, format!("database {}: this name is the console's; left out", line.name));
        }
        !reserved
    });
}

/// `[databases.NAME]` for each line.
pub(super) fn write(ini: &Ini, users: &mut Userlist, shared: &Shared, toml: &mut Toml, notes: &mut Notes) {
    for line in &ini.databases {
        database(line, users, shared, toml, notes);
    }
    for peer in &ini.peers {
        notes.add(&peer.place, "peers: Trunkline is one process with as many workers as needed; not carried over");
    }
}

fn database(line: &Line, users: &Userlist, shared: &Shared, toml: &mut Toml, notes: &mut Notes) {
    let path = format!("databases.{}", key(&line.name));
    let place = &line.place;
    toml.section_always(&path);
    if let Some(name) = line.get("dbname") {
        toml.text("dbname", name);
    }
    let plain = |user: &str| users.get(user).filter(|entry| entry.is_plain()).map(|entry| entry.secret.clone());
    let forced = line.get("user");
    if let Some(user) = forced {
        toml.text("server_user", user);
        match line.get("password").map(str::to_owned).or_else(|| plain(user)) {
            Some(password) => toml.secret("server_password", &password),
            None => notes.add(place, format!("user={user}: no plain password is known for it; add server_password")),
        }
    } else if line.get("password").is_some() {
        notes.add(
            place,
            "password without user: PgBouncer uses it for every user's server connections; not carried over",
        );
    }
    if let Some(user) = line.get("auth_user").or(shared.auth_user.as_deref()) {
        toml.text("control_user", user);
        match plain(user) {
            Some(password) => toml.secret("control_password", &password),
            None => {
                notes.add(place, format!("auth_user {user}: no plain password is known for it; add control_password"))
            }
        }
        toml.text("auth_query", line.get("auth_query").or(shared.auth_query.as_deref()).unwrap_or(AUTH_QUERY));
    } else if forced.is_none() {
        notes
            .add(place, "no auth_user and no user: health checks have no login; add control_user and control_password");
    }
    limits(line, shared, toml, notes);
    pool(line, &path, toml, notes);
    toml.item(&format!("{path}.nodes"));
    toml.text("name", "primary");
    toml.text("role", "primary");
    hosts(line, shared, toml, notes);
    rest(line, notes);
}

fn limits(line: &Line, shared: &Shared, toml: &mut Toml, notes: &mut Notes) {
    let keys = [
        ("max_clients", "max_db_client_connections", &shared.max_db_client_connections),
        ("max_server_connections", "max_db_connections", &shared.max_db_connections),
    ];
    for (to, from, of_all) in keys {
        let text = line.get(from).or(of_all.as_deref());
        if let Some(n) = text.and_then(|text| count(text, &line.place, notes)).filter(|n| *n > 0) {
            toml.raw(to, n);
        }
    }
}

fn pool(line: &Line, path: &str, toml: &mut Toml, notes: &mut Notes) {
    let place = &line.place;
    toml.section(&format!("{path}.pool"));
    for (from, to) in [
        ("pool_size", "size"),
        ("min_pool_size", "min_size"),
        ("reserve_pool_size", "reserve_size"),
        ("reserve_pool", "reserve_size"),
    ] {
        if let Some(n) = line.get(from).and_then(|text| count(text, place, notes)) {
            toml.raw(to, n);
        }
    }
    if let Some(mode) = line.get("pool_mode") {
        word(toml, "mode", mode);
    }
    if let Some(text) = line.get("server_lifetime").and_then(|text| time(text, place, notes)) {
        toml.text("lifetime", &text);
    }
    // What PgBouncer says in the startup packet comes before what it runs.
    let literal = |value: &str| format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
    let settings = STARTUP.iter().filter_map(|name| Some(format!("SET {name} TO {}", literal(line.get(name)?))));
    let query: Vec<_> = settings.chain(line.get("connect_query").map(str::to_owned)).collect();
    if !query.is_empty() {
        toml.text("connect_query", &query.join("; "));
    }
}

fn hosts(line: &Line, shared: &Shared, toml: &mut Toml, notes: &mut Notes) {
    let port = line.get("port").unwrap_or("5432");
    let hosts: Vec<&str> = line.get("host").map(|hosts| hosts.split(',').map(str::trim).collect()).unwrap_or_default();
    match hosts.as_slice() {
        [] => {
            let dir = shared.socket_dir.as_deref().unwrap_or("/tmp");
            toml.text("host", dir);
            notes.add(
                &line.place,
                format!("no host: the Unix socket in {dir}, as PgBouncer does; see that it is the server's"),
            );
        }
        [host] => {
            if host.starts_with('@') {
                notes.add(&line.place, format!("host {host}: abstract sockets are not possible; put an address there"));
            }
            toml.text("host", host);
        }
        several => {
            let all: Vec<_> = several
                .iter()
                .map(|host| if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
                .collect();
            toml.list("hosts", &all);
            notes.add(
                &line.place,
                "several hosts: PgBouncer connects to them in turn; Trunkline takes them for addresses of one server and tries them in order (write [[nodes]] if some are replicas)",
            );
            return;
        }
    }
    match port.parse::<u16>() {
        Ok(port) if port > 0 => toml.raw("port", port),
        _ => notes.add(&line.place, format!("port {port}: not a port; the default was left")),
    }
}

fn rest(line: &Line, notes: &mut Notes) {
    const CARRIED: [&str; 19] = [
        "dbname",
        "host",
        "port",
        "user",
        "password",
        "auth_user",
        "auth_query",
        "pool_size",
        "min_pool_size",
        "reserve_pool",
        "reserve_pool_size",
        "pool_mode",
        "max_db_connections",
        "max_db_client_connections",
        "server_lifetime",
        "connect_query",
        "client_encoding",
        "datestyle",
        "timezone",
    ];
    for (name, _) in &line.pairs {
        if CARRIED.contains(&name.as_str()) || STARTUP.contains(&name.as_str()) {
            continue;
        }
        let why = match name.as_str() {
            "auth_dbname" => "auth_query runs in the database itself; not carried over",
            "load_balance_hosts" => "addresses are tried in order, reads are balanced over replicas; not carried over",
            _ => "not carried over: Trunkline has nothing like it",
        };
        notes.add(&line.place, format!("{name} of database {}: {why}", line.name));
    }
}
