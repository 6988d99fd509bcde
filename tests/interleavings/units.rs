//! What clients say: units, each a Query or what ends in a Sync, made at random; and what they may be answered, step by step.

use std::collections::{BTreeMap, VecDeque};

use fastrand::Rng;

use super::statement::{Kind, Mark};
use super::support::frames::Batch;

/// One answer that is awaited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// ParseComplete, after which the client has this name for this text.
    Parse(String, String),
    Bind,
    /// ParameterDescription.
    Parameters,
    /// RowDescription or NoData.
    Columns(Kind),
    /// CloseComplete, of this name.
    Close(String),
    /// Rows up to a number (0 = all that are left), then the end.
    Run {
        mark: Mark,
        kind: Kind,
        max: usize,
        told: usize,
    },
}

/// What is answered by one ReadyForQuery.
#[derive(Debug, Default)]
pub struct Unit {
    pub steps: VecDeque<Step>,
    /// An error has come.
    pub failed: bool,
    /// Writes that were completed outside a block: the ReadyForQuery commits them.
    pub implicit: Vec<Mark>,
    /// Those that it has and that are still to come.
    pub writes: Vec<Mark>,
    /// `app.x` when what the next error undoes began.
    pub before: String,
    /// What the error struck was a COMMIT.
    pub commit_failed: bool,
    /// Number of data rows of a COPY.
    pub copied: usize,
}

/// Makes the units of one session.
#[derive(Debug)]
pub struct Author {
    pub rng: Rng,
    pub session: u32,
    next: u32,
    /// Names that the client will have, and their texts, when all that it has sent is answered.
    pub names: BTreeMap<String, String>,
    /// In a block, as far as the client knows and has written.
    pub in_block: bool,
    /// What has been written since the last answer may change what names mean: no other unit relies on them.
    pub names_are_open: bool,
}

impl Author {
    pub fn new(rng: Rng, session: u32) -> Self {
        Self { rng, session, next: 0, names: BTreeMap::new(), in_block: false, names_are_open: false }
    }

    fn mark(&mut self) -> Mark {
        self.next += 1;
        Mark { session: self.session, number: self.next }
    }

    /// A kind of statement that fits here.
    fn kind(&mut self) -> Kind {
        match (self.in_block, self.rng.u8(0..24)) {
            (_, 0..6) => Kind::Read,
            (_, 6..11) => Kind::Write,
            (_, 11) => Kind::HiddenWrite,
            (_, 12..15) => Kind::Set,
            (_, 15) => Kind::Reset,
            (false, 16..22) => Kind::Begin,
            (true, 16..20) => Kind::Commit,
            (true, 20..22) => Kind::Rollback,
            (false, 22) => Kind::DiscardAll,
            _ => Kind::Empty,
        }
    }

    fn note(&mut self, kind: Kind) {
        match kind {
            Kind::Begin => self.in_block = true,
            Kind::Commit | Kind::Rollback => self.in_block = false,
            Kind::DiscardAll => {
                self.names.clear();
                self.names_are_open = true;
            }
            _ => {}
        }
    }

    /// A Query or a segment.
    pub fn unit(&mut self) -> (Unit, Batch, String) {
        match self.rng.u8(0..20) {
            0..9 => self.query(),
            9 => self.copy_in(),
            10 => self.copy_out(),
            _ => self.segment(),
        }
    }

    fn run(unit: &mut Unit, mark: Mark, kind: Kind, max: usize) {
        unit.steps.push_back(Step::Run { mark, kind, max, told: 0 });
        if kind.writes() && !unit.writes.contains(&mark) {
            unit.writes.push(mark);
        }
    }

    fn query(&mut self) -> (Unit, Batch, String) {
        let mut unit = Unit::default();
        let several = self.rng.u8(0..8) == 0;
        let mut texts = Vec::new();
        for number in 0..if several { 3 } else { 1 } {
            let kind = loop {
                let kind = self.kind();
                let begins_late = kind == Kind::Begin && number > 0;
                let is_alone = matches!(kind, Kind::DiscardAll | Kind::Empty | Kind::Reset);
                if !(begins_late || several && is_alone) {
                    break kind;
                }
            };
            let (mark, variant) = (self.mark(), self.rng.u32(0..4));
            if kind.returns() {
                unit.steps.push_back(Step::Columns(kind));
            }
            Self::run(&mut unit, mark, kind, 0);
            self.note(kind);
            texts.push(kind.text(mark, false, variant));
        }
        let text = texts.join("; ");
        (unit, Batch::new().query(&text), format!("Q {text}"))
    }

