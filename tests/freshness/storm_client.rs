//! A client of the storm: writes and reads in many ways, and checks what its level promises.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::clusters::{APP, APP_PASSWORD};
use crate::support::frames::{Batch, Frame, tags};
use crate::support::raw::RawClient;

/// Rows of each table.
pub const ROWS: usize = 4;
/// The tables that are written. A write to the last one fires a trigger, so any table may have changed, the quiet one, too: seldom.
pub const TABLES: [&str; 4] = ["base", "parent", "parted", "watched"];
const WATCHED: usize = 3;
pub const LEVELS: [Level; 3] = [Level::Session, Level::Table, Level::Strong];

/// What can be read, and the table (by index) whose writes it shows.
const READS: [(usize, &str, &str); 10] = [
    (0, "table", "SELECT here(), v FROM base WHERE k = $1"),
    (0, "view", "SELECT here(), v FROM shown WHERE k = $1"),
    (0, "view of a view", "SELECT here(), v FROM shown_twice WHERE k = $1"),
    (0, "function", "SELECT here(), get($1)"),
    (1, "referenced table", "SELECT here(), v FROM parent WHERE k = $1"),
    (1, "cascaded table", "SELECT here(), v FROM child WHERE k = $1"),
    (2, "partitioned table", "SELECT here(), v FROM parted WHERE k = $1"),
    (2, "partition", "SELECT here(), v FROM leaf WHERE k = $1"),
    (3, "table with a trigger", "SELECT here(), v FROM watched WHERE k = $1"),
    (3, "table written by a trigger", "SELECT here(), v FROM journal WHERE k = $1"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Session,
    Table,
    Strong,
}

impl Level {
    fn name(self) -> &'static str {
        ["session", "table", "strong"][self as usize]
    }
}

type Cells = [[AtomicU64; ROWS]; TABLES.len()];

/// What all know: values are made known after their writes were acknowledged.
#[derive(Debug, Default)]
pub struct Board {
    /// Written through Trunkline.
    pub through: Cells,
    /// By anybody.
    pub any: Cells,
    /// Reads by level.
    pub checked: [AtomicU64; 3],
}

/// A read that showed less than it had to.
#[derive(Debug)]
#[allow(dead_code, reason = "for the report")]
pub struct Violation {
    pub level: Level,
    /// What is not held.
    pub promise: &'static str,
    pub kind: &'static str,
    pub protocol: &'static str,
    pub row: usize,
    pub expected: u64,
    pub found: u64,
    /// Where it ran.
    pub port: u16,
    /// Where the session's read before ran.
    pub port_before: u16,
    /// Where the session has seen the highest value, and how long ago.
    pub seen: Option<(u16, Duration)>,
}

#[derive(Debug, Default)]
pub struct Stats {
    pub by_port: BTreeMap<u16, u64>,
    pub writes: u64,
    pub violations: Vec<Violation>,
    pub failures: BTreeMap<String, u64>,
}

impl Stats {
    pub fn checked(&self) -> u64 {
        self.by_port.values().sum()
    }

    pub fn add(&mut self, other: Self) {
        self.writes += other.writes;
        other.by_port.into_iter().for_each(|(port, count)| *self.by_port.entry(port).or_default() += count);
        other.failures.into_iter().for_each(|(state, count)| *self.failures.entry(state).or_default() += count);
        self.violations.extend(other.violations);
    }
}

/// The rows of two columns.
pub fn port_and_value(frames: &[Frame]) -> Vec<(u16, u64)> {
    let rows = frames.iter().filter(|frame| frame.tag == b'D').map(Frame::columns);
    let rows = rows.filter(|row| row.len() == 2);
    let number = |text: &Option<String>| text.as_ref().unwrap().parse::<u64>().unwrap();
    rows.map(|row| (u16::try_from(number(&row[0])).unwrap(), number(&row[1]))).collect()
}

/// What a session has seen or written, and that another value must not be below.
#[derive(Debug, Clone, Copy, Default)]
struct Floor {
    read: u64,
    seen: Option<(u16, Instant)>,
    own: u64,
}

pub struct Client<'a> {
    raw: RawClient,
    port: u16,
    level: Level,
    number: usize,
    board: &'a Board,
    floors: [[Floor; ROWS]; TABLES.len()],
    port_before: u16,
    prepared: HashSet<String>,
    stats: Stats,
}

impl<'a> Client<'a> {
    pub fn new(port: u16, level: Level, number: usize, board: &'a Board) -> Self {
        Self {
            raw: Self::connect(port, level),
            port,
            level,
            number,
            board,
            floors: Default::default(),
            port_before: 0,
            prepared: HashSet::new(),
            stats: Stats::default(),
        }
    }

