//! Reads a gzip file of any number of members.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

/// What is decoded, one member after another. Zeros after the last member are padding, as for `tar -z`, which fails at
/// anything else there.
pub(super) struct Members<R: BufRead> {
    /// None at the end.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Members<R> {
    pub(super) fn new(source: R) -> Self {
        Self { member: Some(GzDecoder::new(source)) }
    }

    /// Opens the next member, if there is one.
    fn next(mut source: R) -> io::Result<Option<GzDecoder<R>>> {
        let mut padded = false;
        loop {
            let rest = source.fill_buf()?;
            let Some(first) = rest.first() else { return Ok(None) };
            match rest.iter().take_while(|byte| **byte == 0).count() {
                0 if !padded && *first == 0x1f => return Ok(Some(GzDecoder::new(source))),
                0 => return Err(io::Error::new(io::ErrorKind::InvalidData, TRAILING)),
                zeros => {
                    source.consume(zeros);
                    padded = true;
                }
            }
        }
    }
}

const TRAILING: &str = "something follows the end of the gzip file, as when two files were joined or a line was added; \
                        make and upload it again";

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = self.member.as_mut().filter(|_| !buf.is_empty()) {
            match member.read(buf)? {
                0 => self.member = self.member.take().map_or(Ok(None), |member| Self::next(member.into_inner()))?,
                read => return Ok(read),
            }
        }
        Ok(0)
    }
}
