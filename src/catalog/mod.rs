//! What SQL text cannot tell: facts from the server's catalog.
