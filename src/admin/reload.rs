//! Asking the program to read its configuration again.

use tokio::sync::oneshot;

/// A wish for a reload, and where its outcome goes: an error text for people when it was refused.
#[derive(Debug)]
pub struct ReloadRequest(oneshot::Sender<Result<(), String>>);

impl ReloadRequest {
    /// A request, and the place where its outcome arrives.
    pub fn new() -> (Self, oneshot::Receiver<Result<(), String>>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Tells the outcome.
    pub fn answer(self, outcome: Result<(), String>) {
        // Who asked may have gone.
        let _ = self.0.send(outcome);
    }
}
