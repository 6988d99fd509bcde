//! One server connection: connect, startup, parameters, prepared statements, cancel key.
