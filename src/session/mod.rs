//! One client: the session machine and its relay.
