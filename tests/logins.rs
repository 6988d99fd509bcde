//! Logging in to PostgreSQL, and letting libpq in: every method, every sslmode, the look-up of users.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use support::clusters;
use trunkline::app::demo::Cluster;
use trunkline::auth::{
    AuthContext, AuthError, AuthQuery, Authenticated, Login, ServerAuthError, ServerCredential, authenticate_client,
    authenticate_server,
};
use trunkline::config::{
    AuthMethod, ClientTls, ClientTlsMode, HbaKind, HbaRule, HostPort, Secret, ServerTls, SslMode, User, UserPool,
};
use trunkline::net::control::{self, ControlSettings};
use trunkline::net::{
    self, Acceptor, ClientTlsContext, ConnectOptions, ListenOptions, Listener, OpenSettings, Opened, ServerTlsContext,
    Stream,
};
use trunkline::wire::startup::{PROTOCOL_3_0, Startup};
use trunkline::wire::{SqlState, TxStatus, build};

/// Password of every role of these tests.
const PASSWORD: &str = "pencil, 'ö'";

struct World {
    cluster: Cluster,
    /// In the cluster's directory, so that they go with it.
    files: PathBuf,
}

impl World {
    /// One server with TLS for all tests of a process; with nextest each test is one.
    fn get() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(Self::start)
    }

    fn start() -> Self {
        let quoted = PASSWORD.replace('\'', "''");
        let mut options = clusters::options();
        options.replicas = 0;
        options.template_cache = None;
        options.seed = ["scramuser", "clear", "trusted", "certuser", "tlsonly", "plainonly", "nobody"]
            .iter()
            .map(|role| format!("CREATE ROLE {role} LOGIN PASSWORD '{quoted}'"))
            .chain([
                format!("CREATE ROLE expired LOGIN PASSWORD '{quoted}' VALID UNTIL '2001-01-01'"),
                format!("CREATE ROLE forever LOGIN PASSWORD '{quoted}' VALID UNTIL 'infinity'"),
                "CREATE ROLE passwordless LOGIN".to_owned(),
                format!("SET password_encryption = 'md5'; CREATE ROLE md5user LOGIN PASSWORD '{quoted}'"),
            ])
            .collect();
        options.hba = [
            "hostssl all certuser 127.0.0.1/32 cert",
            "host all certuser 127.0.0.1/32 reject",
            "host all clear 127.0.0.1/32 password",
            "host all trusted 127.0.0.1/32 trust",
            "host all md5user 127.0.0.1/32 md5",
            "hostssl all tlsonly 127.0.0.1/32 scram-sha-256",
            "host all tlsonly 127.0.0.1/32 reject",
            "hostnossl all plainonly 127.0.0.1/32 scram-sha-256",
            "host all plainonly 127.0.0.1/32 reject",
            "host all nobody 127.0.0.1/32 reject",
        ]
        .map(str::to_owned)
        .to_vec();
        let cluster = clusters::start(options);

        let files = cluster.info().root.join("files");
        std::fs::create_dir(&files).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(files.join("ca.pem"), ca.pem()).unwrap();
        for (name, host) in [("server", Some("localhost")), ("certuser", None), ("stranger", None)] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(host.map(str::to_owned).into_iter().collect::<Vec<_>>()).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            std::fs::write(files.join(format!("{name}.pem")), params.signed_by(&key, &ca).unwrap().pem()).unwrap();
            std::fs::write(files.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }

        let read = |name: &str| std::fs::read_to_string(files.join(name)).unwrap();
        let node = cluster.primary();
        for (name, from) in [("server.crt", "server.pem"), ("server.key", "server.key"), ("ca.crt", "ca.pem")] {
            node.write_file(name, &read(from)).unwrap();
        }
        node.configure(&[("ssl", "on"), ("ssl_ca_file", "ca.crt")]).unwrap();
        node.reload();
        let deadline = Instant::now() + Duration::from_secs(20);
        while cluster.info().query(0, "postgres", "SHOW ssl").unwrap() != "on" {
            assert!(Instant::now() < deadline, "TLS did not come on");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { cluster, files }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.join(name)
    }

    fn tls(&self, mode: SslMode, certificate: Option<&str>) -> Arc<ClientTlsContext> {
        ClientTlsContext::load(&ServerTls {
            mode,
            ca: matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull).then(|| self.path("ca.pem")),
            cert: certificate.map(|name| self.path(&format!("{name}.pem"))),
            key: certificate.map(|name| self.path(&format!("{name}.key"))),
            direct: false,
        })
        .unwrap()
    }

    fn tcp(&self) -> Vec<HostPort> {
        vec![HostPort { host: "localhost".to_owned(), port: self.cluster.info().primary_port() }]
    }

    /// Logs in as the backend room does: whether the connection is encrypted.
    async fn log_in(
        &self,
        hosts: &[HostPort],
        tls: &ClientTlsContext,
        user: &str,
        credential: &ServerCredential,
        context: &AuthContext,
    ) -> Result<bool, ServerAuthError> {
        let mut plan = tls.plan();
        let mut encryption = plan.first();
        loop {
            let mut stream = net::connect(hosts, tls, encryption, &ConnectOptions::default()).await.unwrap();
            let mut packet = Vec::new();
            build::startup(&mut packet, PROTOCOL_3_0, &[("user", user), ("database", "postgres")]);
            stream.write_all(&packet).await.unwrap();
            let login = authenticate_server(&mut stream, user, credential, context);
            match tokio::time::timeout(Duration::from_secs(20), login).await.unwrap() {
                Ok(_) => {
                    // Nothing behind AuthenticationOk was read.
                    let (mut tags, mut body) = (Vec::new(), Vec::new());
                    while tags.last() != Some(&b'Z') {
                        tags.push(stream.read_frame(&mut body, 65_536).await.unwrap());
                    }
                    assert!(tags.iter().filter(|tag| **tag == b'S').count() > 10 && tags.contains(&b'K'), "{tags:?}");
                    return Ok(stream.is_tls());
                }
                Err(error) if error.is_startup_refusal() => match plan.retry(&stream) {
                    Some(next) => encryption = next,
                    None => return Err(error),
                },
                Err(error) => return Err(error),
            }
        }
    }
}

