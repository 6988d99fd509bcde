//! A client: transfers money in many ways and writes down what it was told, and reads what must be there.

use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::line::{Answer, Line};
use crate::record::{Board, Fate, Longest, Stats};
use crate::support::frames::Batch;
use crate::transfer::{ACCOUNTS, BALANCE, PER_CLIENT, PREPARED, Transfer};

/// Errors that faults bring about, each of them a true one: what is wrong with a server, with the way there or with the luck of a
/// transaction. Anything else is a violation.
const EXPECTED: [&str; 15] = [
    "08000", "08001", "08003", "08004", "08006", "08007", "40001", "40P01", "53300", "57014", "57P01", "57P02",
    "57P03", "57P04", // Told by the test's own transfers that are to fail.
    "22012",
];

/// Whom a client is, and where it connects.
#[derive(Debug, Clone, Copy)]
pub struct Badge {
    pub number: u64,
    pub port: u16,
    pub level: &'static str,
    /// Nobody but Trunkline can end its connection.
    pub direct: bool,
    /// Writes, too.
    pub writes: bool,
    pub seed: u64,
}

pub struct Teller<'a> {
    badge: Badge,
    board: &'a Board,
    rng: Rng,
    line: Option<Line>,
    stats: Stats,
    /// The number of the last transfer that was tried.
    last: u64,
    /// What a read of this session has to show at least.
    floor: u64,
    nonce: u64,
}

impl<'a> Teller<'a> {
    pub fn new(badge: Badge, board: &'a Board) -> Self {
        let rng = Rng::with_seed(badge.seed.wrapping_mul(1_000_003) + badge.number);
        Self { badge, board, rng, line: None, stats: Stats::default(), last: 0, floor: 0, nonce: 0 }
    }

    /// Works until the end.
    pub fn run(mut self) -> Stats {
        while !self.board.is_over() {
            if self.line.is_none() && !self.connect() {
                self.pause(20..120);
                continue;
            }
            match self.rng.u32(0..10) {
                0..=3 if self.badge.writes => self.transfer(),
                0..=5 => self.look(),
                6 => self.total(),
                7 if !self.badge.writes && self.rng.bool() => self.cancel(),
                7 => self.list(),
                _ => self.echo(),
            }
            self.pause(0..60);
        }
        if let Some(line) = self.line.take() {
            line.close();
        }
        self.stats
    }

    fn pause(&mut self, millis: std::ops::Range<u64>) {
        thread::sleep(Duration::from_millis(self.rng.u64(millis)));
    }

    fn name(&self) -> String {
        format!("client{}", self.badge.number)
    }

    fn connect(&mut self) -> bool {
        self.stats.connects += 1;
        let (name, began) = (self.name(), Instant::now());
        match Line::open(self.badge.port, &name, self.badge.level) {
            Ok(line) => {
                self.line = Some(line);
                // A session knows of its own writes only.
                self.floor = 0;
                let batch = PREPARED.iter().fold(Batch::new(), |batch, (name, sql)| batch.parse(name, sql, &[]));
                let answer = self.exchange("prepare", &batch.sync());
                answer.failure().is_none()
            }
            Err(answer) => {
                self.failed("login", &answer);
                self.took("login", began);
                false
            }
        }
    }

    fn violation(&mut self, text: String) {
        let at = self.board.began.elapsed().as_secs_f64();
        let text = format!("{at:.2}s client{} ({}): {text}", self.badge.number, self.badge.level);
        self.board.note(format!("VIOLATION {text}"));
        self.stats.violations.push(text);
    }

    fn took(&mut self, what: &'static str, began: Instant) {
        let longest = Longest { took: began.elapsed(), at: self.board.began.elapsed() };
        self.stats.longest.entry(what).or_default().note(longest);
    }

    fn failed(&mut self, what: &'static str, answer: &Answer) {
        let Some(failure) = answer.failure() else { return };
        if answer.is_hang() {
            self.violation(format!("{what}: no answer for too long, after {:?}", answer.frames));
        }
        // In the middle of a row nothing else can be said.
        let in_result = answer.frames.iter().any(|frame| frame.tag == b'T' || frame.tag == b'D' || frame.tag == b'2');
        if answer.error().is_none() && self.badge.direct && what != "login" && !in_result && !self.board.was_killed() {
            self.violation(format!("{what}: the connection ended without a word, after {:?}", answer.frames));
        }
        if let Some(frame) = answer.error()
            && !EXPECTED.contains(&failure.as_str())
        {
            self.violation(format!("{what}: {frame:?} {:?}", frame.field(b'D')));
        }
        // Readers cancel statements; one that comes late may strike the next one of the same client, as on a server.
        if let Some(frame) = answer.error()
            && self.badge.writes
            && frame.field(b'M').is_some_and(|message| message.contains("user request"))
        {
            self.violation(format!("{what}: cancelled by somebody else: {frame:?}"));
        }
        *self.stats.failures.entry((what, failure)).or_default() += 1;
    }

