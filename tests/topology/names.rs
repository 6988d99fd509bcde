//! Failovers that are done in the name service: a node's name leads to another server.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::fixture::*;
use crate::support::frames::Batch;
use crate::support::injector::Injector;
use crate::support::process::{Setup, Trunkline};

/// Answers for the name `db.test` with the address in a file.
const RESOLVER: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
    char address[64] = "";
    if (name && !strcmp(name, "db.test")) {
        FILE *file = fopen(getenv("TEST_ADDRESS"), "r");
        if (!file || !fgets(address, sizeof address, file)) return EAI_AGAIN;
        fclose(file);
        name = address;
    }
    return real(name, service, hints, found);
}
"#;

/// Where its servers are.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// A name service of one name.
struct Names {
    dir: TempDir,
}

impl Names {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (source, library) = (dir.path().join("resolver.c"), dir.path().join("resolver.so"));
        fs::write(&source, RESOLVER).unwrap();
        let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").status();
        assert!(built.unwrap().success());
        Self { dir }
    }

    fn address(&self) -> PathBuf {
        self.dir.path().join("address")
    }

    /// The name leads here from now on.
    fn lead_to(&self, address: Ipv4Addr) {
        let new = self.dir.path().join("new");
        fs::write(&new, address.to_string()).unwrap();
        fs::rename(new, self.address()).unwrap();
    }

    fn start(&self, config: String) -> Trunkline {
        let library = self.dir.path().join("resolver.so");
        Setup::config(config)
            .env("LD_PRELOAD", library.to_str().unwrap())
            .env("TEST_ADDRESS", self.address().to_str().unwrap())
            .start()
    }
}

/// Two servers under one port, at addresses of their own.
fn doors(ports: [u16; 2]) -> [Injector; 2] {
    let first = Injector::at(SocketAddr::from((FIRST, 0)), ports[0]);
    let second = Injector::at(SocketAddr::from((SECOND, first.port())), ports[1]);
    [first, second]
}

fn by_name(database: &str, port: u16) -> String {
    let node = format!("[[databases.app.nodes]]\nname = \"db\"\nhost = \"db.test\"\nport = {port}\n");
    config("", database, &format!("dns_interval = \"100ms\"\n{node}"))
}

#[test]
fn who_has_a_connection_to_the_server_that_had_the_name_writes_nothing_there_any_more_trap_89() {
    let cluster = cluster(1);
    let names = Names::new();
    let [old, _new] = doors([cluster.info().port(0), cluster.info().port(1)]);
    names.lead_to(FIRST);
    let proxy = names.start(by_name("", old.port()));
    let [mut writer, mut pinned, mut open, mut copying, mut idle] = [(); 5].map(|()| client(&proxy));
    assert_eq!(writer.value(WRITE), cluster.info().port(0).to_string());
    pinned.rows("CREATE TEMPORARY TABLE mine (n int)");
    idle.rows("CREATE TEMPORARY TABLE mine (n int)");
    open.rows("BEGIN");
    open.rows("INSERT INTO t VALUES (5)");
    copying.send(&Batch::new().query("COPY t FROM STDIN"));
    assert_eq!(copying.recv().tag, b'G');
    // The old primary lives on, and would take what is lost.
    cluster.replicas()[0].promote().unwrap();
    names.lead_to(SECOND);
    until_written_on(&proxy, &mut writer, &cluster.info().port(1).to_string());
    assert_eq!(idle.recv().sqlstate(), "57P01", "told at once");
    for (client, sql) in [(&mut pinned, "INSERT INTO t VALUES (5)"), (&mut open, "COMMIT")] {
        // It may have been told already.
        let _ = client.try_send(Batch::new().query(sql).bytes());
        assert_eq!(client.recv().sqlstate(), "57P01", "{sql}");
        assert!(client.is_closed());
    }
    assert_eq!(copying.recv().sqlstate(), "08007");
    assert_eq!(cluster.info().query(0, "app", "SELECT count(*) FROM t WHERE n = 5").unwrap(), "0");
    assert_eq!(writer.value(WRITE), cluster.info().port(1).to_string(), "who has nothing there goes on");
}

/// A gateway with another address, say.
#[test]
fn another_address_of_the_same_server_ends_nothing() {
    let cluster = cluster(0);
    let names = Names::new();
    let [first, second] = doors([cluster.info().port(0); 2]);
    names.lead_to(FIRST);
    let mut proxy = names.start(by_name("", first.port()));
    let mut pinned = client(&proxy);
    pinned.rows("CREATE TEMPORARY TABLE mine (n int)");
    names.lead_to(SECOND);
    proxy.wait_for_log(&["the node's name leads elsewhere"]);
    let before = second.accepted();
    until("it was asked there", || {
        client(&proxy).value(WRITE);
        second.accepted() > before + 1
    });
    std::thread::sleep(std::time::Duration::from_millis(1500));
    pinned.rows("INSERT INTO mine VALUES (1)");
    assert_eq!(pinned.value("SELECT count(*) FROM mine"), "1");
}
