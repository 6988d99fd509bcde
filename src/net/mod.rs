//! Listeners, streams (TCP, TLS, Unix), TLS contexts, connecting.
