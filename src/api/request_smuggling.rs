//! Checks a request's raw head, before the parser normalises it: where the parser is lenient, two readers of one
//! request may understand it differently.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::sign::HEADER;

/// What is wrong with the head of a connection's only request. Known by the time the parser has read the head.
#[derive(Debug, Clone, Default)]
pub struct Flaws(Arc<Found>);

#[derive(Debug, Default)]
struct Found {
    padded_signature: AtomicBool,
    two_lengths: AtomicBool,
}

impl Flaws {
    /// Tells whether white space surrounds the signature: the parser strips it, so it was never compared.
    pub fn padded_signature(&self) -> bool {
        self.0.padded_signature.load(Ordering::Acquire)
    }

    /// Tells whether the body has both a length and chunks: a proxy in front of us may have used the other one.
    pub fn two_lengths(&self) -> bool {
        self.0.two_lengths.load(Ordering::Acquire)
    }

    fn judge(&self, head: &[u8]) {
        let (mut length, mut chunks) = (false, false);
        for line in head.split(|byte| *byte == b'\n').skip(1) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            length |= name.eq_ignore_ascii_case(b"content-length");
            chunks |= name.eq_ignore_ascii_case(b"transfer-encoding");
            let value = value.strip_prefix(b" ").unwrap_or(value);
            if name.eq_ignore_ascii_case(HEADER.as_bytes()) && value.trim_ascii() != value {
                self.0.padded_signature.store(true, Ordering::Release);
            }
        }
        self.0.two_lengths.store(length && chunks, Ordering::Release);
    }
}

/// A connection that inspects its first head as it is read.
pub struct Watched<S> {
    inner: S,
    flaws: Flaws,
    head: Option<Vec<u8>>,
}

impl<S> Watched<S> {
    /// Wraps a connection that serves one request.
    pub fn new(inner: S, flaws: Flaws) -> Self {
        Self { inner, flaws, head: Some(Vec::new()) }
    }

    fn look(&mut self, new: &[u8]) {
        let Some(head) = &mut self.head else { return };
        // The end may lie across two reads.
        let from = head.len().saturating_sub(3);
        head.extend_from_slice(new);
        if let Some(end) = end_of(&head[from..]) {
            self.flaws.judge(&head[..from + end]);
            self.head = None;
        }
    }
}

/// Returns the position of the empty line that ends a head.
fn end_of(bytes: &[u8]) -> Option<usize> {
    let crlf = bytes.windows(3).position(|three| three == b"\n\r\n");
    let lf = bytes.windows(2).position(|two| two == b"\n\n");
    [crlf, lf].into_iter().flatten().min()
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.look(&buf.filled()[before..]);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaws(pieces: &[&str]) -> (bool, bool) {
        let flaws = Flaws::default();
        let mut watched = Watched::new((), flaws.clone());
        pieces.iter().for_each(|piece| watched.look(piece.as_bytes()));
        (flaws.padded_signature(), flaws.two_lengths())
    }

    #[test]
    fn white_space_around_a_signature_is_seen_however_the_head_is_cut() {
        assert_eq!(flaws(&["GET / HTTP/1.1\r\nX-Signature: v1\r\n\r\n"]), (false, false));
        assert_eq!(flaws(&["GET / HTTP/1.1\r\nX-Signature:v1\r\nA: b \r\n\r\n"]), (false, false));
        for head in ["x-signature: v1 \r\n\r\n", "X-SIGNATURE: v1\t\n\n", "X-Signature:  v1\r\n\r\n"] {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{head}");
            assert_eq!(flaws(&[&head]), (true, false), "{head:?}");
            for at in 0..head.len() {
                assert_eq!(flaws(&[&head[..at], &head[at..]]), (true, false), "{head:?} cut at {at}");
            }
        }
    }

    #[test]
    fn two_lengths_are_seen_in_the_head_and_not_in_the_body() {
        let both = "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(flaws(&[both]), (false, true));
        let body = "PUT / HTTP/1.1\r\nContent-Length: 99\r\n\r\nTransfer-Encoding: chunked\r\nX-Signature: a \r\n\r\n";
        assert_eq!(flaws(&[body]), (false, false));
    }
}
