//! Real servers, a real Trunkline process and clients of all kinds, for the tests.
//!
//! Most tests take [`clusters::shared`] (one primary and two streaming replicas for the whole test
//! run) and a [`clusters::TestDb`] of their own on it. A test that stops, promotes or reconfigures
//! servers starts its own with [`clusters::own`]. [`process::Trunkline`] runs the program under test.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

pub mod clusters;
pub mod frames;
pub mod heard;
pub mod injector;
pub mod process;
pub mod raw;
pub mod sql;
pub mod world;
