//! Listening.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::{Acceptor, ListenError, ListenOptions, Listener};
use crate::config::ListenAddr;
use crate::net::testing::liveness_of;
use crate::net::{PeerAddr, TcpLiveness};

fn options() -> ListenOptions {
    let liveness =
        TcpLiveness { keepalive: Some(Duration::from_secs(60)), user_timeout: Some(Duration::from_secs(90)) };
    ListenOptions { liveness, ..ListenOptions::default() }
}

#[tokio::test]
async fn accepts_on_both_address_families() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = Listener::bind(&ListenAddr::Tcp(address.parse().unwrap()), &options()).unwrap();
        let local = listener.local_addr().unwrap();
        let client = tokio::net::TcpStream::connect(local).await.unwrap();
        let accepted = Acceptor::new(&listener).unwrap().accept().await;
        assert_eq!(accepted.peer, PeerAddr::tcp(client.local_addr().unwrap()));
        // Served on another runtime than the one that accepted it.
        let serving = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut stream = accepted.into_stream().unwrap();
                assert_eq!(liveness_of(&stream), (true, options().liveness), "of a client that is gone without a word");
                stream.write_all(b"hello").await.unwrap();
                stream.peer()
            })
        });
        let mut client = crate::net::Stream::from((client, local));
        let mut hello = [0; 5];
        client.read_exact(&mut hello).await.unwrap();
        assert_eq!(serving.join().unwrap().to_string(), client.local_addr().unwrap().to_string());
    }
}

#[tokio::test]
async fn says_which_address_is_taken() {
    let first = Listener::bind(&ListenAddr::Tcp("127.0.0.1:0".parse().unwrap()), &options()).unwrap();
    let address = first.local_addr().unwrap();
    let error = Listener::bind(&ListenAddr::Tcp(address), &options()).unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("another program"), "{error}");
    let shared = ListenOptions { reuse_port: true, ..options() };
    let first = Listener::bind(&ListenAddr::Tcp("127.0.0.1:0".parse().unwrap()), &shared).unwrap();
    Listener::bind(&ListenAddr::Tcp(first.local_addr().unwrap()), &shared).unwrap();
}

#[tokio::test]
async fn takes_over_only_a_dead_socket_file() {
    let dir = tempfile::tempdir().unwrap();
    let address = ListenAddr::Unix { dir: dir.path().to_owned(), port: 6543, mode: 0o770 };
    let path = dir.path().join(".s.PGSQL.6543");

    let listener = Listener::bind(&address, &options()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o770);
    assert!(matches!(Listener::bind(&address, &options()), Err(ListenError::SocketInUse(_))));
    let _client = tokio::net::UnixStream::connect(&path).await.unwrap();
    let acceptor = Acceptor::new(&listener).unwrap();
    assert_eq!(acceptor.accept().await.peer, PeerAddr::Unix);
    drop((acceptor, listener));
    assert!(!path.exists(), "removed on drop");

    // A process that died leaves its file.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(Listener::bind(&address, &options()).unwrap());

    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(Listener::bind(&address, &options()), Err(ListenError::NotASocket(_))));
    assert!(path.exists());
}

#[test]
fn trap_80_exhaustion_is_told_from_clients_that_left() {
    let exhausted = |code: rustix::io::Errno| super::is_exhaustion(&code.into());
    assert!(exhausted(rustix::io::Errno::MFILE) && exhausted(rustix::io::Errno::NFILE));
    assert!(!exhausted(rustix::io::Errno::CONNABORTED));
}