    fn copy_in(&mut self) -> (Unit, Batch, String) {
        let mark = self.mark();
        let text = Kind::CopyIn.text(mark, false, 0);
        let rows = self.rng.usize(0..4);
        let simple = self.rng.bool();
        let mut unit = Unit { copied: rows, ..Unit::default() };
        let mut batch = Batch::new();
        if simple {
            batch = batch.query(&text);
        } else {
            batch = batch.parse("", &text, &[]).bind("", "", &[]).execute("", 0);
            unit.steps.extend([Step::Parse(String::new(), text.clone()), Step::Bind]);
        }
        Self::run(&mut unit, mark, Kind::CopyIn, 0);
        for _ in 0..rows {
            batch = batch.copy_data(format!("{mark}\n").as_bytes());
        }
        let fails = self.rng.u8(0..6) == 0;
        batch = if fails { batch.copy_fail("scripted") } else { batch.copy_done() };
        if !simple {
            batch = batch.sync();
        }
        (unit, batch, format!("{} {text}, {rows} rows, fails: {fails}", if simple { "Q" } else { "E" }))
    }

    fn copy_out(&mut self) -> (Unit, Batch, String) {
        let mut unit = Unit::default();
        let mark = self.mark();
        let text = Kind::CopyOut.text(mark, false, 0);
        Self::run(&mut unit, mark, Kind::CopyOut, 0);
        (unit, Batch::new().query(&text), format!("Q {text}"))
    }

    fn segment(&mut self) -> (Unit, Batch, String) {
        let mut unit = Unit::default();
        let mut batch = Batch::new();
        let mut story = String::from("E");
        let may_name = !self.names_are_open;
        for number in 0..self.rng.usize(1..4) {
            if self.rng.u8(0..12) == 0 {
                batch = batch.flush();
                story += " flush";
            }
            let named = may_name && self.rng.u8(0..3) == 0;
            let kind = loop {
                let kind = if named { self.rng.choice([Kind::Read, Kind::Write]).unwrap() } else { self.kind() };
                let begins_late = kind == Kind::Begin && number > 0;
                if !begins_late && !matches!(kind, Kind::DiscardAll | Kind::Reset | Kind::Empty) {
                    break kind;
                }
            };
            let (mark, variant) = (self.mark(), self.rng.u32(0..4));
            let parameter = kind.returns() && (named || self.rng.bool());
            let name = if named { format!("n{}", self.rng.u8(0..3)) } else { String::new() };
            let known = self.names.get(&name).cloned();
            let (text, kind) = match known {
                Some(text) if named && self.rng.u8(0..4) > 0 => (text.clone(), Kind::of(&text)),
                known => {
                    let text = kind.text(mark, parameter, variant);
                    if named && known.is_some() {
                        batch = batch.close(b'S', &name);
                        unit.steps.push_back(Step::Close(name.clone()));
                    }
                    batch = batch.parse(&name, &text, &[]);
                    unit.steps.push_back(Step::Parse(name.clone(), text.clone()));
                    (text, kind)
                }
            };
            if named {
                self.names.insert(name.clone(), text.clone());
                self.names_are_open = true;
            }
            let has_parameter = text.contains("$1");
            if self.rng.u8(0..5) == 0 {
                batch = batch.describe(b'S', &name);
                unit.steps.extend([Step::Parameters, Step::Columns(kind)]);
            }
            let value = mark.to_string();
            let values = [Some(value.as_str())];
            batch = batch.bind("", &name, if has_parameter { &values } else { &[] });
            unit.steps.push_back(Step::Bind);
            if self.rng.u8(0..2) == 0 {
                batch = batch.describe(b'P', "");
                unit.steps.push_back(Step::Columns(kind));
            }
            if kind == Kind::Read && self.rng.u8(0..4) == 0 {
                batch = batch.execute("", 1);
                Self::run(&mut unit, mark, kind, 1);
            }
            batch = batch.execute("", 0);
            Self::run(&mut unit, mark, kind, 0);
            self.note(kind);
            story += &format!(" [{name}] {text} {mark}");
        }
        (unit, batch.sync(), story)
    }
}
