//! `auth_type` and `auth_hba_file` become `[[hba]]` rules. A rule that cannot be said is left out when it lets somebody in, and
//! made wider when it keeps somebody out: the result is never more open than what it came from.

use std::net::IpAddr;
use std::rc::Rc;

use ipnet::IpNet;

use super::ImportError;
use super::ini::{Ini, Place};
use super::main_section::Shared;
use super::notes::Notes;
use super::out::Toml;
use super::users::Userlist;

/// Writes the rules.
pub(super) fn rules(
    ini: &mut Ini,
    users: &Userlist,
    shared: &Shared,
    toml: &mut Toml,
    notes: &mut Notes,
) -> Result<(), ImportError> {
    let file = ini.take("auth_hba_file");
    let auth = ini.take("auth_type");
    let kind = auth.as_ref().map_or("md5", |value| value.text.as_str()).to_ascii_lowercase();
    if kind == "hba"
        && let Some(file) = file
    {
        return from_file(ini, &file.text, users, shared, toml, notes);
    }
    let mut rule = |r#type: &str, method: &str| {
        toml.item("hba");
        toml.text("type", r#type);
        toml.text("method", method);
        if method == "password" {
            toml.raw("allow_plaintext", true);
        }
    };
    match kind.as_str() {
        "trust" | "any" => rule("any", "trust"),
        "md5" => rule("any", "md5"),
        "scram-sha-256" => rule("any", "scram-sha-256"),
        "plain" => rule("any", "password"),
        "cert" => rule("hostssl", "cert"),
        _ => {
            rule("any", "scram-sha-256");
            if let Some(auth) = &auth {
                notes.add(
                    &auth.place,
                    format!("auth_type {kind}: Trunkline has no such method; SCRAM-SHA-256 stands for it"),
                );
            }
        }
    }
    if let ("any", Some(auth)) = (kind.as_str(), &auth) {
        notes.add(&auth.place, "auth_type any: clients keep their own user unless the database has a server_user");
    }
    Ok(())
}

fn from_file(
    ini: &Ini,
    name: &str,
    users: &Userlist,
    shared: &Shared,
    toml: &mut Toml,
    notes: &mut Notes,
) -> Result<(), ImportError> {
    let path = ini.path(name);
    let file: Rc<str> = path.display().to_string().into();
    let text = std::fs::read_to_string(&path).map_err(|source| ImportError::Read { file: file.to_string(), source })?;
    for (number, line) in text.lines().enumerate() {
        let place = Place { file: file.clone(), line: number + 1 };
        let words = words(line);
        if words.is_empty() {
            continue;
        }
        match Rule::read(&words, ini, users, shared, &place, notes) {
            Ok(rule) => rule.write(toml),
            Err(why) => notes.add(&place, format!("{why}; the rule was left out")),
        }
    }
    // Who matches no rule is refused, here as there.
    toml.item("hba");
    toml.text("method", "reject");
    Ok(())
}

#[derive(Debug)]
struct Rule {
    kind: &'static str,
    databases: Vec<String>,
    users: Vec<String>,
    addresses: Vec<String>,
    method: &'static str,
}

impl Rule {
    fn read(
        words: &[String],
        ini: &Ini,
        users: &Userlist,
        shared: &Shared,
        place: &Place,
        notes: &mut Notes,
    ) -> Result<Self, String> {
        let kind = match words[0].as_str() {
            "local" => "local",
            "host" | "hostnogssenc" => "host",
            "hostssl" => "hostssl",
            "hostnossl" => "hostnossl",
            other => return Err(format!("type {other} is not known here")),
        };
        let [_, databases, names, rest @ ..] = words else { return Err("the rule is not complete".into()) };
        let (addresses, rest) = if kind == "local" { (Ok(Vec::new()), rest) } else { addresses(rest)? };
        let method = rest.first().ok_or("the rule has no method")?;
        let rejects = method == "reject";
        let method = match method.as_str() {
            "trust" => "trust",
            "reject" => "reject",
            "md5" => "md5",
            "scram-sha-256" => "scram-sha-256",
            "password" => "password",
            "cert" => "cert",
            other => return Err(format!("method {other} is not known here")),
        };
        if rest.len() > 1 {
            notes.add(place, format!("options {}: not carried over", rest[1..].join(" ")));
        }
        // What cannot be said of a rule that keeps clients out makes it keep out more of them.
        let mut wider = |part: Result<Vec<String>, String>| match part {
            Err(why) if rejects => {
                notes.add(place, format!("{why}: the rule now rejects all"));
                Ok(Vec::new())
            }
            part => part,
        };
        let asks = !rejects && method != "trust" && method != "cert";
        let databases = wider(database_names(databases, ini))?;
        let users = wider(user_names(names, users, asks && !shared.has_auth_query))?;
        let addresses = wider(addresses)?;
        Ok(Self { kind, databases, users, addresses, method })
    }

