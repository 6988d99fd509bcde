//! No secret is ever shown, however wrong the file is around it.

use super::{BASE, read, shown};
use crate::config::Secret;

/// Files in which the secret is `hunter2`, each with a mistake near it.
const NEAR: &[&str] = &[
    "[users.a]\npassword = \"hunter2\"\nsise = 3",
    "[users.a]\npassword = hunter2",
    "[users.a]\npassword = \"hunter2",
    "[users.a]\npassword \"hunter2\"",
    "[users.a]\npassword: hunter2",
    "[users.a]\npasswort = \"hunter2\"",
    "[users.a]\npasword = \"hunter2\"",
    "[users.a]\npw = \"hunter2\"",
    "[users.a]\nkey = [\"hunter2\"]",
    "[users.a]\npassword = [\"hunter2\"]",
    "[users.a]\npassword = { plain = \"hunter2\" }",
    "[users.a]\npassword = \"\"\"\nhunter2\nhunter2\"\"\"\nx = 1",
    "[users.a]\npassword = \"\"\"\nhunter2\nhunter2\"\"\"\n[users.a",
    "users = { a = { password = \"hunter2\", sise = 1 } }",
    "users.a.password = \"hunter2\"\nusers.a.password = \"hunter2\"",
    "# password = hunter2\nsise = 1",
    "[pool]\nsize = \"x\" # the password: hunter2\n",
    "[databases.a]\nurl = \"postgres://u:hunter2@h:x/d\"",
    "[databases.a]\nurl = \"postgres://u:hunter2\"",
    "[databases.a]\nurl = \"postgres://u:a/hunter2@h/d\"",
    "[databases.a]\nurl = \"postgres://u:a@hunter2@h/d?sslmode=x\"",
    "[databases.a]\nurl = \"postgres://u@h/d?password=hunter2&sslmode=x\"",
    "[databases.a]\nurl = 'postgres://u:hunter2@h/d'\nsise = 1",
    "[databases.a]\nurl = \"postgres://u:hunter2@h/d",
    "[databases.a]\nuri = \"postgres://u:hunter2@h/d\"",
    "[databases.a]\nreplica_urls = [\"postgres://u:hunter2@h:x/d\", \"postgres://v:hunter2@h/d\"]",
    "[databases.a]\nprimary = \"host=h user=u password=hunter2\"",
    "[databases.a]\nprimary = \"host=h password='a hunter2' x\"",
    "[databases.a]\ncontrol_password = \"hunter2\"",
    "[users.a]\npassword = \"hunter2${NOPE}\"",
    "[users.a]\npassword = \"hunter2${\"",
    "[users.a]\npassword = \"SCRAM-SHA-256$hunter2\"",
    "[users.a]\npassword = \"hunter2\\u0000\"",
    "[users.a]\npassword = \"hunter2\"\npassword_file = \"/nonexistent\"",
    // Commas and semicolons where a connection string has spaces.
    "[databases.a]\nprimary = \"host=h,password=hunter2\"",
    "[databases.a]\nprimary = \"host=h;password=hunter2\"",
    "[databases.a]\nprimary = \"host=h name=n,password=hunter2\"",
    "[databases.a]\nprimary = \"host=h zone=z,secret=hunter2\"",
    "[databases.a]\nprimary = \"host=h secret=hunter2\"",
    "[databases.a]\nurl = \"postgres://h,password=hunter2/d\"",
    "[[databases.a.nodes]]\nrole = \"primary\"\nhost = \"h,password=hunter2\"",
    "[[databases.a.nodes]]\nrole = \"primary\"\nhost = \"h;password=hunter2\"",
    "[databases]\na = \"host=h password=hunter2\"",
    "[databases]\na = \"postgres://u:hunter2@h/d\"",
    "[databases]\na = \"hunter2\"",
    "databases = \"hunter2\"",
    // Comments tell nothing that is needed.
    "sise = 1 # for user=app the secret hunter2",
    "# old one: hunter2\nsise = 1",
    "sise = \"#\" # pw hunter2",
    "sise = '''\n#''' # pw hunter2",
    // Files that are none of ours.
    "\"app\" \"hunter2\"\n",
    "\"app\" \"md5hunter2\" \"\"\n[pool]\nsize = ",
    "db1:5432:*:app:hunter2\n",
    "-----BEGIN PRIVATE KEY-----\nhunter2Hunter2=\n-----END PRIVATE KEY-----\n",
    "PGPASSWORD=hunter2\nsize = = 1",
    "export PW='hunter2'\n",
    "app = host=h pw=hunter2\n",
    "pw = \"hunter2\"\nsize = = 1",
    "# pw hunter2\nsize = = 1",
    "users = { a = \"hunter2\"\nsize = = 1",
    "x = \"\"\"\nhunter2\n",
    "[hunter2!\n",
];

