//! The program: runtime, accept, signals, reload, drain, sub-commands.

pub mod check;
pub mod cli;
pub mod demo;
mod discover;
mod doors;
mod ending;
mod front;
pub mod import;
mod reload;
pub mod route;
mod rt;
pub mod run;
mod takeover;
