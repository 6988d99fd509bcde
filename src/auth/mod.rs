//! Authenticating clients, and authenticating to servers.