#[test]
fn nothing_near_a_secret_shows_it() {
    for text in NEAR {
        let out = shown(text, &[]);
        assert!(!out.contains("hunter2"), "{text}\n{out}");
        assert!(!out.is_empty(), "{text}");
    }
}

#[test]
fn numbers_as_passwords_are_not_echoed() {
    for value in ["4711", "-4711", "47.11", "0x4711aa", "4711000000000000000000", "11:47:00", "true"] {
        let out = shown(&format!("{BASE}[users.a]\npassword = {value}"), &[]);
        assert!(!out.contains("47") && out.contains("users.a.password"), "{value}\n{out}");
    }
}

#[test]
fn variables_are_not_echoed() {
    let env = &[
        ("TRUNKLINE__USERS__A__PASSWORD", "hunter2"),
        ("TRUNKLINE__USERS__A__PASSWORT", "hunter2"),
        ("PW", "hunter2"),
    ];
    let out = shown(&format!("{BASE}[pool]\nsize = 0\n[users.b]\npassword=\"${{PW}}\""), env);
    assert!(!out.contains("hunter2"), "{out}");
    let url = &[("TRUNKLINE__DATABASES__APP__URL", "postgres://u:hunter2@h:x/d")];
    let out = shown(BASE, url);
    assert!(!out.contains("hunter2") && out.contains("port"), "{out}");
    for name in
        ["USERS__X", "USERS", "USERS__X__KEY", "HBA__9__PASS", "DATABASES__APP", "DATABASES__B", "POOL__SIZE", "A____B"]
    {
        for value in ["hunter2", "[hunter2", "{ a = \"hunter2\" }", "\"hunter2", "host=h,pw=hunter2"] {
            let out = shown(BASE, &[(&format!("TRUNKLINE__{name}"), value)]);
            assert!(!out.contains("hunter2") && out.contains(name), "{name}={value}: {out}");
        }
    }
}

/// Hosts are told by `trunkline check`, in the log and on the console.
#[test]
fn no_password_becomes_a_host() {
    for primary in ["host=h,password=hunter2", "host=h;password=hunter2", "host=h name=n,password=hunter2"] {
        assert!(read(&format!("[databases.a]\nprimary = \"{primary}\"\n[users.a]\npassword = \"x\""), &[]).is_err());
    }
}

#[test]
fn a_loaded_configuration_prints_no_secret() {
    let loaded =
        read("[databases.app]\nurl = \"postgres://app:hunter2@db1/app\"\n[users.a]\npassword = \"hunter2\"", &[])
            .unwrap();
    assert!(!format!("{loaded:?}").contains("hunter2"));
    assert_eq!(loaded.config.users["app"].secret, Some(Secret::new("hunter2")));
}

#[test]
fn secrets_from_files() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("pw"), "from file\r\n").unwrap();
    std::fs::write(dir.path().join("empty"), "\n").unwrap();
    let read = |file: &str| {
        let text = format!("{BASE}[users.a]\npassword_file = \"{file}\"");
        crate::config::load_text("t", &text, dir.path(), &Default::default())
    };
    assert_eq!(read("pw").unwrap().config.users["a"].secret, Some(Secret::new("from file")));
    assert!(read("empty").unwrap_err().to_string().contains("must hold one line"));
    assert!(read("none").unwrap_err().to_string().contains("there is no such file"));
}

#[test]
fn a_readable_file_with_secrets_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.toml");
    let warned = |text: &str, mode: u32| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let env = [("PW", "x")].into_iter().collect();
        let loaded = crate::config::load(&path, &env).unwrap();
        loaded.warnings.iter().any(|warning| warning.message().contains("every user of this machine"))
    };
    assert!(warned(BASE, 0o644));
    assert!(!warned(BASE, 0o640));
    assert!(!warned("[databases.app]\nurl = \"postgres://app:${PW}@db1/app\"\n", 0o644));
}

/// What is no verifier would be a password, which whoever has read it knows.
#[test]
fn a_verifier_that_cannot_be_used_is_a_mistake() {
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let with = |iterations: u64| {
        let text = format!("{BASE}[users.a]\npassword = 'SCRAM-SHA-256${iterations}:c2FsdA==${key}:{key}'");
        read(&text, &[]).map_err(|errors| errors.to_string())
    };
    assert!(with(4096).is_ok() && with(4_000_000).is_ok());
    for iterations in [0, 4_000_001, u64::from(u32::MAX) + 1] {
        assert!(with(iterations).unwrap_err().contains("not whole, or has too many iterations"), "{iterations}");
    }
}