    fn connect(port: u16, level: Level) -> RawClient {
        let options = format!("-c trunkline.consistency={}", level.name());
        RawClient::connect_with(port, APP_PASSWORD, &[("user", APP), ("database", "app"), ("options", &options)])
    }

    pub fn run(mut self, stop: &AtomicBool) -> Stats {
        let after = |millis: std::ops::Range<u64>| Instant::now() + Duration::from_millis(fastrand::u64(millis));
        let (mut write, mut hidden) = (after(0..300), after(0..15_000));
        while !stop.load(Ordering::Relaxed) {
            let row = fastrand::usize(..ROWS);
            if fastrand::u16(..2000) == 0 {
                self.begin_anew();
            }
            let result = if self.number == 0 && Instant::now() >= hidden {
                hidden = after(15_000..30_000);
                if fastrand::bool() { self.write(WATCHED, row) } else { self.write_by_function(row) }
            } else if Instant::now() >= write {
                // Some sessions leave the replica that is late a chance.
                write = after(if self.number == 1 { 50..2500 } else { 30..500 });
                self.write(fastrand::usize(..WATCHED), row)
            } else {
                self.read(row)
            };
            if let Err(error) = result {
                *self.stats.failures.entry(error.to_string()).or_default() += 1;
                self.begin_anew();
            }
        }
        self.stats
    }

    /// A new session, which was promised nothing: it may begin on the replica that is late.
    fn begin_anew(&mut self) {
        self.raw = Self::connect(self.port, self.level);
        self.floors = Default::default();
        self.prepared.clear();
    }

    /// Sends a batch; `None` = a statement failed.
    fn exchange(&mut self, batch: &Batch) -> io::Result<Option<Vec<Frame>>> {
        self.raw.send(batch);
        let (mut frames, mut left) = (Vec::new(), batch.readies());
        while left > 0 {
            let frame = self
                .raw
                .try_recv()
                .map_err(|error| io::Error::new(error.kind(), format!("{error} after {frames:?}")))?;
            left -= usize::from(frame.tag == b'Z');
            frames.push(frame);
        }
        let error = frames.iter().find(|frame| frame.tag == b'E');
        if let Some(error) = error {
            *self.stats.failures.entry(error.sqlstate()).or_default() += 1;
            let in_block = frames.last().is_some_and(|ready| ready.body != b"I");
            if in_block {
                self.exchange(&Batch::new().query("ROLLBACK"))?;
            }
            // What was prepared before the error stands, what came behind it does not.
            if tags(&frames).contains('Z') {
                self.prepared.clear();
                self.exchange(&Batch::new().query("DEALLOCATE ALL"))?;
            }
            return Ok(None);
        }
        Ok(Some(frames))
    }

    /// Parse (if need be), Bind and Execute of a named statement.
    fn prepared(&mut self, mut batch: Batch, sql: &str, row: &str) -> Batch {
        let name = format!("s{}", sql.bytes().fold(0u64, |hash, byte| hash.wrapping_mul(31) + u64::from(byte)));
        if self.prepared.insert(name.clone()) {
            batch = batch.parse(&name, sql, &[23]);
        }
        batch.bind("", &name, &[Some(row)]).execute("", 0)
    }

    /// A write was acknowledged.
    fn wrote(&mut self, table: usize, row: usize, value: u64) {
        self.stats.writes += 1;
        let floor = &mut self.floors[table][row];
        floor.own = floor.own.max(value);
        self.board.through[table][row].fetch_max(value, Ordering::SeqCst);
        self.board.any[table][row].fetch_max(value, Ordering::SeqCst);
    }

    fn write_by_function(&mut self, row: usize) -> io::Result<()> {
        let frames = self.exchange(&Batch::new().query(&format!("SELECT 0, put({row})")))?;
        if let Some(frames) = frames {
            self.wrote(0, row, port_and_value(&frames)[0].1);
        }
        Ok(())
    }

