//! What goes out by batches is what would have gone out without them. Where the kernel gives no ring these run without one.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::net::Stream;
use crate::net::batch;
use crate::net::testing::{connected, on_worker};

/// As the relay does: whatever the batch does not take waits for the socket.
async fn send(stream: &mut Stream, mut bytes: &[u8]) {
    poll_fn(|cx| {
        if stream.leave_to_batch(bytes, cx.waker()) {
            return Poll::Ready(());
        }
        while !bytes.is_empty() {
            match stream.poll_write_from(cx, bytes) {
                Poll::Ready(sent) => bytes = &bytes[sent.unwrap()..],
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    })
    .await;
}

async fn flushed(stream: &mut Stream) -> std::io::Result<()> {
    poll_fn(|cx| stream.poll_push(cx)).await
}

/// Two writes of others, so that this turn is worth a batch.
fn busy(others: &mut [(Stream, std::net::TcpStream)]) {
    for (stream, _) in others {
        stream.leave_to_batch(b"x", Waker::noop());
    }
}

fn read(from: &mut std::net::TcpStream, len: usize) -> Vec<u8> {
    let mut got = vec![0; len];
    from.read_exact(&mut got).unwrap();
    got
}

#[test]
fn what_is_sent_in_turns_of_many_arrives_in_order() {
    on_worker(async || {
        let mut pairs: Vec<_> = (0..100).map(|_| connected()).collect();
        let mut expected: Vec<Vec<u8>> = vec![Vec::new(); pairs.len()];
        for round in 0..50_usize {
            for (number, (stream, _)) in pairs.iter_mut().enumerate() {
                // One now and then is too long for a batch, or follows another one of the same turn.
                for again in 0..=usize::from((round + number) % 7 == 0) {
                    let len = if (round * 31 + number) % 23 == 0 { 5000 } else { 1 + (round * number) % 300 };
                    let bytes = vec![(round + number + again) as u8; len];
                    expected[number].extend_from_slice(&bytes);
                    send(stream, &bytes).await;
                }
            }
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        for ((stream, far), expected) in pairs.iter_mut().zip(&expected) {
            flushed(stream).await.unwrap();
            assert!(read(far, expected.len()) == *expected);
        }
    });
}

#[test]
fn what_the_socket_does_not_take_waits_and_nothing_overtakes_it() {
    on_worker(async || {
        let mut others: Vec<_> = (0..3).map(|_| connected()).collect();
        let (mut stream, mut far) = connected();
        let mut expected = Vec::new();
        let mut waited = false;
        for number in 0..20_000_u32 {
            let bytes = [number.to_be_bytes(); 512].concat();
            busy(&mut others);
            if stream.leave_to_batch(&bytes, Waker::noop()) || stream.try_write(&bytes).is_ok_and(|n| n == bytes.len())
            {
                expected.extend_from_slice(&bytes);
            } else {
                break;
            }
            batch::end_of_turn();
            if stream.wants_flush() {
                waited = true;
                break;
            }
        }
        assert!(waited || !batch::start(), "the buffers of the socket never got full");
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            far.read_to_end(&mut got).unwrap();
            got
        });
        send(&mut stream, b"last").await;
        flushed(&mut stream).await.unwrap();
        expected.extend_from_slice(b"last");
        stream.shutdown();
        drop(stream);
        let got = reader.join().unwrap();
        assert_eq!(got.len(), expected.len());
        assert!(got == expected);
    });
}

#[test]
fn a_connection_that_is_dropped_sends_what_was_taken() {
    on_worker(async || {
        let mut others: Vec<_> = (0..3).map(|_| connected()).collect();
        busy(&mut others);
        let (mut stream, mut far) = connected();
        send(&mut stream, b"goodbye").await;
        drop(stream);
        // Its number is given to another one: nobody else gets what was its.
        let (_other, mut other_far) = connected();
        batch::end_of_turn();
        let mut got = Vec::new();
        far.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"goodbye");
        other_far.set_nonblocking(true).unwrap();
        assert!(other_far.read(&mut [0]).is_err());
    });
}

#[test]
fn a_failure_is_told_to_the_connection_and_wakes_its_task() {
    on_worker(async || {
        let mut others: Vec<_> = (0..3).map(|_| connected()).collect();
        let (mut stream, far) = connected();
        socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO)).unwrap();
        drop(far);
        let failed = loop {
            let taken = poll_fn(|cx| {
                busy(&mut others);
                Poll::Ready(stream.leave_to_batch(b"lost", cx.waker()))
            })
            .await;
            if !taken {
                // Without a ring, or after the failure.
                break stream.try_write(b"lost").is_err();
            }
            // The end of the turn wakes this task.
            tokio::task::yield_now().await;
            batch::end_of_turn();
            if stream.wants_flush() {
                break flushed(&mut stream).await.is_err();
            }
        };
        assert!(failed);
    });
}

#[test]
fn a_lone_write_is_sent_at_once() {
    on_worker(async || {
        let (mut stream, mut far) = connected();
        stream.writable().await.unwrap();
        for _ in 0..10 {
            batch::end_of_turn();
            assert!(!stream.leave_to_batch(b"now", Waker::noop()));
            assert_eq!(stream.try_write(b"now").unwrap(), 3);
            assert_eq!(read(&mut far, 3), b"now");
        }
    });
}

#[test]
fn another_thread_waits_for_what_a_batch_holds() {
    let (sender, receiver) = std::sync::mpsc::channel::<Stream>();
    let mut far = on_worker(async move || {
        let mut others: Vec<_> = (0..3).map(|_| connected()).collect();
        let (mut stream, far) = connected();
        stream.writable().await.unwrap();
        busy(&mut others);
        let was_taken = stream.leave_to_batch(b"first", Waker::noop());
        let elsewhere = std::thread::spawn(move || {
            let mut stream = receiver.recv().unwrap();
            // Not before what is on its way.
            assert_eq!(stream.try_write(b"second").is_err(), was_taken);
            stream
        });
        sender.send(stream).unwrap();
        let mut stream = elsewhere.join().unwrap();
        batch::end_of_turn();
        send(&mut stream, b"second").await;
        batch::end_of_turn();
        let mut far = far;
        let expected: &[u8] = if was_taken { b"firstsecond" } else { b"secondsecond" };
        assert_eq!(read(&mut far, expected.len()), expected);
        far
    });
    far.write_all(b"x").unwrap_or_default();
}
