//! Who does it all: one fault after the other, drawn from a seed; each is over, and the servers are whole, before the next one.

use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Signal;
use trunkline::app::demo::StopMode;

use crate::record::Board;
use crate::stage::{NODES, Stage};
use crate::support::injector::{Fault, Injector};
use crate::support::process::{Setup, Trunkline};

pub struct Driver<'a> {
    pub stage: &'a Stage,
    pub board: &'a Board,
    pub rng: Rng,
}

/// What else happens while a replica is promoted.
#[derive(Debug, Clone, Copy)]
enum Meanwhile {
    Nothing,
    /// Another Trunkline takes the place of the one that runs.
    Replace,
    /// Reloads, one after the other.
    Reload,
    /// What servers answer is cut off at any byte, by a reset.
    Cut,
    /// The same, by an end.
    End,
    /// All connections to the old primary go silent for ever; new ones do not.
    Forget,
}

impl<'a> Driver<'a> {
    /// Goes on until this much time is over.
    pub fn run(&mut self, time: Duration) {
        let end = self.board.began + time;
        // Each kind once, in random order, then at random.
        let mut due: Vec<u32> = (0..16).chain(24..29).collect();
        self.rng.shuffle(&mut due);
        self.sleep(500..1000);
        while Instant::now() < end {
            let kind = due.pop().unwrap_or_else(|| self.rng.u32(0..29));
            self.fault(kind);
            self.stage.catch_up().unwrap_or_else(|error| panic!("the standbys do not follow: {error}"));
            self.sleep(50..700);
        }
        self.stage.links.iter().chain([&self.stage.front]).for_each(Injector::calm);
    }

    fn sleep(&mut self, millis: std::ops::Range<u64>) {
        thread::sleep(Duration::from_millis(self.rng.u64(millis)));
    }

    fn fault(&mut self, kind: u32) {
        let primary = self.stage.primary();
        let replica = self.stage.standbys()[self.rng.usize(0..2)];
        match kind {
            0 => self.kill(replica, "kill a replica"),
            1 => self.restart(replica),
            2 => self.hang(replica, "SIGSTOP a replica"),
            3 => self.hang(primary, "SIGSTOP the primary"),
            4 => self.kill(primary, "kill the primary, it comes back"),
            5 | 16 => self.fail_over(Meanwhile::Nothing),
            24 => self.fail_over(Meanwhile::Replace),
            25 => self.fail_over(Meanwhile::Reload),
            26 => self.fail_over(Meanwhile::Cut),
            27 => self.fail_over(Meanwhile::End),
            28 => self.fail_over(Meanwhile::Forget),
            6 => self.terminate_backends(),
            7 => self.cut(),
            8 => self.tear(),
            9 => self.disturb(Fault::Hold, "half-open connections"),
            10 => {
                let delay = Duration::from_millis(self.rng.u64(2..80));
                self.disturb(Fault::Delay(delay), "delay");
            }
            11 => self.disturb(Fault::Split, "split into single bytes"),
            12 => self.refuse(),
            13 => self.reload(),
            14 | 17 => self.replace_trunkline(),
            15 => self.operate(),
            18 | 19 => self.terminate_backends(),
            20 | 21 => self.cut(),
            22 => self.disturb(Fault::Hold, "half-open connections"),
            _ => self.tear(),
        }
    }

    fn event(&self, kind: &str, node: usize, more: &str) {
        self.board.event(kind, &format!("({}) {more}", self.stage.name(node)));
    }

    fn kill(&mut self, node: usize, kind: &str) {
        self.event(kind, node, "");
        self.stage.cluster.nodes()[node].kill().unwrap();
        self.sleep(50..1500);
        self.stage.cluster.nodes()[node].start().unwrap();
    }

    fn restart(&mut self, node: usize) {
        let mode = if self.rng.bool() { StopMode::Fast } else { StopMode::Immediate };
        self.event("restart a replica", node, &format!("{mode:?}"));
        self.stage.cluster.nodes()[node].stop(mode).unwrap();
        self.stage.cluster.nodes()[node].start().unwrap();
    }

