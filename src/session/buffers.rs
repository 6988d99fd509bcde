//! The buffers of a worker thread. Idle sessions hold none: what must outlive a poll is copied out small.

use std::cell::RefCell;

/// Size of a read.
pub(super) const READ_SIZE: usize = 64 * 1024;

pub(super) struct Buffers {
    /// Bytes just read, behind what an earlier read left over.
    pub read: Vec<u8>,
    /// Scratch for a [`super::splice::Splice`].
    pub built: Vec<u8>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers { read: vec![0; READ_SIZE], built: Vec::new() });
}

/// Runs `work` with this thread's buffers. Not to be nested.
pub(super) fn with<R>(work: impl FnOnce(&mut Buffers) -> R) -> R {
    BUFFERS.with_borrow_mut(|buffers| {
        let result = work(buffers);
        if buffers.built.capacity() > 4 * READ_SIZE {
            buffers.built = Vec::new();
        }
        result
    })
}
