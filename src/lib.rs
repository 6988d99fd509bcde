//! Trunkline: one program between applications and PostgreSQL.
//!
//! Applications connect as if to a single PostgreSQL server. Trunkline sends reads to replicas and
//! everything else to the primary, and shares a few server connections among many clients.
//!
//! The rooms below are listed low to high: a room imports only from rooms above it in this list
//! (`tests/layers.rs` holds that line). ARCHITECTURE.md tells what lives where.

pub mod wire;

pub mod sql;

pub mod config;

pub mod observe;

pub mod net;

pub mod auth;

pub mod backend;

pub mod pool;

pub mod topology;

pub mod catalog;

pub mod route;

pub mod session;

pub mod admin;

pub mod app;