    fn write(&mut self, table: usize, row: usize) -> io::Result<()> {
        let name = TABLES[table];
        let sql = format!("UPDATE {name} SET v = v + 1 WHERE k = $1 RETURNING 0, v");
        let (text, simple) = (row.to_string(), sql.replace("$1", &row.to_string()));
        // A read of the same table behind it.
        let of_table: Vec<_> = READS.iter().filter(|(of, ..)| *of == table).collect();
        let (_, kind, read) = *of_table[fastrand::usize(..of_table.len())];
        let read = read.replace("$1", &text);
        let query = |sql: &str| Batch::new().query(sql);
        let (batch, protocol) = match fastrand::u8(..8) {
            0 => (query(&simple), "simple"),
            1 => (Batch::new().run(&sql.replace("$1", "$1::int"), &[Some(&text)]).sync(), "unnamed"),
            2 => (self.prepared(Batch::new(), &sql, &text).sync(), "prepared"),
            3 => (query(&format!("SELECT 1; {simple}; SELECT 2")), "string"),
            4 => (
                query(&format!(
                    "WITH w AS (UPDATE {name} SET v = v + 1 WHERE k = {row} RETURNING v) SELECT 0, v FROM w"
                )),
                "with",
            ),
            5 => (query(&format!("{simple}; {read}")), "string with a read"),
            6 => (query(&simple).query(&read), "simple, read pipelined behind it"),
            _ => {
                let Some(_) = self.exchange(&query("BEGIN"))? else { return Ok(()) };
                let Some(frames) = self.exchange(&query(&simple))? else { return Ok(()) };
                let value = port_and_value(&frames)[0].1;
                if self.exchange(&query("COMMIT"))?.is_some() {
                    self.wrote(table, row, value);
                }
                return Ok(());
            }
        };
        let Some(frames) = self.exchange(&batch)? else { return Ok(()) };
        let rows = port_and_value(&frames);
        self.wrote(table, row, rows[0].1);
        if let Some((port, found)) = rows.get(1) {
            self.check(table, row, [0, rows[0].1, 0], *port, *found, kind, protocol);
        }
        Ok(())
    }

    fn read(&mut self, row: usize) -> io::Result<()> {
        let (table, kind, sql) = READS[fastrand::usize(..READS.len())];
        let (text, simple) = (row.to_string(), sql.replace("$1", &row.to_string()));
        let floor = self.floors[table][row];
        // Known before the read is sent.
        let known = match self.level {
            Level::Session => 0,
            Level::Table => self.board.through[table][row].load(Ordering::SeqCst),
            Level::Strong => self.board.any[table][row].load(Ordering::SeqCst),
        };
        let (batch, protocol) = match fastrand::u8(..6) {
            0 => (Batch::new().query(&simple), "simple"),
            1 => (Batch::new().query(&format!("SELECT 1; {simple}; SELECT 2; {simple}")), "string"),
            2 => (Batch::new().run(&simple, &[]).sync(), "unnamed"),
            3 => (self.prepared(Batch::new(), sql, &text).sync(), "prepared"),
            4 => {
                let batch = self.prepared(Batch::new(), sql, &text).sync();
                (self.prepared(batch, sql, &text).sync(), "prepared, pipelined")
            }
            _ => {
                // One that may write runs on the primary, and what is seen there keeps the session off replicas for a while.
                let begin = if fastrand::u8(..50) == 0 { "BEGIN" } else { "BEGIN READ ONLY" };
                let Some(_) = self.exchange(&Batch::new().query(begin))? else { return Ok(()) };
                let Some(frames) = self.exchange(&Batch::new().query(&simple))? else { return Ok(()) };
                for (port, found) in port_and_value(&frames) {
                    self.check(table, row, [floor.read, floor.own, known], port, found, kind, "block");
                }
                self.exchange(&Batch::new().query("COMMIT"))?;
                return Ok(());
            }
        };
        let Some(frames) = self.exchange(&batch)? else { return Ok(()) };
        let rows = port_and_value(&frames);
        assert!(!rows.is_empty(), "{kind} {protocol}: {frames:?}");
        for (port, found) in rows {
            let before = self.floors[table][row].read;
            self.check(table, row, [before, floor.own, known], port, found, kind, protocol);
        }
        Ok(())
    }

    /// Compares what was found with the session's reads before, its own writes and what all know.
    #[allow(clippy::too_many_arguments)]
    fn check(
        &mut self,
        table: usize,
        row: usize,
        at_least: [u64; 3],
        port: u16,
        found: u64,
        kind: &'static str,
        protocol: &'static str,
    ) {
        self.board.checked[self.level as usize].fetch_add(1, Ordering::Relaxed);
        *self.stats.by_port.entry(port).or_default() += 1;
        let (level, port_before) = (self.level, self.port_before);
        let seen = self.floors[table][row].seen.map(|(port, at)| (port, at.elapsed()));
        for (expected, promise) in at_least.into_iter().zip(["monotonic", "own write", "known write"]) {
            if found < expected {
                let violation =
                    Violation { level, promise, kind, protocol, row, expected, found, port, port_before, seen };
                self.stats.violations.push(violation);
                break;
            }
        }
        let floor = &mut self.floors[table][row];
        if found > floor.read {
            (floor.read, floor.seen) = (found, Some((port, Instant::now())));
        }
        self.port_before = port;
    }
}
