//! A random client, and what it may be told.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::hearing::{End, Session, read_frame};
use super::ledger::Ledger;
use super::support::frames::Batch;
use super::units::Author;

/// Whoever waits for longer is stuck: longer than all time-outs together.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// Connects again and again until the seed is over.
pub async fn run(ledger: Arc<Ledger>, port: u16, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    while !ledger.is_over() {
        let number = ledger.next_session();
        let session = one(ledger.clone(), port, number, Rng::with_seed(rng.u64(..)));
        if let Err(error) = session.await {
            ledger.note(format!("c{number} could not log in: {error}"));
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// One session, from its login to its end.
async fn one(ledger: Arc<Ledger>, port: u16, number: u32, mut rng: Rng) -> io::Result<()> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.into_split();
    let startup = [&196_608_u32.to_be_bytes()[..], b"user\0app\0database\0app\0\0"].concat();
    let length = u32::try_from(startup.len() + 4).unwrap().to_be_bytes();
    writer.write_all(&[&length[..], &startup].concat()).await?;
    let mut key = Vec::new();
    loop {
        let frame = timeout(PATIENCE, read_frame(&mut reader)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        match frame.tag {
            b'K' => key = frame.body,
            b'E' => return Err(io::Error::other(format!("{frame:?}"))),
            b'Z' => break,
            _ => {}
        }
    }
    let can_cancel = number.is_multiple_of(2);
    ledger.note(format!("c{number} logged in"));
    let mut author = Author::new(Rng::with_seed(rng.u64(..)), number);
    let mut session = Session::new(ledger.clone(), number);
    let end = loop {
        if ledger.is_over() || rng.u8(0..60) == 0 {
            ledger.set_presence(number, |presence| presence.gone = true);
            let _ = writer.write_all(Batch::new().terminate().bytes()).await;
            break End::Closed;
        }
        let mut bytes = Vec::new();
        for _ in 0..if rng.u8(0..4) == 0 { rng.usize(2..4) } else { 1 } {
            let (unit, batch, story) = author.unit();
            ledger.note(format!("c{number} -> {story}"));
            bytes.extend_from_slice(batch.bytes());
            session.units.push_back(unit);
        }
        session.begin_unit();
        ledger.set_presence(number, |presence| presence.busy_since = presence.busy_since.or(Some(Instant::now())));
        let cuts = (rng.u8(0..80) == 0).then(|| rng.usize(0..=bytes.len()));
        if let Some(at) = cuts {
            bytes.truncate(at);
        }
        if can_cancel && rng.u8(0..5) == 0 {
            ledger.set_presence(number, |presence| presence.asked_cancel = true);
            ledger.note(format!("c{number} asks for a cancel"));
            tokio::spawn(cancel(port, key.clone(), Duration::from_millis(rng.u64(0..20))));
        }
        let mut pieces = Rng::with_seed(rng.u64(..));
        let write = async {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let whole = pieces.u8(0..4) > 0;
                let (piece, tail) = rest.split_at(if whole { rest.len() } else { pieces.usize(1..=rest.len()) });
                // Who cannot write hears why.
                if writer.write_all(piece).await.is_err() {
                    break;
                }
                rest = tail;
                if !rest.is_empty() {
                    let time = if pieces.u8(0..40) == 0 { 100..500 } else { 0..4 };
                    sleep(Duration::from_millis(pieces.u64(time))).await;
                }
            }
            if cuts.is_some() {
                sleep(Duration::from_millis(pieces.u64(0..30))).await;
            }
        };
        let heard = {
            let (mut write, mut written) = (pin!(write), false);
            let mut hear = pin!(session.hear_all(&mut reader));
            loop {
                tokio::select! {
                    () = &mut write, if !written => {
                        written = true;
                        if cuts.is_some() {
                            break Err(End::Closed);
                        }
                    }
                    heard = &mut hear => {
                        // Data of a COPY that was refused may still be on their way.
                        if heard.is_ok() && !written {
                            write.await;
                        }
                        break if cuts.is_some() { Err(End::Closed) } else { heard };
                    }
                }
            }
        };
        if let Err(end) = heard {
            ledger.set_presence(number, |presence| presence.gone |= matches!(end, End::Closed));
            break end;
        }
        if session.status == b'I' {
            ledger.set_presence(number, |presence| presence.busy_since = None);
        }
        author.in_block = session.status != b'I';
        author.names.clone_from(&session.names);
        author.names_are_open = false;
        let time = match rng.u8(0..40) {
            0 => 100..500,
            1..10 => 1..12,
            _ => 0..1,
        };
        sleep(Duration::from_millis(rng.u64(time))).await;
    };
    ledger.note(format!("c{number} ended: {end:?}, last words: {:?}", session.last_words));
    session.account(&end);
    ledger.set_presence(number, |presence| presence.gone = true);
    Ok(())
}

/// Asks for a cancel a little later.
async fn cancel(port: u16, key: Vec<u8>, after: Duration) -> io::Result<()> {
    sleep(after).await;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let length = u32::try_from(key.len() + 8).unwrap();
    stream.write_all(&[&length.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), &key].concat()).await?;
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    Ok(())
}