fn plain() -> ServerCredential {
    ServerCredential::Plain(Secret::new(PASSWORD))
}

#[tokio::test]
async fn logs_in_by_every_method() {
    let world = World::get();
    let context = AuthContext::new().unwrap();
    let wrong = ServerCredential::Plain(Secret::new("wrong"));
    for mode in [SslMode::Disable, SslMode::VerifyFull] {
        let tls = world.tls(mode, None);
        for user in ["scramuser", "md5user", "clear", "trusted"] {
            let encrypted = world.log_in(&world.tcp(), &tls, user, &plain(), &context).await.unwrap();
            assert_eq!(encrypted, mode == SslMode::VerifyFull, "{user}");
            let refused = world.log_in(&world.tcp(), &tls, user, &wrong, &context).await;
            match refused {
                Ok(_) => assert_eq!(user, "trusted"),
                Err(ServerAuthError::Refused(notice)) => assert_eq!(notice.code, SqlState::INVALID_PASSWORD, "{user}"),
                Err(other) => panic!("{user}: {other}"),
            }
            let nothing = world.log_in(&world.tcp(), &tls, user, &ServerCredential::None, &context).await;
            assert_eq!(nothing.is_ok(), user == "trusted");
        }
    }
    let stored =
        world.cluster.info().query(0, "postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'md5user'");
    let hash = ServerCredential::Md5Hash(Secret::new(stored.unwrap()));
    world.log_in(&world.tcp(), &ClientTlsContext::disabled(), "md5user", &hash, &context).await.unwrap();
    let socket = vec![HostPort {
        host: world.cluster.info().root.to_str().unwrap().to_owned(),
        port: world.cluster.info().primary_port(),
    }];
    let encrypted = world.log_in(&socket, &world.tls(SslMode::Require, None), "scramuser", &plain(), &context).await;
    assert!(!encrypted.unwrap(), "no TLS on a Unix socket");
}