    fn hang(&mut self, node: usize, kind: &str) {
        self.event(kind, node, "");
        let server = &self.stage.cluster.nodes()[node];
        server.pause();
        self.sleep(100..3000);
        server.resume();
    }

    /// The primary is lost, a standby that has everything takes its place, and the old one comes back as a standby.
    fn fail_over(&mut self, meanwhile: Meanwhile) {
        let seed = self.rng.u64(..);
        thread::scope(|scope| {
            let mut aside = Driver { stage: self.stage, board: self.board, rng: Rng::with_seed(seed) };
            scope.spawn(move || match meanwhile {
                Meanwhile::Replace => {
                    aside.sleep(0..1500);
                    aside.replace_trunkline();
                }
                Meanwhile::Reload => {
                    for _ in 0..aside.rng.u32(5..20) {
                        aside.sleep(0..200);
                        aside.reload();
                    }
                }
                _ => {}
            });
            self.promote(meanwhile);
        });
    }

    fn promote(&mut self, meanwhile: Meanwhile) {
        let old = self.stage.primary();
        let server = &self.stage.cluster.nodes()[old];
        let how = ["killed", "stopped", "crashed", "hung", "cut off"][self.rng.usize(0..5)];
        self.event("promote a replica", old, &format!("{how}, meanwhile {meanwhile:?}"));
        let most = self.rng.u16(1..600);
        match meanwhile {
            Meanwhile::Cut => self.stage.links.iter().for_each(|link| link.strike(Fault::CutAnswer(most), 100)),
            Meanwhile::End => self.stage.links.iter().for_each(|link| link.strike(Fault::EndAnswer(most), 100)),
            Meanwhile::Forget => self.stage.links[old].forget(),
            _ => {}
        }
        self.sleep(0..50);
        match how {
            "killed" => server.kill().unwrap(),
            "stopped" => server.stop(StopMode::Fast).unwrap(),
            "crashed" => server.stop(StopMode::Immediate).unwrap(),
            "hung" => server.pause(),
            _ => {
                self.stage.links[old].strike(Fault::Hold, 100);
                self.sleep(0..1500);
                server.kill().unwrap();
            }
        }
        let new = self.farthest();
        let other = NODES - old - new;
        self.stage.cluster.nodes()[new].promote().unwrap();
        self.stage.set_primary(new);
        self.board.note(format!("{} is the primary", self.stage.name(new)));
        self.stage.cluster.follow(other, new).unwrap();
        // The old one stays as it is.
        [new, other].iter().for_each(|node| self.stage.links[*node].calm());
        self.board.promoted();
        self.sleep(0..2000);
        // It never takes a write again, whatever it was about to do.
        server.kill().unwrap();
        self.stage.links.iter().for_each(Injector::calm);
        let how = self.stage.rejoin(old, self.rng.u32(0..3) > 0);
        self.board.note(format!("{} follows by {how}", self.stage.name(old)));
    }

    /// The standby that has received most, once nothing more comes.
    fn farthest(&self) -> usize {
        let received = || {
            self.stage.standbys().map(|node| {
                let sql = "SELECT COALESCE(GREATEST(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0', 0)";
                (self.stage.ask(node, sql).parse::<u64>().unwrap_or(0), node)
            })
        };
        let mut before = received();
        loop {
            thread::sleep(Duration::from_millis(100));
            let now = received();
            if now == before {
                return now.into_iter().max().unwrap().1;
            }
            before = now;
        }
    }

    fn terminate_backends(&mut self) {
        let (node, count) = (self.rng.usize(0..NODES), self.rng.u32(1..10));
        self.event("pg_terminate_backend", node, &format!("{count} of them"));
        let sql = format!(
            "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE usename = 'app' AND backend_type = 'client backend' \
             ORDER BY random() LIMIT {count}) AS victims"
        );
        self.stage.ask(node, &sql);
    }

