//! What a scripted server answers to each message, and what may happen before it does.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::FutureExt;

use super::engine::Portal;
use super::server::error;
use super::statement::Kind;
use super::work::{Copying, Work, closed};

impl Work {
    pub async fn query(&mut self, body: &[u8]) -> io::Result<()> {
        self.engine.portals.remove("");
        self.engine.statements.remove("");
        let text = String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap_or(body)).into_owned();
        self.in_segment = false;
        let texts: Vec<_> = text.split(';').filter(|each| !each.trim().is_empty()).collect();
        if texts.is_empty() {
            self.put(b'I', b"");
        }
        for each in texts {
            let mut portal = Portal::new(each, b"");
            if portal.kind.returns() {
                self.describe(portal.kind);
            }
            match self.execute(&mut portal, 0).await? {
                Ok(()) if portal.kind == Kind::CopyIn => {
                    self.copy = Some(Copying { rows: 0, simple: true });
                    return self.flush().await;
                }
                Ok(()) => {}
                Err(code) => {
                    self.out.extend(error("ERROR", code));
                    break;
                }
            }
        }
        self.ready(true).await
    }

    fn describe(&mut self, kind: Kind) {
        if kind.returns() {
            self.put(b'T', b"\0\x01echo\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
        } else {
            self.put(b'n', b"");
        }
    }

    /// A message of the extended protocol but Sync and Flush.
    pub async fn extended(&mut self, tag: u8, body: &[u8]) -> io::Result<Result<(), &'static str>> {
        let mut strings = body.splitn(3, |byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned());
        let (first, second) = (strings.next().unwrap_or_default(), strings.next().unwrap_or_default());
        match tag {
            b'P' => {
                if self.engine.status == b'E' && !matches!(Kind::of(&second), Kind::Commit | Kind::Rollback) {
                    return Ok(self.refuse("25P02"));
                }
                if second.starts_with("the block has failed") {
                    // It is no SQL.
                    return Ok(self.refuse("42601"));
                }
                if !first.is_empty() && self.engine.statements.contains_key(&first) {
                    return Ok(self.refuse("42P05"));
                }
                self.engine.statements.insert(first, second);
                self.put(b'1', b"");
            }
            b'B' => {
                let Some(text) = self.engine.statements.get(&second) else { return Ok(self.refuse("26000")) };
                let parameters = &body[first.len() + second.len() + 2..];
                let portal = Portal::new(text, parameters);
                if self.engine.status == b'E' && !matches!(portal.kind, Kind::Commit | Kind::Rollback) {
                    return Ok(self.refuse("25P02"));
                }
                self.engine.portals.insert(first, portal);
                self.put(b'2', b"");
            }
            b'D' => {
                let name = &first[1..];
                let kind = match first.as_bytes()[0] {
                    b'S' => match self.engine.statements.get(name) {
                        Some(text) => {
                            let (kind, parameters) = (Kind::of(text), text.contains("$1"));
                            self.put(b't', if parameters { b"\0\x01\0\0\0\x19" } else { b"\0\0" });
                            kind
                        }
                        None => return Ok(self.refuse("26000")),
                    },
                    _ => match self.engine.portals.get(name) {
                        Some(portal) => portal.kind,
                        None => return Ok(self.refuse("34000")),
                    },
                };
                self.describe(kind);
            }
            b'E' => {
                let rows = body.last_chunk::<4>().map_or(0, |count| u32::from_be_bytes(*count)) as usize;
                let Some(mut portal) = self.engine.portals.remove(&first) else { return Ok(self.refuse("34000")) };
                let outcome = self.execute(&mut portal, rows).await?;
                if outcome.is_ok() && portal.kind == Kind::CopyIn {
                    self.copy = Some(Copying { rows: 0, simple: false });
                } else {
                    self.engine.portals.insert(first, portal);
                }
                return Ok(outcome);
            }
            b'C' => {
                let name = &first[1..];
                match first.as_bytes()[0] {
                    b'S' => drop(self.engine.statements.remove(name)),
                    _ => drop(self.engine.portals.remove(name)),
                }
                self.put(b'3', b"");
            }
            _ => return Ok(self.refuse("08P01")),
        }
        Ok(Ok(()))
    }

    fn refuse(&mut self, code: &'static str) -> Result<(), &'static str> {
        self.engine.fail();
        Err(code)
    }

    /// Executes a portal, with all that may happen meanwhile.
    async fn execute(&mut self, portal: &mut Portal, max: usize) -> io::Result<Result<(), &'static str>> {
        if portal.rows.is_none() {
            if let Some(code) = self.linger(portal).await? {
                if portal.kind == Kind::Commit && self.engine.status == b'T' {
                    self.engine.fail_commit();
                    return Ok(Err(code));
                }
                self.engine.refuse(portal);
                self.handle.is_left.store(self.engine.refused_settings, Ordering::Relaxed);
                return Ok(Err(code));
            }
            let (tag, before) = (portal.kind, self.engine.status);
            match self.engine.run(portal) {
                Ok(rows) => portal.rows = Some(rows),
                Err(code) => return Ok(self.refuse(code)),
            }
            if tag == Kind::Commit && before == b'T' && self.draw(40) == 0 {
                self.ledger().count("commit unheard");
                return Err(closed("closed after a COMMIT"));
            }
            match (tag, before) {
                // What was a COMMIT has rolled back.
                (Kind::Commit, b'E') => portal.kind = Kind::Rollback,
                (Kind::CopyIn, _) => {
                    self.put(b'G', b"\0\0\x01\0\0");
                    return Ok(Ok(()));
                }
                (Kind::CopyOut, _) => {
                    let row = portal.rows.as_ref().unwrap()[0].clone();
                    self.put(b'H', b"\0\0\x01\0\0");
                    self.put(b'd', row.as_bytes());
                    self.put(b'c', b"");
                }
                (Kind::Empty, _) => {
                    self.put(b'I', b"");
                    return Ok(Ok(()));
                }
                _ => {}
            }
        }
        let rows = portal.rows.clone().unwrap_or_default();
        let rest = if portal.kind.returns() { &rows[portal.told..] } else { &[] };
        let count = if max == 0 { rest.len() } else { max.min(rest.len()) };
        for row in &rest[..count] {
            let length = u32::try_from(row.len()).unwrap().to_be_bytes();
            self.put(b'D', &[b"\0\x01", &length[..], row.as_bytes()].concat());
        }
        portal.told += count;
        if max > 0 && count == max {
            self.put(b's', b"");
        } else {
            let count = if portal.kind == Kind::CopyOut { 1 } else { count };
            self.put(b'C', format!("{}\0", portal.kind.tag(count)).as_bytes());
        }
        Ok(Ok(()))
    }

    /// What may happen before a statement is executed: time passes, it is cancelled, it fails, the server goes away.
    async fn linger(&mut self, portal: &Portal) -> io::Result<Option<&'static str>> {
        match self.draw(60) {
            0 => self.put(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mscripted\0\0"),
            1 => {
                let value = self.rng.u8(0..3);
                self.put(b'S', format!("x.weather\0{value}\0").as_bytes());
            }
            _ => {}
        }
        let time = match self.draw(50) {
            0 => self.rng.u64(100..700),
            1..5 => self.rng.u64(5..30),
            5..25 => self.rng.u64(0..3),
            _ => 0,
        };
        if time > 0 && portal.kind != Kind::Rollback {
            *self.handle.running.lock().unwrap() = true;
            let handle = self.handle.clone();
            // One that came too late for the statement before.
            let _ = handle.cancel.notified().now_or_never();
            let until = Instant::now() + Duration::from_millis(time);
            let mut cancelled = false;
            while let left = until.saturating_duration_since(Instant::now())
                && !left.is_zero()
                && !cancelled
            {
                // A server that hangs is one that cannot be cancelled, either.
                tokio::select! {
                    () = handle.cancel.notified() => cancelled = true,
                    () = self.pause(left) => {}
                }
            }
            *self.handle.running.lock().unwrap() = false;
            if cancelled {
                return Ok(Some("57014"));
            }
        }
        if portal.mark.is_none() {
            return Ok(None);
        }
        Ok(match self.draw(if portal.kind == Kind::Begin { 600 } else { 250 }) {
            0..4 => Some(self.rng.choice(["22012", "40001", "53100"]).unwrap()),
            4 => {
                self.out.extend(error("FATAL", "57P01"));
                self.flush().await?;
                return Err(closed("said goodbye"));
            }
            5 => {
                self.flush().await?;
                return Err(closed("closed before a statement"));
            }
            _ => None,
        })
    }

    /// Data of a COPY, or its end. Those that come when there is none any more are ignored.
    pub async fn copy_message(&mut self, tag: u8) -> io::Result<()> {
        let Some(mut copy) = self.copy.take() else {
            self.rest();
            return Ok(());
        };
        let error_at = self.draw(100) == 0;
        match tag {
            b'd' if !error_at => {
                copy.rows += 1;
                self.copy = Some(copy);
                return Ok(());
            }
            b'c' if !error_at => {
                self.put(b'C', format!("{}\0", Kind::CopyIn.tag(copy.rows)).as_bytes());
            }
            _ => {
                self.engine.fail();
                self.out.extend(error("ERROR", if tag == b'f' { "57014" } else { "22P04" }));
                self.is_skipping = !copy.simple;
            }
        }
        if copy.simple { self.ready(true).await } else { Ok(()) }
    }
}