#[tokio::test]
async fn keys_are_kept_over_logins() {
    let world = World::get();
    let context = AuthContext::new().unwrap();
    let tls = ClientTlsContext::disabled();
    let hosts = world.tcp();
    let mut times = Vec::new();
    for _ in 0..2 {
        world.log_in(&hosts, &tls, "scramuser", &plain(), &context).await.unwrap();
        times.push(format!("{context:?}"));
    }
    assert_eq!(times[0], times[1], "one derivation");
    assert!(times[0].contains("derived: 1"), "{}", times[0]);
}

#[tokio::test]
async fn client_certificates_log_in() {
    let world = World::get();
    let context = AuthContext::new().unwrap();
    let none = ServerCredential::None;
    let with = |certificate| world.tls(SslMode::VerifyFull, certificate);
    assert!(world.log_in(&world.tcp(), &with(Some("certuser")), "certuser", &none, &context).await.unwrap());
    for certificate in [Some("stranger"), None] {
        let refused = world.log_in(&world.tcp(), &with(certificate), "certuser", &none, &context).await;
        assert!(matches!(refused, Err(ServerAuthError::Refused(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn sslmodes_fall_back_as_libpq_does() {
    use SslMode::*;
    let world = World::get();
    let context = AuthContext::new().unwrap();
    for (mode, user, expected) in [
        (Disable, "scramuser", Some(false)),
        (Allow, "scramuser", Some(false)),
        (Prefer, "scramuser", Some(true)),
        (Require, "scramuser", Some(true)),
        (VerifyCa, "scramuser", Some(true)),
        (VerifyFull, "scramuser", Some(true)),
        (Disable, "tlsonly", None),
        (Allow, "tlsonly", Some(true)),
        (Prefer, "tlsonly", Some(true)),
        (Allow, "plainonly", Some(false)),
        (Prefer, "plainonly", Some(false)),
        (Require, "plainonly", None),
        (Prefer, "nobody", None),
        (Allow, "nobody", None),
    ] {
        let result = world.log_in(&world.tcp(), &world.tls(mode, None), user, &plain(), &context).await;
        assert_eq!(result.as_ref().ok(), expected.as_ref(), "{mode:?} {user}: {result:?}");
    }
    let by_address = vec![HostPort { host: "127.0.0.1".to_owned(), port: world.cluster.info().primary_port() }];
    let tls = world.tls(VerifyFull, None);
    let error = net::connect(&by_address, &tls, tls.plan().first(), &ConnectOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("the certificate is for another host"), "{error}");
}

fn control_settings(world: &World, tls: Arc<ClientTlsContext>, password: &str) -> ControlSettings {
    ControlSettings {
        hosts: world.tcp(),
        dbname: "postgres".to_owned(),
        user: "postgres".to_owned(),
        password: Some(Secret::new(password)),
        tls,
        max_size: 2,
        connect_timeout: Duration::from_secs(10),
        application_name: "trunkline".to_owned(),
        max_answer: 1 << 20,
    }
}

#[tokio::test]
async fn the_control_plane_connects_with_the_same_tls() {
    let world = World::get();
    for mode in [SslMode::Disable, SslMode::Prefer, SslMode::VerifyFull] {
        let pool = control::pool(control_settings(world, world.tls(mode, None), clusters::SUPERUSER_PASSWORD)).unwrap();
        let client = pool.get().await.unwrap();
        let row = client
            .query_one("SELECT ssl, current_setting('search_path') FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[])
            .await
            .unwrap();
        assert_eq!((row.get::<_, bool>(0), row.get::<_, &str>(1)), (mode != SslMode::Disable, "pg_catalog"));
    }
    let pool = control::pool(control_settings(world, ClientTlsContext::disabled(), "wrong")).unwrap();
    let error = format!("{:?}", pool.get().await.unwrap_err());
    assert!(
        error.contains("28P01") || error.contains("InvalidPassword") || error.contains("password authentication"),
        "{error}"
    );
    let mut nowhere = control_settings(world, ClientTlsContext::disabled(), "x");
    nowhere.hosts = vec![HostPort { host: "/nowhere".to_owned(), port: 1 }];
    let error = format!("{:?}", control::pool(nowhere).unwrap().get().await.unwrap_err());
    assert!(error.contains("/nowhere/.s.PGSQL.1"), "{error}");
}

/// Lets one client in by `auth_query`, with this password, and logs in to the server with what that yields.
async fn through_auth_query(world: &World, query: &AuthQuery, user: &str, password: &str) -> Result<bool, AuthError> {
    let context = AuthContext::new().unwrap();
    let (client, server) = tokio::net::UnixStream::pair().unwrap();
    let (mut client, mut server) = (Stream::from(client), Stream::from(server));
    let startup =
        Startup { minor: 0, parameters: vec![("user".to_owned(), user.to_owned())], protocol_options: Vec::new() };
    let rules = [rule(AuthMethod::ScramSha256)];
    let login = Login { startup: &startup, database: user, hba: &rules, user: None, auth_query: Some(query) };
    let serving = async {
        let result = authenticate_client(&mut server, &login, &context).await;
        if let Ok(authenticated) = &result {
            server.write_all(&authenticated.greeting).await.unwrap();
        }
        server.shutdown();
        drop(server);
        result
    };
    let credential = ServerCredential::Plain(Secret::new(password));
    let theirs = AuthContext::new().unwrap();
    let (ours, _) = tokio::join!(serving, authenticate_server(&mut client, user, &credential, &theirs));
    let yielded = ours?.server_credential;
    assert!(matches!(yielded, ServerCredential::ScramKeys(_)), "{yielded:?}");
    // SCRAM pass-through: the client's own proof logs in, over TLS with channel binding too.
    for mode in [SslMode::Disable, SslMode::Require] {
        world.log_in(&world.tcp(), &world.tls(mode, None), user, &yielded, &context).await.unwrap();
    }
    Ok(true)
}

#[tokio::test]
async fn trap_76_auth_query() {
    let world = World::get();
    let settings = control_settings(world, world.tls(SslMode::Require, None), clusters::SUPERUSER_PASSWORD);
    let pool = control::pool(settings).unwrap();
    let handle = tokio::runtime::Handle::current();
    let query = |sql: &str| AuthQuery::new(pool.clone(), sql, handle.clone());
    let usual = query("SELECT usename, passwd, valuntil FROM pg_shadow WHERE usename = $1");
    through_auth_query(world, &usual, "scramuser", PASSWORD).await.unwrap();
    through_auth_query(world, &usual, "forever", PASSWORD).await.unwrap();
    let reason = |result: Result<bool, AuthError>| match result {
        Err(AuthError::Failed { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(through_auth_query(world, &usual, "scramuser", "wrong").await), "wrong password");
    assert!(reason(through_auth_query(world, &usual, "expired", PASSWORD).await).contains("VALID UNTIL"));
    assert!(reason(through_auth_query(world, &usual, "missing", PASSWORD).await).contains("no such user"));
    assert!(reason(through_auth_query(world, &usual, "passwordless", "").await).contains("no such user"));

    let failed = |result: Result<bool, AuthError>| match result {
        Err(AuthError::LookUp { source, .. }) => source.to_string(),
        other => panic!("{other:?}"),
    };
    // The secret of another one must not let anyone in.
    let others = query("SELECT 'postgres', passwd FROM pg_shadow WHERE usename = 'scramuser' AND $1 <> ''");
    assert!(failed(through_auth_query(world, &others, "scramuser", PASSWORD).await).contains("another user"));
    let many = query("SELECT usename, passwd FROM pg_shadow WHERE $1 <> ''");
    assert!(failed(through_auth_query(world, &many, "scramuser", PASSWORD).await).contains("several rows"));
    let wrong = query("SELECT usename FROM pg_shadow WHERE usename = $1");
    assert!(failed(through_auth_query(world, &wrong, "scramuser", PASSWORD).await).contains("number of columns"));
    let broken = query("SELECT nonsense($1)");
    assert!(failed(through_auth_query(world, &broken, "scramuser", PASSWORD).await).contains("failed"));

    // An object of the same name in `public` is not seen.
    let info = world.cluster.info();
    info.query(0, "postgres", "CREATE TABLE public.pg_shadow (usename name, passwd text, valuntil timestamptz)")
        .unwrap();
    info.query(0, "postgres", "ALTER ROLE postgres SET search_path = public, pg_catalog").unwrap();
    let fresh = control_settings(world, world.tls(SslMode::Require, None), clusters::SUPERUSER_PASSWORD);
    let usual = AuthQuery::new(
        control::pool(fresh).unwrap(),
        "SELECT usename, passwd, valuntil FROM pg_shadow WHERE usename = $1",
        handle.clone(),
    );
    through_auth_query(world, &usual, "scramuser", PASSWORD).await.unwrap();
    info.query(0, "postgres", "ALTER ROLE postgres RESET search_path; DROP TABLE public.pg_shadow").unwrap();

    // A changed password works at the second attempt at the latest.
    info.query(0, "postgres", "ALTER ROLE forever PASSWORD 'changed'").unwrap();
    let _ = through_auth_query(world, &usual, "forever", "changed").await;
    through_auth_query(world, &usual, "forever", "changed").await.unwrap();
    info.query(0, "postgres", &format!("ALTER ROLE forever PASSWORD '{}'", PASSWORD.replace('\'', "''"))).unwrap();
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

/// Lets psql in under this rule; psql sends one empty query. What psql said, and what we made of it (the last attempt).
async fn psql(
    method: AuthMethod,
    secret: &str,
    conninfo: &str,
) -> (Result<(), String>, Result<Authenticated, AuthError>) {
    let world = World::get();
    let tls = ServerTlsContext::load(&ClientTls {
        mode: ClientTlsMode::Allow,
        cert: Some(world.path("server.pem")),
        key: Some(world.path("server.key")),
        client_ca: Some(world.path("ca.pem")),
        require_client_cert: false,
    })
    .unwrap();
    let address = trunkline::config::ListenAddr::Tcp("127.0.0.1:0".parse().unwrap());
    let listener = Listener::bind(&address, &ListenOptions::default()).unwrap();
    let acceptor = Acceptor::new(&listener).unwrap();
    let port = listener.local_addr().unwrap().port();
    let user = User {
        name: "certuser".to_owned(),
        secret: Some(Secret::new(secret)),
        server_user: None,
        server_password: None,
        pool: UserPool::default(),
        slow_query: None,
        consistency: None,
        max_clients: None,
        max_server_connections: None,
    };
    let context = AuthContext::new().unwrap();
    let rules = [rule(method)];
    let serve = async |stream: Stream| {
        let settings = OpenSettings { max_startup_bytes: 10_000, tls: tls.as_deref(), tls_required: false };
        let Ok(Opened::Startup { mut stream, startup }) = net::open(stream, &settings).await else {
            return Err(AuthError::ClientLeft);
        };
        let login = Login { startup: &startup, database: "app", hba: &rules, user: Some(&user), auth_query: None };
        let result = authenticate_client(&mut stream, &login, &context).await;
        let mut out = Vec::new();
        match &result {
            Ok(authenticated) => {
                out.extend_from_slice(&authenticated.greeting);
                build::ready_for_query(&mut out, TxStatus::Idle);
            }
            Err(error) => drop(error.notice().inspect(|notice| notice.encode(&mut out))),
        }
        let _ = stream.write_all(&out).await;
        let mut body = Vec::new();
        while result.is_ok() && matches!(stream.read_frame(&mut body, 10_000).await, Ok(b'Q')) {
            let mut out = Vec::new();
            build::bare(&mut out, b'I');
            build::ready_for_query(&mut out, TxStatus::Idle);
            stream.write_all(&out).await.unwrap();
        }
        stream.shutdown();
        result
    };
    let mut command = std::process::Command::new("psql");
    command
        .args(["-X", "-w", "-c", ";"])
        .arg(format!("host=localhost hostaddr=127.0.0.1 port={port} user=certuser dbname=app {conninfo}"))
        .env("PGSSLROOTCERT", world.path("ca.pem"))
        .env("PGCONNECT_TIMEOUT", "10");
    let mut said = tokio::task::spawn_blocking(move || command.output());
    let mut last = Err(AuthError::ClientLeft);
    loop {
        tokio::select! {
            output = &mut said => {
                let output = output.unwrap().unwrap();
                let told = if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) };
                return (told, last);
            }
            accepted = acceptor.accept() => {
                let stream = accepted.into_stream().unwrap();
                // psql ends while its connection is being served.
                let serving = serve(stream);
                tokio::pin!(serving);
                last = serving.await;
            }
        }
    }
}

#[tokio::test]
async fn libpq_is_let_in_by_every_method() {
    let clear = AuthMethod::Password { plain_ok: false };
    let secret = "it's ö";
    let given = "password='it\\'s ö'";
    for (method, conninfo) in [
        (AuthMethod::ScramSha256, "sslmode=disable"),
        (AuthMethod::ScramSha256, "sslmode=prefer gssencmode=prefer"),
        (AuthMethod::ScramSha256, "sslmode=verify-full channel_binding=require"),
        (AuthMethod::ScramSha256, "sslmode=verify-full channel_binding=disable"),
        (AuthMethod::Md5, "sslmode=disable"),
        (AuthMethod::Md5, "sslmode=require"),
        (clear, "sslmode=require"),
        (AuthMethod::Trust, "sslmode=disable"),
    ] {
        let (told, ours) = psql(method, secret, &format!("{given} {conninfo}")).await;
        assert!(told.is_ok() && ours.is_ok(), "{method:?} {conninfo}: {told:?} {ours:?}");
    }
    for (method, conninfo, message) in [
        (AuthMethod::ScramSha256, "sslmode=require", "password authentication failed for user \"certuser\""),
        (AuthMethod::Md5, "sslmode=disable", "password authentication failed for user \"certuser\""),
        (clear, "sslmode=require", "password authentication failed for user \"certuser\""),
        (clear, "sslmode=disable", "clear-text password refused without TLS"),
        (
            AuthMethod::Reject,
            "sslmode=disable",
            "HBA entry rejects connection for host \"127.0.0.1\", user \"certuser\"",
        ),
        (AuthMethod::Cert, "sslmode=require", "certificate authentication failed for user \"certuser\""),
    ] {
        let (told, ours) = psql(method, secret, &format!("password=wrong {conninfo}")).await;
        assert!(ours.is_err());
        assert!(told.as_ref().is_err_and(|text| text.contains(message)), "{method:?} {conninfo}: {told:?}");
    }
}

#[tokio::test]
async fn libpq_is_let_in_by_its_certificate() {
    let world = World::get();
    let with = |name: &str| {
        let key = world.path(&format!("{name}.key"));
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let certificate = world.path(&format!("{name}.pem"));
        format!("sslmode=verify-full sslcert={} sslkey={}", certificate.display(), key.display())
    };
    let (told, ours) = psql(AuthMethod::Cert, "x", &with("certuser")).await;
    assert!(told.is_ok() && ours.is_ok(), "{told:?} {ours:?}");
    let (told, _) = psql(AuthMethod::Cert, "x", &with("stranger")).await;
    assert!(told.is_err_and(|text| text.contains("certificate authentication failed")));
}
