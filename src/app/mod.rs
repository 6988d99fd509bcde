//! The program: runtime, accept, signals, reload, drain, sub-commands.

pub mod demo;