    /// Sends and waits; a connection that is lost is given up.
    fn exchange(&mut self, what: &'static str, batch: &Batch) -> Answer {
        let began = Instant::now();
        let Some(line) = &mut self.line else {
            return Answer { frames: Vec::new(), lost: Some(std::io::ErrorKind::NotConnected) };
        };
        let answer = line.exchange(batch);
        if answer.lost.is_some() {
            self.line = None;
        }
        self.took(what, began);
        self.failed(what, &answer);
        answer
    }

    fn transfer(&mut self) {
        self.last += 1;
        let (seq, client) = (self.last, self.badge.number);
        let transfer = Transfer::draw(client, seq, &mut self.rng);
        let began = Instant::now();
        let fate = match self.rng.u32(0..9) {
            0 | 1 => self.step_by_step(transfer.statements().map(|sql| Batch::new().query(&sql))),
            2 | 3 => self.step_by_step(transfer.prepared()),
            4 => {
                let statements = transfer.statements().join("; ");
                self.at_once(&Batch::new().query(&format!("BEGIN; {statements}; COMMIT")), "COMMIT")
            }
            5 => {
                let batch = transfer
                    .statements()
                    .iter()
                    .fold(Batch::new().run("BEGIN", &[]).sync(), |batch, sql| batch.run(sql, &[]).sync());
                self.at_once(&batch.run("COMMIT", &[]).sync(), "COMMIT")
            }
            6 => self.at_once(&Batch::new().query(&transfer.single()), "INSERT 0 1"),
            7 => self.at_once(&Batch::new().run(&transfer.single(), &[]).sync(), "INSERT 0 1"),
            _ => self.in_vain(&transfer),
        };
        self.took("transfer", began);
        self.stats.fates.insert(transfer.id, fate);
        if fate == Fate::Acknowledged {
            self.board.written();
            self.floor = seq;
        }
    }

    /// A block, one exchange after the other.
    fn step_by_step(&mut self, statements: [Batch; 4]) -> Fate {
        let before = [Batch::new().query("BEGIN")].into_iter().chain(statements);
        for batch in before {
            let answer = self.exchange("statement of a block", &batch);
            if answer.is_last() {
                return Fate::Refused;
            }
            if answer.error().is_some() {
                let _ = self.exchange("rollback", &Batch::new().query("ROLLBACK"));
                return Fate::Refused;
            }
            if self.rng.u32(0..8) == 0 {
                self.pause(0..30);
            }
        }
        self.at_once(&Batch::new().query("COMMIT"), "COMMIT")
    }

    /// What commits is sent: without an answer nobody knows.
    fn at_once(&mut self, batch: &Batch, tag: &str) -> Fate {
        let answer = self.exchange("commit", batch);
        let told = answer.error().is_some_and(|error| error.sqlstate() != "08007");
        match answer.lost {
            // Behind the result of a COMMIT nothing can go wrong with it; an INSERT alone is committed when all is over.
            _ if tag == "COMMIT" && answer.completed("COMMIT") => Fate::Acknowledged,
            Some(_) => Fate::Unknown,
            None if answer.error().is_none() && answer.completed(tag) => Fate::Acknowledged,
            // A block that had failed; or an error, after which the session goes on.
            None if told || answer.completed("ROLLBACK") => {
                if answer.frames.last().is_some_and(|ready| ready.body != b"I") {
                    let _ = self.exchange("rollback", &Batch::new().query("ROLLBACK"));
                }
                Fate::Refused
            }
            None => Fate::Unknown,
        }
    }

    /// A transfer that is given up, or fails at its end, or whose client is gone.
    fn in_vain(&mut self, transfer: &Transfer) -> Fate {
        let statements = transfer.statements().join("; ");
        if self.rng.u32(0..20) == 0
            && let Some(line) = self.line.take()
        {
            let commits = self.rng.bool();
            let end = if commits { "COMMIT" } else { "SELECT pg_sleep(0.01)" };
            line.vanish(&Batch::new().query("BEGIN").query(&statements).query(end));
            return if commits { Fate::Unknown } else { Fate::Refused };
        }
        if self.rng.bool() {
            let answer = self.exchange("statement of a block", &Batch::new().query(&format!("BEGIN; {statements}")));
            if answer.lost.is_none() {
                let _ = self.exchange("rollback", &Batch::new().query("ROLLBACK"));
            }
        } else {
            let batch = Batch::new().query("BEGIN").query(&statements).query("SELECT 1 / 0").query("COMMIT");
            let answer = self.exchange("statement of a block", &batch);
            if answer.completed("COMMIT") {
                self.violation("a block that had failed was committed".to_owned());
            }
        }
        Fate::Refused
    }

