//! Marks come and go, and no byte stays behind one.

use std::future::poll_fn;
use std::io::Write;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{MUCH, PIECE, SHORT, TICK};
use crate::net::Stream;
use crate::net::testing::{connected, on_worker};

fn is_marked(stream: &Stream) -> bool {
    let Stream::Plain(plain) = stream else { panic!("by TLS") };
    plain.low_water().is_marked()
}

async fn read(stream: &mut Stream) -> usize {
    let mut space = vec![0; 64 * 1024];
    poll_fn(|cx| stream.poll_read_into(cx, &mut space)).await.unwrap()
}

/// Sends so much that there is a mark, and nothing more to be read.
async fn transfer(stream: &mut Stream, peer: &std::net::TcpStream, bytes: usize) {
    let mut peer = peer.try_clone().unwrap();
    let sender = std::thread::spawn(move || peer.write_all(&vec![b'x'; bytes]).unwrap());
    let mut got = 0;
    while got < bytes {
        got += read(stream).await;
    }
    sender.join().unwrap();
    let mut space = [0; 16];
    assert!(stream.poll_read_into(&mut Context::from_waker(Waker::noop()), &mut space).is_pending());
}

/// The last read of a transfer may have been a short one, after which there is no mark.
async fn marked(stream: &mut Stream, peer: &std::net::TcpStream) {
    for _ in 0..100 {
        transfer(stream, peer, 2 * MUCH).await;
        if is_marked(stream) {
            return;
        }
    }
    panic!("never got a mark");
}

#[test]
fn what_is_left_of_a_transfer_comes_without_more() {
    on_worker(async || {
        let (mut stream, mut peer) = connected();
        for tail in [1, 100, PIECE - 1] {
            marked(&mut stream, &peer).await;
            peer.write_all(&vec![b'y'; tail]).unwrap();
            let mut got = 0;
            while got < tail {
                got += read(&mut stream).await;
            }
            assert_eq!(got, tail);
        }
        // Nor does a mark stay for which nothing comes at all.
        marked(&mut stream, &peer).await;
        while is_marked(&stream) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        peer.write_all(b"z").unwrap();
        assert_eq!(read(&mut stream).await, 1);
    });
}

#[test]
fn a_write_takes_the_mark_back() {
    on_worker(async || {
        let (mut stream, mut peer) = connected();
        marked(&mut stream, &peer).await;
        // The timer's task runs only while this one waits.
        stream.try_write(b"next").unwrap();
        assert!(!is_marked(&stream));
        peer.write_all(b"answer").unwrap();
        assert_eq!(read(&mut stream).await, 6);
        assert!(!is_marked(&stream));
    });
}

#[test]
fn an_idle_connection_is_looked_at_without_a_mark() {
    on_worker(async || {
        let (mut stream, mut peer) = connected();
        marked(&mut stream, &peer).await;
        assert!(stream.is_quiet());
        assert!(!is_marked(&stream));
        peer.write_all(b"late").unwrap();
        while stream.is_quiet() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn the_end_of_a_marked_connection_is_told() {
    on_worker(async || {
        let (mut stream, peer) = connected();
        marked(&mut stream, &peer).await;
        drop(peer);
        assert_eq!(read(&mut stream).await, 0);
    });
}

#[test]
fn what_is_small_or_slow_gets_no_mark() {
    on_worker(async || {
        let (mut stream, mut peer) = connected();
        transfer(&mut stream, &peer, MUCH / 2).await;
        assert!(!is_marked(&stream));
        for _ in 0..2 * MUCH / (SHORT - 1) {
            peer.write_all(&vec![b'x'; SHORT - 1]).unwrap();
            let mut got = 0;
            while got < SHORT - 1 {
                got += read(&mut stream).await;
            }
            let mut space = [0; 16];
            let more = stream.poll_read_into(&mut Context::from_waker(Waker::noop()), &mut space);
            assert!(matches!(more, Poll::Pending));
            assert!(!is_marked(&stream));
        }
    });
}

#[test]
fn other_threads_give_no_marks() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut stream, peer) = connected();
        transfer(&mut stream, &peer, 4 * MUCH).await;
        assert!(!is_marked(&stream));
    });
}

#[test]
fn a_mark_lasts_for_a_whole_tick_without_a_byte() {
    on_worker(async || {
        let (mut stream, peer) = connected();
        let mut lasted = Vec::new();
        for _ in 0..31 {
            marked(&mut stream, &peer).await;
            let began = std::time::Instant::now();
            while is_marked(&stream) {
                tokio::task::yield_now().await;
            }
            lasted.push(began.elapsed());
        }
        // The thread may be held up between the timer's start and a mark, but hardly each time.
        lasted.sort();
        assert!(lasted[15] > TICK * 3 / 2, "{lasted:?}");
    });
}
