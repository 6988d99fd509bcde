//! TLS by rustls with aws-lc-rs, given explicitly everywhere: there is no process-wide default.

mod client;
mod error;
mod info;
mod pem;
mod server;
mod stream;
mod verify;

pub use client::ClientTlsContext;
pub(super) use client::web_client;
pub use error::TlsError;
pub use info::TlsInfo;
pub use server::ServerTlsContext;
pub use stream::TlsStream;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

/// ALPN name of PostgreSQL's protocol. Direct TLS must use it (trap 73).
pub(super) const ALPN: &[u8] = b"postgresql";

/// The one provider that all contexts use.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}
