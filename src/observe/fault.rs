//! Bugs on demand, for the tests of what a bug does to its client. There are none in a release build.

/// Panics in a debug build whose environment says `TRUNKLINE_FAULT=place:text`, at that place and with bytes that hold
/// that text.
#[inline]
pub fn point(place: &str, bytes: &[u8]) {
    #[cfg(debug_assertions)]
    asked::panic_if(place, bytes);
    #[cfg(not(debug_assertions))]
    let _ = (place, bytes);
}

#[cfg(debug_assertions)]
mod asked {
    use std::sync::LazyLock;

    static FAULT: LazyLock<Option<(String, String)>> = LazyLock::new(|| {
        let fault = std::env::var("TRUNKLINE_FAULT").ok()?;
        fault.split_once(':').map(|(place, text)| (place.to_owned(), text.to_owned()))
    });

    /// A panic is what is asked for.
    #[allow(clippy::panic)]
    pub fn panic_if(place: &str, bytes: &[u8]) {
        if let Some((at, text)) = &*FAULT
            && at == place
            && memchr::memmem::find(bytes, text.as_bytes()).is_some()
        {
            panic!("TRUNKLINE_FAULT at {place}");
        }
    }
}
