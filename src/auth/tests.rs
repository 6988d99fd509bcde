//! Both sides of a login against each other, and against other people's SCRAM.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use postgres_protocol::authentication::sasl;

use super::keys::{ScramKeys, ScramVerifier};
use super::scram_client::{Begun, Binding};
use super::scram_server::{Exchange, Outcome};
use super::*;
use crate::config::{AuthMethod, HbaKind, HbaRule, Secret, User, UserPool};
use crate::net::Stream;
use crate::net::testing::{Certificates, tcp_pair, tls_pair, unix_pair};
use crate::wire::startup::Startup;
use crate::wire::{SqlState, build};

mod scram;

const PASSWORD: &str = "pencil";

fn context() -> AuthContext {
    AuthContext::new().unwrap()
}

fn startup(user: &str) -> Startup {
    let parameters = vec![("user".to_owned(), user.to_owned()), ("database".to_owned(), "app".to_owned())];
    Startup { minor: 0, parameters, protocol_options: Vec::new() }
}

fn user(name: &str, secret: Option<&str>) -> User {
    User {
        name: name.to_owned(),
        secret: secret.map(Secret::new),
        server_user: None,
        server_password: None,
        pool: UserPool::default(),
        slow_query: None,
        consistency: None,
        max_clients: None,
        max_server_connections: None,
    }
}

fn rule(method: AuthMethod) -> HbaRule {
    HbaRule {
        kind: HbaKind::Any,
        databases: Vec::new(),
        users: Vec::new(),
        addresses: Vec::new(),
        method,
        cert_map: BTreeMap::new(),
    }
}

fn verifier_text(password: &str) -> String {
    postgres_protocol::password::scram_sha_256(password.as_bytes())
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("took over twenty seconds")
}

/// Logs `credential` in as alice against the rules and her stored secret, over these two ends.
async fn login_over(
    (mut client, mut server): (Stream, Stream),
    rules: &[HbaRule],
    alice: Option<&User>,
    credential: &ServerCredential,
    contexts: (&AuthContext, &AuthContext),
) -> (Result<Authenticated, AuthError>, Result<ServerGreeting, ServerAuthError>) {
    let startup = startup("alice");
    let serving = async {
        let login = Login { startup: &startup, database: "app", hba: rules, user: alice, auth_query: None };
        let result = authenticate_client(&mut server, &login, contexts.0).await;
        let out = match &result {
            Ok(authenticated) => authenticated.greeting.clone(),
            Err(error) => {
                let mut out = Vec::new();
                error.notice().inspect(|notice| notice.encode(&mut out));
                out
            }
        };
        let _ = server.write_all(&out).await;
        server.shutdown();
        result
    };
    let connecting = async {
        let result = authenticate_server(&mut client, "alice", credential, contexts.1).await;
        client.shutdown();
        result
    };
    soon(async { tokio::join!(serving, connecting) }).await
}

async fn login(
    method: AuthMethod,
    secret: Option<&str>,
    credential: &ServerCredential,
) -> (Result<Authenticated, AuthError>, Result<ServerGreeting, ServerAuthError>) {
    let alice = user("alice", secret);
    login_over(unix_pair(), &[rule(method)], Some(&alice), credential, (&context(), &context())).await
}

