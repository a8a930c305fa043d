//! The counters that stop a decompression bomb: over a decoder's output, and over what is written.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::rc::Rc;

use super::{Code, Limits, UnpackError};

/// Small archives may have any ratio.
const RATIO_FROM: u64 = 10 << 20;
/// Long names and extended attributes of one entry. A decoder keeps these in memory before we see the entry.
const HEADERS_AT_MOST: u64 = 1 << 20;

/// Bytes used, against both limits.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    limits: Limits,
    artifact: u64,
    pub(super) used: u64,
}

impl Budget {
    pub(super) fn new(limits: &Limits, artifact: u64) -> Self {
        Self { limits: *limits, artifact, used: 0 }
    }

    /// Counts bytes before they are written.
    pub(super) fn spend(&mut self, bytes: u64) -> Result<(), UnpackError> {
        self.used = self.used.saturating_add(bytes);
        let Limits { max_bytes, max_ratio, .. } = self.limits;
        let too_large =
            |rule: String| Err(UnpackError::new(Code::ArchiveTooLarge, format!("archive too large: {rule}")));
        if self.used > max_bytes {
            return too_large(format!("more than {max_bytes} bytes"));
        }
        if self.used > RATIO_FROM && self.used > self.artifact.saturating_mul(max_ratio) {
            return too_large(format!("more than {max_ratio} times the {} bytes of the artifact", self.artifact));
        }
        Ok(())
    }
}

/// Meters a stream from outside the decoder that owns it. The verdict is kept here because decoders wrap errors.
#[derive(Debug, Clone)]
pub(super) struct Meter(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    budget: RefCell<Budget>,
    headers_left: Cell<Option<u64>>,
    tripped: RefCell<Option<UnpackError>>,
    at_end: Cell<bool>,
}

/// A metered stream.
pub(super) struct Metered<R> {
    inner: R,
    meter: Meter,
}

impl Meter {
    pub(super) fn new(limits: &Limits, artifact: u64) -> Self {
        Self(Rc::new(Inner {
            budget: RefCell::new(Budget::new(limits, artifact)),
            headers_left: Cell::new(None),
            tripped: RefCell::new(None),
            at_end: Cell::new(false),
        }))
    }

    pub(super) fn over<R: Read>(&self, inner: R) -> Metered<R> {
        Metered { inner, meter: self.clone() }
    }

    /// From here on only headers may be read, up to a limit.
    pub(super) fn expect_headers(&self) {
        self.0.headers_left.set(Some(HEADERS_AT_MOST));
    }

    /// From here on a file's content is read.
    pub(super) fn expect_content(&self) {
        self.0.headers_left.set(None);
    }

    /// Whether the stream reached its end.
    pub(super) fn at_end(&self) -> bool {
        self.0.at_end.get()
    }

    /// Attributes a failed read to a limit of ours or to damage.
    pub(super) fn blame(&self, error: io::Error) -> UnpackError {
        self.0.tripped.borrow_mut().take().unwrap_or_else(|| UnpackError::damaged(error))
    }

    fn count(&self, bytes: usize) -> Result<(), UnpackError> {
        self.0.at_end.set(bytes == 0);
        if let Some(left) = self.0.headers_left.get() {
            let left = left.checked_sub(bytes as u64);
            self.0.headers_left.set(Some(left.unwrap_or(0)));
            left.ok_or_else(|| UnpackError::damaged("one entry has more than 1 MiB of headers"))?;
        }
        self.0.budget.borrow_mut().spend(bytes as u64)
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.meter.count(read).map_err(|verdict| {
            let error = io::Error::other(verdict.message.clone());
            *self.meter.0.tripped.borrow_mut() = Some(verdict);
            error
        })?;
        Ok(read)
    }
}