    /// A statement that is cancelled: it says so, or was quick enough. Nobody else's is.
    fn cancel(&mut self) {
        let after = Duration::from_millis(self.rng.u64(0..30));
        let Some(line) = &mut self.line else { return };
        let answer = line.exchange_and_cancel(&Batch::new().query("SELECT here(), pg_sleep(0.02)"), after);
        if answer.lost.is_some() {
            self.line = None;
        }
        self.failed("cancelled", &answer);
    }

    /// What the session has written itself is there.
    fn look(&mut self) {
        let number = self.badge.number.to_string();
        let (floor, prepared) = (self.floor, self.rng.bool());
        let batch = match prepared {
            true => Batch::new().bind("", "look", &[Some(&number)]).execute("", 0).sync(),
            false => Batch::new().query(&format!("SELECT here(), client, seq FROM mark WHERE client = {number}")),
        };
        let Some(rows) = self.read(&batch) else { return };
        let [row] = rows.as_slice() else {
            return self.violation(format!("{} rows instead of one: {rows:?}", rows.len()));
        };
        let (client, seq) = (&row[1], row[2].parse::<u64>().unwrap_or(u64::MAX));
        let fate = self.stats.fates.get(&(self.badge.number * PER_CLIENT + seq)).copied();
        if *client != number {
            self.violation(format!("asked for {number}, got {row:?}"));
        } else if seq < floor {
            self.violation(format!("stale: {seq} at server {}, but {floor} was written or seen before", row[0]));
        } else if seq > self.last || fate == Some(Fate::Refused) {
            self.violation(format!("{seq} is there, of {} tried: {fate:?}", self.last));
        } else if fate == Some(Fate::Acknowledged) {
            // What nobody has been told may be gone with its server.
            self.floor = seq;
        }
    }

    /// Money is neither made nor lost.
    fn total(&mut self) {
        let Some(rows) = self.read(&Batch::new().query("SELECT here(), sum(balance), count(*) FROM account")) else {
            return;
        };
        let wanted = [(i64::from(ACCOUNTS) * BALANCE).to_string(), ACCOUNTS.to_string()];
        if rows.len() != 1 || rows[0][1..] != wanted {
            self.violation(format!("the total is {rows:?}"));
        }
    }

    /// A longer result arrives once, and in order.
    fn list(&mut self) {
        let sql = "SELECT here(), id, balance, repeat('x', 200) FROM account ORDER BY id";
        let Some(rows) = self.read(&Batch::new().run(sql, &[]).sync()) else { return };
        let is_whole =
            rows.len() == ACCOUNTS as usize && rows.iter().enumerate().all(|(at, row)| row[1] == at.to_string());
        let sum: i64 = rows.iter().filter_map(|row| row[2].parse::<i64>().ok()).sum();
        if !is_whole || sum != i64::from(ACCOUNTS) * BALANCE {
            let ids: Vec<_> = rows.iter().map(|row| row[1].as_str()).collect();
            self.violation(format!("{} rows, their sum {sum}: {}", rows.len(), ids.join(",")));
        }
    }

    /// What is answered is what was asked, by the one who asked.
    fn echo(&mut self) {
        self.nonce += 1;
        let name = self.name();
        let said = format!("{name}-{}", self.nonce);
        let batch = match self.rng.bool() {
            true => Batch::new().run("SELECT here(), $1::text, current_setting('app.who')", &[Some(&said)]).sync(),
            false => Batch::new().query(&format!("SELECT here(), '{said}'::text, current_setting('app.who')")),
        };
        let Some(rows) = self.read(&batch) else { return };
        if rows.len() != 1 || rows[0][1..] != [said.as_str(), name.as_str()] {
            self.violation(format!("asked for {said}, got {rows:?}"));
        }
    }

    fn read(&mut self, batch: &Batch) -> Option<Vec<Vec<String>>> {
        let answer = self.exchange("read", batch);
        if answer.failure().is_some() {
            return None;
        }
        self.stats.reads += 1;
        let rows: Vec<_> = answer.rows().collect();
        if let Some(port) = rows.first().and_then(|row| row[0].parse().ok()) {
            *self.stats.reads_by_port.entry(port).or_default() += 1;
        }
        Some(rows)
    }
}
