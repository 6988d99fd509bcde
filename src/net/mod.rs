//! Listeners, streams (TCP, TLS, Unix), TLS contexts, connecting.
//!
//! A [`Stream`] shows readiness and non-blocking reads and writes, not `AsyncRead`: the relay waits for what it
//! needs and then makes exactly the system calls that move bytes.

pub mod batch;
mod connect;
pub mod control;
mod http;
mod listen;
pub mod low_water;
mod names;
mod open;
pub mod packets;
mod plain;
mod relay;
mod socket;
mod stream;
mod tls;

pub use connect::{
    ConnectError, ConnectOptions, Encryption, HostError, HostFailure, SslPlan, connect, connect_to, look_up,
};
pub use http::{HttpClient, HttpError, get_over};
pub use listen::{Accepted, Acceptor, Inherited, ListenError, ListenOptions, Listener};
pub use names::looked_up;
pub use open::{OpenError, OpenSettings, Opened, open};
pub use plain::Plain;
pub use socket::{PeerAddr, TcpLiveness};
pub use stream::{IdleCheck, Stream};
pub use tls::{ClientTlsContext, ServerTlsContext, TlsError, TlsInfo, TlsStream};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
