//! What a client may be told: each answer is compared with what was asked.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::timeout;

use super::client::PATIENCE;
use super::ledger::Ledger;
use super::statement::{Kind, Mark};
use super::support::frames::Frame;
use super::units::{Step, Unit};

/// SQLSTATEs that nothing of what these clients and servers do explains.
const UNEXPLAINED: [&str; 7] = ["26000", "42P05", "34000", "08P01", "XX000", "42501", "25001"];

/// Why a session is over.
#[derive(Debug)]
pub enum End {
    /// The client itself has closed it.
    Closed,
    /// The other side has.
    Over(#[allow(dead_code, reason = "shown")] io::ErrorKind),
}

/// What a client knows of its session.
pub struct Session {
    ledger: Arc<Ledger>,
    session: u32,
    pub units: VecDeque<Unit>,
    /// As the last ReadyForQuery says, and completions since.
    pub status: u8,
    setting: String,
    setting_before_block: String,
    block_writes: Vec<Mark>,
    pub names: BTreeMap<String, String>,
    /// The code of a FATAL.
    pub last_words: Option<String>,
    commit_is_out: bool,
    /// The server has refused to begin the block: nothing but a FATAL may follow.
    must_end: bool,
}

/// Whether an end of the stream came between two frames is told by its error.
pub async fn read_frame(reader: &mut OwnedReadHalf) -> io::Result<Frame> {
    let mut header = [0; 5];
    if reader.read(&mut header[..1]).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let within = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::from(io::ErrorKind::InvalidData),
        _ => error,
    };
    reader.read_exact(&mut header[1..]).await.map_err(within)?;
    let length = u32::from_be_bytes(header[1..].try_into().unwrap()) as usize;
    let mut body = vec![0; length - 4];
    reader.read_exact(&mut body).await.map_err(within)?;
    Ok(Frame { tag: header[0], body })
}

impl Session {
    pub fn new(ledger: Arc<Ledger>, session: u32) -> Self {
        Self {
            ledger,
            session,
            units: VecDeque::new(),
            status: b'I',
            setting: String::new(),
            setting_before_block: String::new(),
            block_writes: Vec::new(),
            names: BTreeMap::new(),
            last_words: None,
            commit_is_out: false,
            must_end: false,
        }
    }

    fn wrong(&self, what: impl std::fmt::Display) {
        self.ledger.violation(format!("c{}: {what}", self.session));
    }

    pub fn begin_unit(&mut self) {
        let setting = self.setting.clone();
        if let Some(unit) = self.units.front_mut() {
            unit.before = setting;
        }
    }

    /// Reads until all units are answered.
    pub async fn hear_all(&mut self, reader: &mut OwnedReadHalf) -> Result<(), End> {
        while !self.units.is_empty() {
            match timeout(PATIENCE, read_frame(reader)).await {
                Ok(Ok(frame)) => {
                    let odd = !matches!(frame.tag, b'1' | b'2' | b'3' | b'T' | b't' | b'n');
                    if odd {
                        self.ledger.note(format!("c{} hears {frame:?}", self.session));
                    }
                    self.hear(&frame);
                }
                Ok(Err(error)) => {
                    if error.kind() == io::ErrorKind::UnexpectedEof && self.last_words.is_none() {
                        self.wrong("was left without a word");
                    }
                    return Err(End::Over(error.kind()));
                }
                Err(_) => {
                    self.wrong(format!("is stuck: {:?}", self.units));
                    return Err(End::Closed);
                }
            }
        }
        Ok(())
    }

