//! A ring of the kernel's (io_uring(7)) that sends. With `low_water.rs` the only unsafe code of the crate.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::{IoUring, opcode, types};
use rustix::net::SendFlags;

use crate::net::socket::Socket;

/// The ring of one thread.
pub struct Ring {
    /// `None` once the kernel has refused to work on it.
    ring: Option<IoUring>,
}

impl Ring {
    /// A ring for so many sends at once; `None` where there is none to be had: an old kernel, a policy against it, too little memory.
    pub fn open(sends: usize) -> Option<Self> {
        let entries = u32::try_from(sends).ok()?;
        let ring = IoUring::builder().setup_single_issuer().setup_submit_all().build(entries).ok()?;
        Some(Self { ring: Some(ring) })
    }

    /// Whether it sends.
    pub fn is_open(&self) -> bool {
        self.ring.is_some()
    }

    /// Sends, and tells what came of each by its number. `WouldBlock`: nothing of it was sent, for now.
    pub fn send<'a>(
        &mut self,
        sends: impl Iterator<Item = (&'a Socket, &'a [u8])>,
        mut told: impl FnMut(usize, io::Result<usize>),
    ) {
        let not_now = || Err(io::ErrorKind::WouldBlock.into());
        let Some(ring) = &mut self.ring else {
            return (0..sends.count()).for_each(|number| told(number, not_now()));
        };
        // Never waits for the peer, so it is over when the call returns.
        let flags = (SendFlags::NOSIGNAL | SendFlags::DONTWAIT).bits().cast_signed();
        let (mut given, mut queue) = (0, ring.submission());
        for (number, (socket, bytes)) in sends.enumerate() {
            let fd = types::Fd(socket.as_fd().as_raw_fd());
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let send = opcode::Send::new(fd, bytes.as_ptr(), len).flags(flags).build().user_data(number as u64);
            // SAFETY: socket and bytes are borrowed for 'a, which outlives this call, and this call does not return before the kernel
            // has said of each entry that it is done with it, or has not taken it and never will.
            #[allow(unsafe_code)]
            let pushed = unsafe { queue.push(&send) };
            match pushed {
                Ok(()) => given += 1,
                Err(_) => told(number, not_now()),
            }
        }
        drop(queue);
        let (mut open, mut refused) = (given, false);
        while open > 0 {
            let entered = ring.submit_and_wait(open);
            for done in ring.completion() {
                open -= 1;
                let sent = usize::try_from(done.result()).map_err(|_| io::Error::from_raw_os_error(-done.result()));
                told(usize::try_from(done.user_data()).unwrap_or(usize::MAX), sent);
            }
            if !refused && entered.is_err_and(|error| error.kind() != io::ErrorKind::Interrupted) {
                // It takes them in order: those that it has not taken are the last.
                let left = ring.submission().len();
                (given - left..given).for_each(|number| told(number, not_now()));
                open -= left;
                refused = true;
            }
        }
        if refused {
            tracing::warn!("the kernel has refused a batch of small writes: they are sent one by one from now on");
            self.ring = None;
        }
    }
}
