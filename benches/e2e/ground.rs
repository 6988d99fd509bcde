//! What all peers stand before: a primary with two replicas, a filled database, one login, one certificate.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{CertificateParams, KeyPair};
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use trunkline::app::demo::{Cluster, PgBinaries};

use super::citus::Citus;
use super::client::{Keys, Target};
use super::options::{Options, SuiteName};
use super::suites::{pgbench, transfer};
use super::support::clusters::{self, APP, APP_PASSWORD, TestDb};

/// The name in the certificate.
const HOST: &str = "localhost";

/// Everything that is there before the first peer. Fields drop in this order.
#[derive(Debug)]
pub struct Ground {
    /// The database; its owner is [`APP`].
    pub db: TestDb,
    _cluster: Cluster,
    /// PostgreSQL's programs, and the account that may not be root.
    pub pg: PgBinaries,
    /// The password's keys, derived once.
    pub keys: Keys,
    /// PEM files of the certificate that peers show.
    pub certificate: PathBuf,
    /// And of its key.
    pub key: PathBuf,
    trusting: Arc<ClientConfig>,
    citus: Option<Citus>,
    /// What was chosen.
    pub options: Options,
}

impl Ground {
    /// Starts the servers and fills the database as far as the chosen suites need it.
    pub fn prepare(options: &Options) -> Self {
        let mut cluster = clusters::options();
        // 256 clients directly, and the pools of all peers. Nothing that runs by the clock may fall into one peer's turn.
        cluster.settings = [("max_connections", "600"), ("autovacuum", "off"), ("checkpoint_timeout", "1h")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec();
        let cluster = clusters::start(cluster);
        let pg = PgBinaries::find().unwrap();
        let db = TestDb::new(cluster.info());
        pgbench::fill(&db, options.scale);
        if options.wants_suite(SuiteName::Transfer) {
            transfer::fill(&db);
        }
        db.run("CHECKPOINT");
        db.wait_replayed();

        let pair = KeyPair::generate().unwrap();
        let signed = CertificateParams::new([HOST.to_owned()]).unwrap().self_signed(&pair).unwrap();
        let [certificate, key] =
            [("peer.crt", signed.pem()), ("peer.key", pair.serialize_pem())].map(|(name, text)| {
                let path = db.cluster().root.join(name);
                fs::write(&path, text).unwrap();
                pg.give(&path).unwrap();
                path
            });
        let mut roots = RootCertStore::empty();
        roots.add(signed.der().clone()).unwrap();
        let mut trusting = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        // As libpq: each login is a handshake of its own.
        trusting.resumption = Resumption::disabled();
        let citus = options.wants_suite(SuiteName::Citus).then(Citus::prepare);
        let (keys, options, trusting) = (Keys::new(APP_PASSWORD), options.clone(), Arc::new(trusting));
        Self { db, _cluster: cluster, pg, keys, certificate, key, trusting, citus, options }
    }

    /// The Citus cluster; only of its own suite.
    pub fn citus(&self) -> &Citus {
        self.citus.as_ref().unwrap()
    }

    /// A login to whatever listens on this port.
    pub fn target(&self, port: u16) -> Target<'_> {
        Target { port, user: APP, database: &self.db.name, keys: &self.keys, tls: None }
    }

    /// The same by TLS, with the certificate verified.
    pub fn target_by_tls(&self, port: u16) -> Target<'_> {
        Target { tls: Some((HOST, self.trusting.clone())), ..self.target(port) }
    }

    /// A new directory for the files of a peer, which the servers' account can write.
    pub fn new_dir(&self) -> PathBuf {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("peer{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let dir = self.db.cluster().root.join(name);
        fs::create_dir(&dir).unwrap();
        self.pg.give(&dir).unwrap();
        dir
    }
}
