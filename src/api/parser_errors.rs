//! Requests that the HTTP parser refuses before our code sees them, answered in our own format. The parser answers such
//! requests itself, with a bare status; that is the only thing it writes before it has handed us a request.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::problem::Problem;

/// A connection that replaces the parser's answer with ours.
pub struct Refusing<S> {
    inner: S,
    understood: Arc<AtomicBool>,
    own: Option<Vec<u8>>,
}

impl<S> Refusing<S> {
    /// Wraps a connection that serves one request.
    pub fn new(inner: S) -> Self {
        Self { inner, understood: Arc::default(), own: None }
    }

    /// Returns the flag to set once a request was parsed.
    pub fn understood(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.understood)
    }
}

/// Maps the parser's status line to a problem.
fn as_problem(said: &[u8]) -> Vec<u8> {
    let status = said.get(9..12).and_then(|digits| StatusCode::from_bytes(digits).ok());
    let problem = match status {
        Some(StatusCode::URI_TOO_LONG) => {
            Problem::new(StatusCode::URI_TOO_LONG, "uri_too_long", "the path and query are too long")
        }
        Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE) => {
            let detail = "the headers are too many or too long";
            Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", detail)
        }
        _ => Problem::bad("bad_request", "the request does not read as HTTP/1.1"),
    };
    let body = problem.body();
    let head = format!(
        "HTTP/1.1 {}\r\ncontent-type: application/problem+json\r\ncache-control: no-store\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        problem.status,
        body.len()
    );
    [head.into_bytes(), body].concat()
}

impl<S: AsyncRead + Unpin> AsyncRead for Refusing<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Refusing<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.understood.load(Ordering::Acquire) {
            return Pin::new(&mut this.inner).poll_write(cx, bytes);
        }
        let own = this.own.get_or_insert_with(|| as_problem(bytes));
        while !own.is_empty() {
            match ready!(Pin::new(&mut this.inner).poll_write(cx, own))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => drop(own.drain(..written)),
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