    /// An injector, and what it stands before.
    fn link(&mut self) -> (&'a Injector, String) {
        let stage = self.stage;
        match self.rng.usize(0..NODES + 1) {
            NODES => (&stage.front, "clients".to_owned()),
            node => (&stage.links[node], stage.name(node).to_owned()),
        }
    }

    fn cut(&mut self) {
        let percent = self.rng.u8(10..=100);
        let (link, whose) = self.link();
        link.strike(Fault::Cut, percent);
        self.board.event("cut connections", &format!("{percent} % ({whose})"));
        thread::sleep(Duration::from_millis(20));
        self.stage.links.iter().chain([&self.stage.front]).for_each(Injector::calm);
    }

    fn tear(&mut self) {
        let fault = if self.rng.bool() { Fault::Tear } else { Fault::TearAnswer };
        self.disturb(fault, "tear connections in a message");
    }

    fn disturb(&mut self, fault: Fault, kind: &str) {
        let percent = self.rng.u8(10..=100);
        let then_cut = self.rng.bool();
        let (link, whose) = self.link();
        link.strike(fault, percent);
        self.board.event(kind, &format!("{percent} % ({whose}) {fault:?}"));
        self.sleep(100..2000);
        let everybody = self.stage.links.iter().chain([&self.stage.front]);
        if fault == Fault::Hold && then_cut {
            // What was held never arrives.
            self.board.note("and cut".to_owned());
            for link in everybody.clone() {
                link.cut_held();
            }
            thread::sleep(Duration::from_millis(20));
        }
        everybody.for_each(Injector::calm);
    }

    fn refuse(&mut self) {
        let (link, whose) = self.link();
        link.refuse(true);
        link.strike(Fault::Cut, 50);
        self.board.event("refuse connections", &format!("({whose})"));
        self.sleep(100..1500);
        self.stage.links.iter().chain([&self.stage.front]).for_each(Injector::calm);
    }

    fn reload(&mut self) {
        let size = self.rng.usize(8..24);
        self.board.event("reload by SIGHUP", &format!("size = {size}"));
        self.stage.reload(size);
    }

    fn replace_trunkline(&mut self) {
        let how = ["takeover", "SIGTERM", "SIGKILL"][self.rng.usize(0..3)];
        self.board.event(&format!("restart Trunkline by {how}"), "");
        let (config, board) = (self.stage.config(), self.board);
        let mut old = self.stage.replace_proxy(|old| {
            let setup = Setup::config(config).beside(old);
            match how {
                "takeover" => {
                    let mut new = setup.launch();
                    new.wait_for_log(&["taken over"]);
                    new
                }
                _ => {
                    if how == "SIGKILL" {
                        board.killing();
                    }
                    old.signal(if how == "SIGTERM" { Signal::TERM } else { Signal::KILL });
                    wait(old, board);
                    setup.start()
                }
            }
        });
        wait(&mut old, self.board);
        self.stage.read_log(&old);
    }

    /// What an administrator does.
    fn operate(&mut self) {
        let command = ["RECONNECT", "PAUSE", "DISABLE"][self.rng.usize(0..3)];
        let node = self.rng.usize(0..NODES);
        self.board.event(&format!("console: {command}"), "");
        let mut console = self.stage.console();
        console.set_timeout(Duration::from_secs(30));
        match command {
            "RECONNECT" => drop(console.rows("RECONNECT app")),
            "PAUSE" => {
                console.rows("PAUSE app");
                self.sleep(50..500);
                console.rows("RESUME app");
            }
            _ => {
                let name = self.stage.name(node);
                console.rows(&format!("DISABLE NODE app.{name}"));
                self.sleep(50..1000);
                console.rows(&format!("ENABLE NODE app.{name}"));
            }
        }
    }
}

/// Waits for the end of a process that was told to end.
fn wait(proxy: &mut Trunkline, board: &Board) {
    let began = Instant::now();
    assert!(proxy.wait_for(Duration::from_secs(30)).is_some(), "Trunkline does not end:\n{}", proxy.log());
    board.note(format!("ended after {:.1} s", began.elapsed().as_secs_f64()));
}
