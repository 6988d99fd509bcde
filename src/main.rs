//! The `trunkline` program: everything is in the library.

fn main() {}