    fn hear(&mut self, frame: &Frame) {
        if matches!(frame.tag, b'N' | b'S') {
            return;
        }
        if self.last_words.is_some() {
            return self.wrong(format!("is told {frame:?} after a FATAL"));
        }
        if self.must_end && frame.field(b'S').is_none_or(|severity| frame.tag != b'E' || severity != "FATAL") {
            return self.wrong(format!("is told {frame:?} though its block was never begun"));
        }
        match frame.tag {
            b'E' => return self.failed(frame),
            b'Z' => return self.ready(frame),
            _ => {}
        }
        let Some(unit) = self.units.front_mut() else { return };
        let Some(step) = unit.steps.front_mut() else {
            return self.wrong(format!("is told {frame:?} after the last answer"));
        };
        if unit.failed {
            return self.wrong(format!("is told {frame:?} after an error"));
        }
        let done = match (frame.tag, &mut *step) {
            (b'1', Step::Parse(name, text)) => {
                if !name.is_empty() {
                    self.names.insert(std::mem::take(name), std::mem::take(text));
                }
                true
            }
            (b'3', Step::Close(name)) => {
                self.names.remove(name);
                true
            }
            (b'2', Step::Bind) | (b't', Step::Parameters) => true,
            (b'T', Step::Columns(kind)) if kind.returns() => true,
            (b'n', Step::Columns(kind)) if !kind.returns() => true,
            (b'D', Step::Run { mark, kind, told, .. }) if kind.returns() => {
                *told += 1;
                let (mark, value) = (*mark, frame.columns().remove(0).unwrap_or_default());
                self.check_echo(mark, &value);
                false
            }
            (b'G', Step::Run { kind: Kind::CopyIn, .. }) | (b'H' | b'c', Step::Run { kind: Kind::CopyOut, .. }) => {
                false
            }
            (b'd', Step::Run { mark, kind: Kind::CopyOut, .. }) => {
                let mark = *mark;
                self.check_echo(mark, &String::from_utf8_lossy(&frame.body));
                false
            }
            (b'I', Step::Run { kind: Kind::Empty, .. }) => true,
            (b's', Step::Run { mark, max, told, .. }) if *told == *max && *max > 0 => {
                // The rest of the rows is told by the next Execute.
                let (mark, max) = (*mark, *max);
                if let Some(Step::Run { mark: next, max: left, .. }) = unit.steps.get_mut(1)
                    && *next == mark
                {
                    *left = 0;
                }
                unit.steps.pop_front();
                if let Some(Step::Run { told, .. }) = unit.steps.front_mut() {
                    *told = max;
                }
                return;
            }
            (b'C', Step::Run { mark, kind, told, .. }) => {
                let (mark, kind, told) = (*mark, *kind, *told);
                unit.steps.pop_front();
                return self.completed(mark, kind, told, &frame.strings()[0]);
            }
            _ => {
                let what = format!("expected {step:?}, is told {frame:?}");
                return self.wrong(what);
            }
        };
        if done && let Some(unit) = self.units.front_mut() {
            unit.steps.pop_front();
        }
    }

    fn check_echo(&self, mark: Mark, echo: &str) {
        let expected = format!("{mark}|{}|", self.setting);
        if !echo.starts_with(&expected) {
            self.wrong(format!("is told {echo}, expected {expected}"));
        }
    }

    fn completed(&mut self, mark: Mark, kind: Kind, told: usize, tag: &str) {
        let unit = self.units.front_mut().unwrap();
        let expected = match kind {
            Kind::Commit if self.status == b'E' => "ROLLBACK".to_owned(),
            Kind::CopyIn => kind.tag(unit.copied),
            Kind::CopyOut => kind.tag(1),
            // The rows of an earlier Execute of the portal do not count.
            Kind::Read => format!("SELECT {}", told.min(Mark::rows(mark))),
            _ => kind.tag(kind.rows(Some(mark))),
        };
        if kind.returns() && told != kind.rows(Some(mark)) {
            let rows = kind.rows(Some(mark));
            self.wrong(format!("{mark} has {rows} rows, was told {told}"));
        } else if tag != expected && kind != Kind::Read {
            self.wrong(format!("{mark} ({kind:?}) ends with {tag}, expected {expected}"));
        }
        let unit = self.units.front_mut().unwrap();
        match kind {
            Kind::Begin => {
                self.status = b'T';
                self.setting_before_block.clone_from(&unit.before);
                self.block_writes.append(&mut unit.implicit);
            }
            Kind::Set => self.setting = mark.to_string(),
            Kind::Reset => self.setting.clear(),
            Kind::DiscardAll => {
                self.setting.clear();
                self.names.clear();
            }
            Kind::Commit | Kind::Rollback => {
                let mut writes = std::mem::take(&mut self.block_writes);
                writes.append(&mut unit.implicit);
                let committed = tag == "COMMIT";
                match self.status {
                    _ if committed => {}
                    // Its BEGIN has failed, in a Query before it.
                    b'I' => self.setting.clone_from(&unit.before),
                    _ => self.setting.clone_from(&self.setting_before_block),
                }
                self.status = b'I';
                unit.before.clone_from(&self.setting);
                self.finish(&writes, committed, tag);
            }
            kind if kind.writes() => match self.status {
                b'I' => unit.implicit.push(mark),
                _ => self.block_writes.push(mark),
            },
            _ => {}
        }
    }

