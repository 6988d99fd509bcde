//! Protocol bytes, without IO: frames, startup packets, SQLSTATEs, and the messages that Trunkline makes itself.
