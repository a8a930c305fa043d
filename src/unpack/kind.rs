//! Detects a file's kind by its first bytes alone: names and content types are untrusted.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::{Code, UnpackError};

/// One tar header; all magic numbers lie within.
const HEAD: u64 = 512;

/// The kinds that can be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tar,
    Zip,
    Packed(Packed),
    Executable,
}

/// A compression of a single stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packed {
    Gzip,
    Xz,
    Zstd,
}

impl Packed {
    pub(super) fn name(self) -> &'static str {
        match self {
            Packed::Gzip => "the gzip file",
            Packed::Xz => "the xz file",
            Packed::Zstd => "the zstd file",
        }
    }
}

/// Reads the first bytes, fewer only at the end of the file.
pub(super) fn head(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    source.take(HEAD).read_to_end(&mut head)?;
    Ok(head)
}

/// Detects a file's kind, and rewinds it.
pub(super) fn of_file(artifact: &mut File) -> Result<Kind, UnpackError> {
    let head = head(artifact).map_err(UnpackError::damaged)?;
    artifact.seek(SeekFrom::Start(0)).map_err(UnpackError::damaged)?;
    of(&head).map_err(|found| neither("the artifact", &found))
}

/// Detects the kind from the first bytes, or describes what they look like instead.
pub(super) fn of(head: &[u8]) -> Result<Kind, String> {
    let tar = head.get(257..262) == Some(b"ustar");
    match (by_first_bytes(head), tar) {
        (Some(kind), false) => Ok(kind),
        (None, true) => Ok(Kind::Tar),
        (Some(_), true) => Err("two kinds of file in one".to_owned()),
        (None, false) => Err(looks_like(head)),
    }
}

fn by_first_bytes(head: &[u8]) -> Option<Kind> {
    const MAGICS: [(&[u8], Kind); 7] = [
        (b"\x1f\x8b", Kind::Packed(Packed::Gzip)),
        (b"\x28\xb5\x2f\xfd", Kind::Packed(Packed::Zstd)),
        (b"\xfd7zXZ\0", Kind::Packed(Packed::Xz)),
        (b"PK\x03\x04", Kind::Zip),
        (b"PK\x05\x06", Kind::Zip),
        (b"\x7fELF", Kind::Executable),
        (b"#!", Kind::Executable),
    ];
    MAGICS.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, kind)| *kind)
}

/// Names what people upload by mistake, above all the login page behind a download link.
fn looks_like(head: &[u8]) -> String {
    const MAGICS: [(&[u8], &str); 5] = [
        (b"BZh", "a bzip2 file"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z file"),
        (b"Rar!", "a rar file"),
        (b"MZ", "a Windows program"),
        (b"\xcf\xfa\xed\xfe", "a macOS program"),
    ];
    if head.is_empty() {
        return "nothing: it is empty".to_owned();
    }
    if let Some((_, name)) = MAGICS.iter().find(|(magic, _)| head.starts_with(magic)) {
        return (*name).to_owned();
    }
    let text = String::from_utf8_lossy(head).trim_start().to_ascii_lowercase();
    match text.chars().next() {
        Some('<') => "a web page".to_owned(),
        Some('{' | '[') => "JSON".to_owned(),
        _ => format!("bytes that begin with {}", hex::encode(&head[..head.len().min(8)])),
    }
}

/// The error for a file, or its decompressed content, that is nothing we can run.
pub(super) fn neither(shown: &str, found: &str) -> UnpackError {
    let wanted = match shown {
        "the artifact" => "a tar, zip, gzip, zstd, xz or executable file",
        _ => "a tar archive or an executable inside",
    };
    UnpackError::new(Code::TypeMismatch, format!("could not unpack {shown}: want {wanted}, found {found}"))
}