fn refusal(result: &Result<ServerGreeting, ServerAuthError>) -> SqlState {
    match result {
        Err(ServerAuthError::Refused(notice)) => notice.code,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn every_secret_by_every_method_that_fits() {
    let hash = client::md5_secret(PASSWORD, "alice");
    let plain = ServerCredential::Plain(Secret::new(PASSWORD));
    let wrong = ServerCredential::Plain(Secret::new("pen"));
    let secrets = [PASSWORD.to_owned(), verifier_text(PASSWORD), hash.expose().to_owned()];
    let cases = [
        (AuthMethod::ScramSha256, [true, true, false]),
        (AuthMethod::Md5, [true, true, true]),
        (AuthMethod::Password { plain_ok: false }, [true, true, true]),
    ];
    for (method, works) in cases {
        for (secret, works) in secrets.iter().zip(works) {
            let (ours, theirs) = login(method, Some(secret), &plain).await;
            assert_eq!((ours.is_ok(), theirs.is_ok()), (works, works), "{method:?} {secret}: {ours:?} {theirs:?}");
            let (ours, theirs) = login(method, Some(secret), &wrong).await;
            assert!(matches!(ours, Err(AuthError::Failed { .. })), "{ours:?}");
            assert_eq!(refusal(&theirs), SqlState::INVALID_PASSWORD, "{method:?} {secret}");
        }
    }
    let (_, theirs) = login(AuthMethod::Md5, Some(PASSWORD), &ServerCredential::Md5Hash(hash)).await;
    theirs.unwrap();
    let (ours, theirs) = login(AuthMethod::Trust, None, &ServerCredential::None).await;
    assert_eq!(ours.unwrap().server_credential, ServerCredential::None);
    theirs.unwrap();
    let (_, theirs) = login(AuthMethod::Reject, Some(PASSWORD), &plain).await;
    assert_eq!(refusal(&theirs), SqlState::INVALID_AUTHORIZATION);
    assert!(theirs.unwrap_err().is_startup_refusal());
}

#[tokio::test]
async fn scram_pass_through() {
    let text = verifier_text(PASSWORD);
    let plain = ServerCredential::Plain(Secret::new(PASSWORD));
    let (ours, _) = login(AuthMethod::ScramSha256, Some(&text), &plain).await;
    let yielded = ours.unwrap().server_credential;
    assert!(matches!(yielded, ServerCredential::ScramKeys(_)), "{yielded:?}");
    // The key logs in where the same verifier is stored, and there only.
    let (ours, theirs) = login(AuthMethod::ScramSha256, Some(&text), &yielded).await;
    assert!(ours.is_ok() && theirs.is_ok(), "{theirs:?}");
    let (_, theirs) = login(AuthMethod::ScramSha256, Some(&verifier_text(PASSWORD)), &yielded).await;
    assert!(matches!(theirs, Err(ServerAuthError::OtherVerifier(_))), "{theirs:?}");
    for method in [AuthMethod::Md5, AuthMethod::Password { plain_ok: true }] {
        let (_, theirs) = login(method, Some(PASSWORD), &yielded).await;
        assert!(matches!(theirs, Err(ServerAuthError::CannotAnswer { .. })), "{theirs:?}");
    }
}

#[tokio::test]
async fn over_tls_scram_is_bound_to_the_channel() {
    let certificates = Certificates::make();
    let (ours, theirs) = (context(), context());
    let alice = user("alice", Some(PASSWORD));
    let plain = ServerCredential::Plain(Secret::new(PASSWORD));
    let rules = [rule(AuthMethod::ScramSha256)];
    let ends = tls_pair(&certificates, false).await;
    let (authenticated, greeting) = login_over(ends, &rules, Some(&alice), &plain, (&ours, &theirs)).await;
    assert!(authenticated.is_ok() && greeting.is_ok(), "{authenticated:?} {greeting:?}");

    // What the two ends say to each other, with the flags bent.
    let (_, server) = tls_pair(&certificates, false).await;
    let tls = server.tls_info().unwrap();
    let verifier = ScramKeys::derive(PASSWORD, b"salt", 1).verifier();
    let first = |mechanism: &str, message: &str| {
        Exchange::new(&ours, Some(tls), &verifier).client_first(mechanism, message.as_bytes()).map(|(c, _)| c)
    };
    assert_eq!(Exchange::new(&ours, Some(tls), &verifier).mechanisms(), ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]);
    // trap 77: `n` may pass, `y` is a downgrade, `p` belongs to PLUS and must name our binding
    assert!(first("SCRAM-SHA-256", "n,,n=,r=abc").is_ok());
    assert!(matches!(first("SCRAM-SHA-256", "y,,n=,r=abc"), Err(AuthError::ChannelBinding(_))));
    assert!(first("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r=abc").is_ok());
    for (mechanism, message) in [
        ("SCRAM-SHA-256-PLUS", "n,,n=,r=abc"),
        ("SCRAM-SHA-256-PLUS", "y,,n=,r=abc"),
        ("SCRAM-SHA-256-PLUS", "p=tls-unique,,n=,r=abc"),
        ("SCRAM-SHA-256", "p=tls-server-end-point,,n=,r=abc"),
        ("SCRAM-SHA-1", "n,,n=,r=abc"),
        ("SCRAM-SHA-256", "n,a=bob,n=,r=abc"),
        ("SCRAM-SHA-256", "n,,m=x,n=,r=abc"),
        ("SCRAM-SHA-256", "n,,r=abc"),
        ("SCRAM-SHA-256", ""),
        ("SCRAM-SHA-256", ","),
    ] {
        assert!(matches!(first(mechanism, message), Err(AuthError::Malformed(_))), "{mechanism} {message}");
    }

    // Someone between, with another certificate that the client accepts: the proof is bound to that one.
    let begun = Begun::with_user(Binding::EndPoint(vec![7; 32]), "", "abc");
    let exchange = Exchange::new(&ours, Some(tls), &verifier);
    let (challenged, server_first) =
        exchange.client_first("SCRAM-SHA-256-PLUS", begun.client_first().as_bytes()).unwrap();
    let challenge = begun.server_first(server_first.as_bytes()).unwrap();
    let (_, client_final) = begun.client_final(&challenge, &ScramKeys::derive(PASSWORD, b"salt", 1));
    assert!(matches!(challenged.client_final(client_final.as_bytes()), Err(AuthError::ChannelBinding(_))));
}

#[tokio::test]
async fn certificates_name_their_user() {
    let certificates = Certificates::make();
    let shared = context();
    let mut mapped = rule(AuthMethod::Cert);
    mapped.cert_map.insert("alice".to_owned(), "bob".to_owned());
    for (with_certificate, rule, works) in
        [(true, rule(AuthMethod::Cert), true), (false, rule(AuthMethod::Cert), false), (true, mapped, false)]
    {
        let ends = tls_pair(&certificates, with_certificate).await;
        let (ours, theirs) = login_over(ends, &[rule], None, &ServerCredential::None, (&shared, &shared)).await;
        assert_eq!(ours.is_ok(), works, "{ours:?}");
        if !works {
            assert_eq!(refusal(&theirs), SqlState::INVALID_AUTHORIZATION);
        }
    }
}

#[tokio::test]
async fn clear_text_needs_encryption() {
    let rules = |plain_ok| [rule(AuthMethod::Password { plain_ok })];
    let plain = ServerCredential::Plain(Secret::new(PASSWORD));
    let alice = user("alice", Some(PASSWORD));
    let shared = context();
    let (ours, theirs) = login_over(tcp_pair().await, &rules(false), Some(&alice), &plain, (&shared, &shared)).await;
    assert!(matches!(ours, Err(AuthError::PlainText(_))));
    assert_eq!(refusal(&theirs), SqlState::INVALID_AUTHORIZATION);
    let certificates = Certificates::make();
    for ends in [tcp_pair().await, tls_pair(&certificates, false).await] {
        let plain_ok = !ends.0.is_tls();
        let (ours, _) = login_over(ends, &rules(plain_ok), Some(&alice), &plain, (&shared, &shared)).await;
        ours.unwrap();
    }
}

#[tokio::test]
async fn no_rule_no_entry() {
    let shared = context();
    let mut other = rule(AuthMethod::Trust);
    other.users = vec!["bob".to_owned()];
    let (ours, theirs) =
        login_over(tcp_pair().await, &[other], None, &ServerCredential::None, (&shared, &shared)).await;
    assert!(matches!(ours, Err(AuthError::NoHbaEntry(_))));
    let Err(ServerAuthError::Refused(notice)) = theirs else { panic!() };
    assert_eq!(notice.code, SqlState::INVALID_AUTHORIZATION);
    assert_eq!(notice.message, "no HBA entry for host \"127.0.0.1\", user \"alice\", database \"app\", no encryption");
}

/// What a client sees of an exchange that ends with a wrong password: types of messages, and the last one.
async fn seen(method: AuthMethod, secret: Option<&str>, context: &AuthContext) -> (Vec<u8>, Vec<u8>, String) {
    let (mut client, mut server) = unix_pair();
    let alice = user("alice", secret);
    let startup = startup("alice");
    let rules = [rule(method)];
    let serving = async {
        let login =
            Login { startup: &startup, database: "app", hba: &rules, user: secret.map(|_| &alice), auth_query: None };
        let error = authenticate_client(&mut server, &login, context).await.unwrap_err();
        let mut out = Vec::new();
        error.notice().unwrap().encode(&mut out);
        server.write_all(&out).await.unwrap();
    };
    let attacking = async {
        let (mut tags, mut body, mut salt) = (Vec::new(), Vec::new(), String::new());
        let mut scram = sasl::ScramSha256::new(b"guess", sasl::ChannelBinding::unsupported());
        loop {
            let tag = client.read_frame(&mut body, 10_000).await.unwrap();
            tags.push(tag);
            if tag != b'R' {
                return (tags, body, salt);
            }
            tags.push(body[3]);
            let mut out = Vec::new();
            build::message(&mut out, b'p', |out| match body[3] {
                10 => {
                    out.extend(b"SCRAM-SHA-256\0");
                    out.extend((scram.message().len() as u32).to_be_bytes());
                    out.extend(scram.message());
                }
                11 => {
                    let first = String::from_utf8(body[4..].to_vec()).unwrap();
                    salt = first.split_once(",s=").unwrap().1.to_owned();
                    scram.update(first.as_bytes()).unwrap();
                    out.extend(scram.message());
                }
                _ => out.extend(b"guess\0"),
            });
            client.write_all(&out).await.unwrap();
        }
    };
    soon(async { tokio::join!(serving, attacking) }).await.1
}

#[tokio::test]
async fn trap_76_unknown_users_look_like_known_ones() {
    let shared = context();
    for method in [AuthMethod::ScramSha256, AuthMethod::Md5, AuthMethod::Password { plain_ok: true }] {
        let known = seen(method, Some(PASSWORD), &shared).await;
        let unknown = seen(method, None, &shared).await;
        assert_eq!(known, unknown, "{method:?}: messages, texts, salt and iterations");
        assert_eq!(known, seen(method, Some("changed"), &shared).await, "trap 77: the salt is stable");
    }
    let with_hash = seen(AuthMethod::ScramSha256, Some(client::md5_secret(PASSWORD, "alice").expose()), &shared).await;
    assert_eq!(with_hash, seen(AuthMethod::ScramSha256, None, &shared).await);
    // Where users have verifiers, unknown ones do, under whatever rule, and hashed as often.
    let verifier = verifier_text(PASSWORD).replace("$4096:", "$10000:");
    let elsewhere = context();
    let iterations =
        |seen: (Vec<u8>, Vec<u8>, String)| (seen.0, seen.1, seen.2.split_once(",i=").map(|i| i.1.to_owned()));
    for method in [AuthMethod::Md5, AuthMethod::ScramSha256] {
        let known = iterations(seen(method, Some(&verifier), &elsewhere).await);
        assert_eq!(known.2.as_deref(), Some("10000"), "{known:?}");
        assert_eq!(iterations(seen(method, None, &elsewhere).await), known, "{method:?}");
    }
    let elsewhere = seen(AuthMethod::ScramSha256, None, &context()).await;
    assert_ne!(with_hash.2, elsewhere.2, "the salt is not computable from the name alone");
}

#[tokio::test]
async fn trap_76_doomed_whatever_the_proof() {
    // The fake's verifier fits no keys, not even those of an empty password.
    let shared = context();
    for password in ["", "alice", PASSWORD] {
        let credential = ServerCredential::Plain(Secret::new(password));
        let rules = [rule(AuthMethod::ScramSha256)];
        let (ours, _) = login_over(unix_pair(), &rules, None, &credential, (&shared, &shared)).await;
        assert!(matches!(ours, Err(AuthError::Failed { .. })), "{ours:?}");
    }
}

/// Sends `bytes` to a client login and closes: the error.
async fn disturbed(method: AuthMethod, bytes: &[u8]) -> AuthError {
    let (mut client, mut server) = unix_pair();
    client.write_all(bytes).await.unwrap();
    client.shutdown();
    let (alice, startup, rules) = (user("alice", Some(PASSWORD)), startup("alice"), [rule(method)]);
    let login = Login { startup: &startup, database: "app", hba: &rules, user: Some(&alice), auth_query: None };
    soon(authenticate_client(&mut server, &login, &context())).await.unwrap_err()
}

#[tokio::test]
async fn trap_75_malformed_password_messages() {
    let clear = AuthMethod::Password { plain_ok: true };
    for method in [clear, AuthMethod::Md5, AuthMethod::ScramSha256] {
        assert!(matches!(disturbed(method, b"").await, AuthError::ClientLeft));
        assert!(matches!(disturbed(method, b"X\0\0\0\x04").await, AuthError::ClientLeft));
        assert!(matches!(disturbed(method, b"Q\0\0\0\x05\0").await, AuthError::Unexpected(b'Q')));
        for bad in [&b"p\0\0\0\x03"[..], b"p\0\0\0\x04", b"p\0\0\0\x07abc", b"p\0\x01\0\0", b"p\xff\xff\xff\xff"] {
            let error = disturbed(method, bad).await;
            assert!(matches!(error, AuthError::Malformed(_)), "{method:?} {bad:?}: {error:?}");
            assert_eq!(error.notice().unwrap().code, SqlState::PROTOCOL_VIOLATION);
        }
    }
    assert!(matches!(disturbed(clear, b"p\0\0\0\x05\0").await, AuthError::Failed { .. }), "empty password");
    assert!(matches!(disturbed(clear, b"p\0\0\0\x07a\0b").await, AuthError::Malformed(_)));
    for sasl in
        [&b"SCRAM-SHA-256\0"[..], b"SCRAM-SHA-256\0\0\0\0\x05n,,", b"SCRAM-SHA-256\0\xff\xff\xff\xfex", b"\0\0\0\0\0"]
    {
        let mut bytes = Vec::new();
        build::message(&mut bytes, b'p', |out| out.extend_from_slice(sasl));
        assert!(matches!(disturbed(AuthMethod::ScramSha256, &bytes).await, AuthError::Malformed(_)), "{sasl:?}");
    }
}

#[tokio::test]
async fn trap_74_negotiates_the_version_once_and_first() {
    let (mut client, mut server) = unix_pair();
    let mut startup = startup("alice");
    startup.minor = 9;
    startup.protocol_options = vec!["_pq_.x".to_owned()];
    for (method, expected) in [(AuthMethod::Trust, b'v'), (AuthMethod::Reject, b'v')] {
        let rules = [rule(method)];
        let login = Login { startup: &startup, database: "app", hba: &rules, user: None, auth_query: None };
        let result = soon(authenticate_client(&mut server, &login, &context())).await;
        if let Ok(authenticated) = &result {
            server.write_all(&authenticated.greeting).await.unwrap();
        }
        let mut body = Vec::new();
        assert_eq!(client.read_frame(&mut body, 100).await.unwrap(), expected);
        assert_eq!(body[..8], [0, 3, 0, 2, 0, 0, 0, 1]);
        if result.is_ok() {
            assert_eq!(client.read_frame(&mut body, 100).await.unwrap(), b'R');
        }
        assert_eq!(client.idle_check(), crate::net::IdleCheck::Quiet, "{method:?}: once");
    }
}

/// Sends `script` as a server: what the login to it says.
async fn served(script: &[u8], credential: &ServerCredential) -> Result<ServerGreeting, ServerAuthError> {
    let (mut client, mut server) = unix_pair();
    server.write_all(script).await.unwrap();
    server.shutdown();
    soon(authenticate_server(&mut client, "alice", credential, &context())).await
}

#[tokio::test]
async fn trap_60_notices_and_parameters_during_a_login() {
    let mut script = Vec::new();
    crate::wire::ErrorNotice {
        severity: crate::wire::Severity::Notice,
        ..crate::wire::ErrorNotice::error(SqlState::SUCCESS, "hi")
    }
    .encode(&mut script);
    build::parameter_status(&mut script, b"TimeZone", b"UTC");
    build::negotiate_protocol_version(&mut script, 0, &[]);
    build::authentication_ok(&mut script);
    script.extend(b"Z");
    let greeting = served(&script, &ServerCredential::None).await.unwrap();
    assert_eq!(greeting.parameters, [(b"TimeZone".to_vec(), b"UTC".to_vec())]);
    assert_eq!(greeting.negotiated_minor, Some(0));
}

#[tokio::test]
async fn servers_that_misbehave_are_refused_without_a_panic() {
    let plain = ServerCredential::Plain(Secret::new(PASSWORD));
    let request = |code: u32, data: &[u8]| {
        let mut out = Vec::new();
        build::message(&mut out, b'R', |out| {
            out.extend(code.to_be_bytes());
            out.extend_from_slice(data);
        });
        out
    };
    let ok = request(0, b"");
    let sasl = request(10, b"SCRAM-SHA-256\0\0");
    // An impostor that does not know the password asks for SCRAM, and then waves us through.
    let impostor = served(&[&sasl[..], &ok].concat(), &plain).await;
    assert!(matches!(impostor, Err(ServerAuthError::NotVerified(_))), "{impostor:?}");
    for bad in [
        b"".to_vec(),
        b"R\0\0\0\x06ab".to_vec(),
        b"R\xff\xff\xff\xff".to_vec(),
        b"Z\0\0\0\x05I".to_vec(),
        b"S\0\0\0\x06ab".to_vec(),
        b"v\0\0\0\x05a".to_vec(),
        request(5, b"abc"),
        request(10, b"SCRAM-SHA-256"),
        request(10, b"OTHER\0\0"),
        request(11, b"r=x"),
        request(12, b"v=x"),
        request(7, b""),
        [&sasl[..], &request(11, b"r=x,s=QUJD,i=4096")].concat(),
        [&sasl[..], &sasl].concat(),
        request(3, b"")[..8].to_vec(),
    ] {
        assert!(served(&bad, &plain).await.is_err(), "{bad:?}");
    }
    let mut chatter = Vec::new();
    (0..300).for_each(|_| build::parameter_status(&mut chatter, b"a", b"b"));
    assert!(matches!(served(&chatter, &plain).await, Err(ServerAuthError::Malformed(_))));
    // trap 67
    let refused = served(b"E\0\0\0\x0cMboom\0\0\0", &plain).await;
    assert!(matches!(&refused, Err(ServerAuthError::Refused(notice)) if notice.message == "boom"), "{refused:?}");
}

#[test]
fn trap_77_credentials_stay_with_their_user() {
    use crate::config::{Database, PoolSettings, RoutingSettings, ServerTls, SslMode};
    let keys = ServerCredential::ScramKeys(Arc::new(ScramKeys::derive(PASSWORD, b"salt", 1)));
    let authenticated = Authenticated {
        user: "alice".to_owned(),
        method: AuthMethod::ScramSha256,
        server_credential: keys.clone(),
        greeting: Vec::new(),
    };
    let mut database = Database {
        name: "app".to_owned(),
        dbname: None,
        nodes: Vec::new(),
        discovery: None,
        patroni: None,
        read_only: false,
        server_user: None,
        server_password: None,
        control_user: None,
        control_password: None,
        auth_query: None,
        tls: ServerTls { mode: SslMode::Disable, ca: None, cert: None, key: None, direct: false },
        pool: PoolSettings::default(),
        slow_query: None,
        routing: RoutingSettings {
            what_if: false,
            split_reads: true,
            transaction_reads: crate::config::TransactionReads::ReadOnly,
            consistency: crate::sql::Consistency::Table,
            max_lag: None,
            freshness_wait: None,
            health_interval: Duration::from_secs(1),
            health_timeout: Duration::from_secs(1),
            dns_interval: None,
            read_only_functions: Vec::new(),
            primary_functions: Vec::new(),
            primary_statements: Vec::new(),
            read_only_statements: Vec::new(),
            catalog_interval: None,
            breaker: Default::default(),
        },
        citus: crate::config::CitusSettings::default(),
        max_clients: None,
        max_server_connections: None,
    };
    let mut alice = user("alice", None);
    let who = |database: &Database, alice: &User| {
        let login = server_login(database, Some(alice), &authenticated.user, &authenticated.server_credential);
        (login.user, login.credential)
    };
    let password = |text| ServerCredential::Plain(Secret::new(text));
    assert_eq!(who(&database, &alice), ("alice".to_owned(), keys.clone()));
    alice.server_password = Some(Secret::new("hers"));
    assert_eq!(who(&database, &alice), ("alice".to_owned(), password("hers")));
    alice.server_password = None;
    alice.server_user = Some("app".to_owned());
    assert_eq!(who(&database, &alice), ("app".to_owned(), ServerCredential::None), "alice's keys are not app's");
    alice.server_password = Some(Secret::new("app's"));
    assert_eq!(who(&database, &alice), ("app".to_owned(), password("app's")));
    database.server_user = Some("forced".to_owned());
    assert_eq!(who(&database, &alice), ("forced".to_owned(), ServerCredential::None));
    database.server_password = Some(Secret::new("f"));
    assert_eq!(who(&database, &alice), ("forced".to_owned(), password("f")));
}

#[tokio::test]
async fn the_future_of_a_login_is_small() {
    let (_client, mut server) = unix_pair();
    let (startup, shared) = (startup("alice"), context());
    let login = Login { startup: &startup, database: "app", hba: &[], user: None, auth_query: None };
    let size = size_of_val(&authenticate_client(&mut server, &login, &shared));
    assert!(size < 3_500, "{size}");
    let size = size_of_val(&authenticate_server(&mut server, "alice", &ServerCredential::None, &shared));
    assert!(size < 3_500, "{size}");
}

#[tokio::test]
async fn keys_are_derived_once() {
    let context = context();
    let secret = Secret::new(PASSWORD);
    let (a, b) = tokio::join!(context.keys(&secret, b"salt", 4096), context.keys(&secret, b"salt", 4096));
    let a = a.unwrap();
    assert!(Arc::ptr_eq(&a, &b.unwrap()));
    assert!(!Arc::ptr_eq(&a, &context.keys(&secret, b"other", 4096).await.unwrap()));
    let guess = Secret::new("guess");
    let first = context.claimed(&guess, b"salt", 1).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &context.claimed(&guess, b"salt", 1).await.unwrap()), "guesses are not kept");
    context.keep(&guess, first.clone());
    assert!(Arc::ptr_eq(&first, &context.claimed(&guess, b"salt", 1).await.unwrap()));
}
