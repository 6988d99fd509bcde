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

/// Whether a debug build's environment asks for another kind of bug: `TRUNKLINE_FAULT=place:text`, with this place and text.
#[inline]
pub fn is_asked_for(place: &str, text: &str) -> bool {
    #[cfg(debug_assertions)]
    return asked::is(place, text);
    #[cfg(not(debug_assertions))]
    {
        let _ = (place, text);
        false
    }
}

#[cfg(debug_assertions)]
mod asked {
    use std::sync::LazyLock;

    static FAULT: LazyLock<Option<(String, String)>> = LazyLock::new(|| {
        let fault = std::env::var("TRUNKLINE_FAULT").ok()?;
        fault.split_once(':').map(|(place, text)| (place.to_owned(), text.to_owned()))
    });

    pub fn is(place: &str, text: &str) -> bool {
        FAULT.as_ref().is_some_and(|(at, what)| at == place && what == text)
    }

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
