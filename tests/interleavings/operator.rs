//! Somebody at the console, who pauses, resumes, reconnects and reloads at random.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::config;
use super::ledger::Ledger;
use super::support::frames::Batch;
use super::support::process::Trunkline;
use super::support::raw::RawClient;

/// Says one thing at the console; what it is answered is nobody's concern.
fn say(proxy: &Trunkline, command: &'static str) {
    let mut console = RawClient::connect(proxy.port(), "app", "", "trunkline");
    console.send(&Batch::new().query(command));
    while console.try_recv().is_ok_and(|frame| frame.tag != b'Z') {}
}

pub struct Operator {
    rng: Rng,
    seed: u64,
    ledger: Arc<Ledger>,
    proxy: Arc<Trunkline>,
    ports: [u16; 2],
}

impl Operator {
    pub fn new(seed: u64, ledger: Arc<Ledger>, proxy: Arc<Trunkline>, ports: [u16; 2]) -> Self {
        Self { rng: Rng::with_seed(seed), seed, ledger, proxy, ports }
    }

    /// Says things until the seed is over; in the end nothing is paused.
    pub async fn run(mut self) {
        while !self.ledger.is_over() {
            sleep(Duration::from_millis(self.rng.u64(20..400))).await;
            match self.rng.u8(0..4) {
                0 => {
                    // It is answered when all connections have come back.
                    let paused = self.say("PAUSE app");
                    sleep(Duration::from_millis(self.rng.u64(0..200))).await;
                    self.say("RESUME app").await.unwrap();
                    paused.await.unwrap();
                }
                1 => self.say("RECONNECT app").await.unwrap(),
                2 => {
                    let size = self.rng.u64(1..3);
                    self.proxy.rewrite_config(&config(self.seed, size, self.ports));
                    self.say("RELOAD").await.unwrap();
                }
                _ => {}
            }
        }
        self.say("RESUME app").await.unwrap();
    }

    fn say(&self, command: &'static str) -> tokio::task::JoinHandle<()> {
        self.ledger.note(format!("the console is told {command}"));
        let proxy = self.proxy.clone();
        spawn_blocking(move || say(&proxy, command))
    }
}