    /// These writes are known to be committed, or not to be.
    fn finish(&mut self, writes: &[Mark], committed: bool, why: &str) {
        for mark in writes {
            match committed {
                true => self.ledger.acknowledged(*mark),
                false => self.ledger.refused(*mark, why),
            }
            for unit in &mut self.units {
                unit.writes.retain(|each| each != mark);
            }
        }
    }

    fn failed(&mut self, frame: &Frame) {
        let code = frame.sqlstate();
        // What is sent with other statements is not moved to another node when a standby refuses it.
        let hides = |step: &Step| matches!(step, Step::Run { kind: Kind::HiddenWrite, .. });
        let refused_by_standby =
            code == "25006" && !self.units.front().is_some_and(|unit| unit.steps.iter().any(hides));
        if UNEXPLAINED.contains(&code.as_str()) || refused_by_standby {
            self.wrong(format!("is told {frame:?}"));
        }
        if frame.field(b'S').is_some_and(|severity| severity == "FATAL") {
            self.last_words = Some(code);
            return;
        }
        let Some(unit) = self.units.front_mut() else { return };
        if unit.failed {
            return self.wrong(format!("is told a second error: {frame:?}"));
        }
        unit.failed = true;
        unit.commit_failed = matches!(unit.steps.front(), Some(Step::Run { kind: Kind::Commit, .. }))
            || unit.steps.iter().any(|step| matches!(step, Step::Run { kind: Kind::Commit, .. }));
        unit.steps.clear();
        // What follows is skipped, and so is what the block holds, but for what it has done before.
        let mut writes: Vec<_> = unit.writes.iter().filter(|mark| !self.block_writes.contains(mark)).copied().collect();
        if self.status == b'I' {
            self.setting.clone_from(&unit.before);
        } else {
            self.status = b'E';
        }
        unit.implicit.clear();
        writes.dedup();
        self.finish(&writes, false, &code);
    }

    fn ready(&mut self, frame: &Frame) {
        let Some(mut unit) = self.units.pop_front() else { return self.wrong("is told ReadyForQuery once too often") };
        if !unit.steps.is_empty() {
            self.wrong(format!("is ready before it was told {:?}", unit.steps));
        }
        let status = frame.body[0];
        if unit.failed && unit.commit_failed && status == b'I' && self.status != b'I' {
            let writes = std::mem::take(&mut self.block_writes);
            self.finish(&writes, false, "an error at COMMIT");
            self.setting = self.setting_before_block.clone();
            self.status = b'I';
        }
        if unit.failed && status == b'I' && self.status == b'E' {
            self.must_end = true;
        } else if status != self.status {
            self.wrong(format!("is told {frame:?}, expected {}", char::from(self.status)));
            self.status = status;
        }
        let writes = std::mem::take(&mut unit.implicit);
        self.finish(&writes, true, "");
        self.begin_unit();
    }

    /// The session is over: what is known now of writes that were under way.
    pub fn account(&mut self, end: &End) {
        let commits = |step: &Step| matches!(step, Step::Run { kind: Kind::Commit, .. });
        self.commit_is_out = self.units.iter().any(|unit| unit.steps.iter().any(commits));
        let mut writes = std::mem::take(&mut self.block_writes);
        let lost = self.last_words.as_deref() == Some("08006");
        if self.commit_is_out && !lost {
            return;
        }
        if lost {
            writes.extend(self.units.iter().flat_map(|unit| unit.writes.clone()));
        }
        let why = format!("{end:?}, {:?}", self.last_words);
        self.finish(&writes, false, &why);
    }
}
