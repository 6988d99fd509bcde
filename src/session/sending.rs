//! Bytes to a socket that may not take them all at once.

use std::io;
use std::task::{Context as Cx, Poll};

use crate::net::Stream;

/// Writes at once what the socket takes, behind what waits already; the rest waits. Returns how much was written.
pub(super) fn send(stream: &mut Stream, backlog: &mut Vec<u8>, bytes: &[u8], cx: &mut Cx<'_>) -> io::Result<usize> {
    let mut sent = 0;
    if backlog.is_empty() {
        while sent < bytes.len() {
            match stream.poll_write_from(cx, &bytes[sent..]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => sent += n,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
    }
    backlog.extend_from_slice(&bytes[sent..]);
    Ok(sent)
}

/// Writes a backlog as far as the socket takes it.
pub(super) fn drain(stream: &mut Stream, backlog: &mut Vec<u8>, cx: &mut Cx<'_>) -> Poll<io::Result<usize>> {
    match stream.poll_write_from(cx, backlog) {
        Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        Poll::Ready(Ok(n)) => {
            backlog.drain(..n);
            if backlog.is_empty() && backlog.capacity() > 512 {
                *backlog = Vec::new();
            }
            Poll::Ready(Ok(n))
        }
        other => other,
    }
}
