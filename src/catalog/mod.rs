//! What SQL text can't tell: the functions, relations and views of a database, read from its catalogs on a control connection.
//!
//! [`Snapshot`] is what was read, and answers the classifier ([`Facts`](crate::sql::Facts)). [`watch`] reads it anew when it has
//! changed; a [`Watched`] tells it when to look, and others how it stands.

mod extensions;
mod facts;
mod read;
mod snapshot;
mod watch;
mod written;

pub use snapshot::{Counts, Snapshot};
pub use watch::{Sink, Source, Standing, Watched, watch};
