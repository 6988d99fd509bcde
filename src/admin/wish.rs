//! What the console asks of the program itself.

use tokio::sync::oneshot;

/// Something that only the program can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Read the configuration again.
    Reload,
    /// Change a setting until the next reload: `section.key` as in the file, and its value.
    Set {
        /// The setting.
        path: &'static str,
        /// Its value.
        value: String,
    },
    /// End.
    Shutdown(Shutdown),
}

/// When the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// At once.
    Now,
    /// When no server connection is in use.
    WaitForServers,
    /// When the last client has left.
    WaitForClients,
}

/// A wish, and where its outcome goes: an error text for people when it was refused.
#[derive(Debug)]
pub struct Order {
    /// What is wanted.
    pub wish: Wish,
    outcome: oneshot::Sender<Result<(), String>>,
}

impl Order {
    /// An order, and the place where its outcome arrives.
    pub fn new(wish: Wish) -> (Self, oneshot::Receiver<Result<(), String>>) {
        let (outcome, receiver) = oneshot::channel();
        (Self { wish, outcome }, receiver)
    }

    /// Tells the outcome.
    pub fn answer(self, outcome: Result<(), String>) {
        // Who asked may have gone.
        let _ = self.outcome.send(outcome);
    }
}