    fn write(&self, toml: &mut Toml) {
        toml.item("hba");
        toml.text("type", self.kind);
        for (key, names) in [("databases", &self.databases), ("users", &self.users), ("addresses", &self.addresses)] {
            if !names.is_empty() {
                toml.list(key, names);
            }
        }
        toml.text("method", self.method);
        if self.method == "password" && self.kind != "hostssl" {
            toml.raw("allow_plaintext", true);
        }
    }
}

/// A list of names; empty = all. Replication is meant by its own name only.
fn split(list: &str) -> Vec<&str> {
    let mut names: Vec<&str> = list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if names.contains(&"all") {
        let with_replication = names.contains(&"replication");
        names.retain(|name| with_replication && ["all", "replication"].contains(name));
    }
    names
}

fn database_names(list: &str, ini: &Ini) -> Result<Vec<String>, String> {
    let names = split(list);
    let known = |name: &str| {
        let special = ["all", "pgbouncer", "trunkline", "replication"].contains(&name);
        special || ini.databases.iter().any(|line| line.name == name || line.name == "*")
    };
    for name in &names {
        if name.starts_with(['+', '@', '/']) || ["sameuser", "samerole", "samegroup"].contains(name) {
            return Err(format!("database {name} cannot be said here"));
        }
    }
    keep(names, known, "database")
}

fn user_names(list: &str, users: &Userlist, must_be_known: bool) -> Result<Vec<String>, String> {
    let names = split(list);
    for name in &names {
        if name.starts_with(['+', '@', '/']) {
            return Err(format!("user {name} cannot be said here"));
        }
    }
    keep(names, |name| !must_be_known || users.get(name).is_some_and(|entry| !entry.secret.is_empty()), "user")
}

/// The names that there are; none of them is not the same as all.
fn keep(names: Vec<&str>, known: impl Fn(&str) -> bool, what: &str) -> Result<Vec<String>, String> {
    let kept: Vec<String> = names.iter().filter(|name| known(name)).map(|name| (*name).to_owned()).collect();
    if kept.is_empty() && !names.is_empty() {
        return Err(format!("there is no {what} {}", names.join(", ")));
    }
    Ok(kept)
}

type Addresses = Result<Vec<String>, String>;

/// The address, with its mask if that stands apart, and what is behind it.
fn addresses(words: &[String]) -> Result<(Addresses, &[String]), String> {
    let [address, rest @ ..] = words else { return Err("the rule has no address".into()) };
    if address == "all" {
        return Ok((Ok(Vec::new()), rest));
    }
    if address.parse::<IpNet>().is_ok() {
        return Ok((Ok(vec![address.clone()]), rest));
    }
    let Ok(ip) = address.parse::<IpAddr>() else {
        return Ok((Err(format!("address {address} cannot be said here")), rest));
    };
    match rest.first().and_then(|mask| mask.parse::<IpAddr>().ok()) {
        Some(mask) => {
            let net = IpNet::with_netmask(ip, mask).map_err(|_| format!("{mask} is not a mask"))?;
            Ok((Ok(vec![net.to_string()]), &rest[1..]))
        }
        None => Ok((Ok(vec![ip.to_string()]), rest)),
    }
}

/// The words of a line, in quotes or not, up to a comment. A list with spaces after its commas is one word.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '#' if !quoted => break,
            c if c.is_whitespace() && !quoted => {
                if word.as_ref().is_some_and(|word| !word.ends_with(',')) {
                    words.extend(word.take());
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
