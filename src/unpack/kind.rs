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
pub fn head(source: &mut impl Read) -> io::Result<Vec<u8>> {
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

/// Names a file that neither the kernel nor a shell can run, by its first bytes: a binary file that is no program.
pub(super) fn no_program(head: &[u8]) -> Option<String> {
    let first_line = head.split(|byte| *byte == b'\n').next()?;
    // The same that shells ask before they read a file as a script.
    let is_binary = first_line.contains(&0);
    match by_first_bytes(head) {
        Some(Kind::Executable) => None,
        // What begins so runs everywhere, and is judged elsewhere.
        _ if head.starts_with(b"MZ") => None,
        Some(Kind::Packed(packed)) => Some(packed.name().replacen("the", "a", 1).replace("a xz", "an xz")),
        Some(Kind::Zip) => Some("a zip archive".to_owned()),
        Some(Kind::Tar) | None => is_binary.then(|| looks_like(head).name),
    }
}

/// Describes a text that stands where a program or script should be, and that no interpreter can run.
pub(super) fn no_script(head: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    if text.starts_with("version https://git-lfs") {
        return Some("a Git LFS pointer and not the file itself: pack after `git lfs pull`, from a checkout with LFS");
    }
    let is_page = ["<!doctype html", "<html"].iter().any(|begin| text.starts_with(begin));
    is_page.then_some("a web page in place of the file: see how it was fetched")
}

/// Detects the kind from the first bytes, or describes what they look like instead.
pub(super) fn of(head: &[u8]) -> Result<Kind, String> {
    match (by_first_bytes(head), is_tar(head)) {
        (Some(kind), false) => Ok(kind),
        (None, true) => Ok(Kind::Tar),
        (Some(_), true) => Err("two kinds of file in one".to_owned()),
        (None, false) => Err(looks_like(head).shown()),
    }
}

fn is_tar(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar")
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

const REPACK: &str = "pack the files as .tar.gz, .tar.zst or .zip";
const OTHER_SYSTEM: &str = "build it for Linux, and for this server's processor";
const PAGE: &str = "the URL leads to a page and not to the file: a login, a page that says not found, or one about the \
                    file; name the URL of the file itself, one that needs no login, or upload it with `zexio deploy`";
const JSON: &str = "an API answers so; name the URL of the file itself (of a GitHub asset: browser_download_url)";
const POINTER: &str = "it stands for a file that is elsewhere; name a URL that serves the file itself, or pack after \
                       `git lfs pull`";
const STORAGE: &str = "is the URL whole, is its time over, and is the file there?";
const CHECKSUMS: &str = "name the URL of the file that they are of, and write its own in artifact.sha256";
const SIGNATURE: &str = "name the URL of the file that it belongs to";
const REFUSED: &str = "the server sent its refusal in place of the file; name the URL of the file itself, one that needs no \
                       login, or upload it with `zexio deploy`";
const TEXT: &str = "a script begins with #! and its interpreter, as #!/usr/bin/env node; other files come in an archive, \
                    .tar.gz, .tar.zst or .zip";

/// What a file is that is no artifact, and what helps.
struct Other {
    name: String,
    help: Option<&'static str>,
    /// Servers send it instead of the file.
    is_answer: bool,
}

impl Other {
    fn new(name: impl Into<String>, help: &'static str) -> Self {
        Self { name: name.into(), help: Some(help), is_answer: false }
    }

    fn answer(name: impl Into<String>, help: &'static str) -> Self {
        Self { is_answer: true, ..Self::new(name, help) }
    }

    fn shown(&self) -> String {
        self.help.map_or_else(|| self.name.clone(), |help| format!("{}; {help}", self.name))
    }
}

/// Returns what a server sent instead of the file, and what helps: a page, an error, a pointer.
pub fn instead_of_a_file(head: &[u8]) -> Option<String> {
    let is_artifact = by_first_bytes(head).is_some() || is_tar(head);
    (!is_artifact).then(|| looks_like(head)).filter(|other| other.is_answer).map(|other| other.shown())
}

/// Names what people upload by mistake, above all the login page behind a download link.
fn looks_like(head: &[u8]) -> Other {
    const MAGICS: [(&[u8], &str, &str); 19] = [
        (b"BZh", "a bzip2 file", REPACK),
        (b"7z\xbc\xaf\x27\x1c", "a 7z file", REPACK),
        (b"Rar!", "a rar file", REPACK),
        (b"LZIP", "an lzip file", REPACK),
        (b"\x04\x22\x4d\x18", "an lz4 file", REPACK),
        (b"\x1f\x9d", "a compress (.Z) file", REPACK),
        (b"0707", "a cpio archive", REPACK),
        (b"xar!", "an xar archive", REPACK),
        (b"PK\x07\x08", "one part of a split zip archive", REPACK),
        (b"!<arch>\n", "a Debian package", REPACK),
        (b"\xed\xab\xee\xdb", "an rpm package", REPACK),
        (b"hsqs", "a squashfs image", REPACK),
        (b"MZ", "a Windows program", OTHER_SYSTEM),
        (b"\xcf\xfa\xed\xfe", "a macOS program", OTHER_SYSTEM),
        (b"\xca\xfe\xba\xbe", "a macOS program, or a Java class", OTHER_SYSTEM),
        (b"\0asm", "a WebAssembly module", REPACK),
        (b"%PDF", "a PDF file", REPACK),
        (b"SQLite format 3", "an SQLite database", REPACK),
        (b"\x89PNG", "a picture", REPACK),
    ];
    if head.is_empty() {
        let name = "nothing: it is empty".to_owned();
        return Other { name, help: None, is_answer: false };
    }
    if let Some((_, name, help)) = MAGICS.iter().find(|(magic, ..)| head.starts_with(magic)) {
        return Other::new(*name, help);
    }
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with("version https://git-lfs") {
        return Other::answer("a Git LFS pointer", POINTER);
    }
    match text.chars().next() {
        Some('<') => markup(text),
        Some('{' | '[') => Other::answer("JSON", JSON),
        _ if is_text(text) => plain(text),
        _ => Other {
            name: format!("bytes that begin with {}", hex::encode(&head[..head.len().min(8)])),
            help: None,
            is_answer: false,
        },
    }
}

/// A web page, or the XML in which storage servers write their errors. Only known codes are quoted.
fn markup(text: &str) -> Other {
    const CODES: [&str; 7] = [
        "NoSuchKey",
        "NoSuchBucket",
        "AccessDenied",
        "ExpiredToken",
        "SignatureDoesNotMatch",
        "InvalidAccessKeyId",
        "AuthenticationFailed",
    ];
    let is_error = text.contains("<Error>") && text.contains("<Code>");
    match CODES.iter().find(|code| text.contains(&format!("<Code>{code}</Code>"))) {
        Some(code) if is_error => Other::answer(format!("an error of a storage server, {code}"), STORAGE),
        _ if is_error => Other::answer("an error of a storage server", STORAGE),
        _ if text.starts_with("<?xml") && !text.to_ascii_lowercase().contains("<html") => Other::answer("XML", PAGE),
        _ => Other::answer("a web page", PAGE),
    }
}

/// A text that is no file's content, known by its first line. Only known words are quoted.
fn plain(text: &str) -> Other {
    const WORDS: [&str; 24] = [
        "not authorized",
        "not authorised",
        "unauthorized",
        "unauthorised",
        "unauthenticated",
        "authentication required",
        "authentication failed",
        "access denied",
        "permission denied",
        "forbidden",
        "log in",
        "sign in",
        "token",
        "expired",
        "not found",
        "no such",
        "does not exist",
        "rate limit",
        "too many requests",
        "quota",
        "bad gateway",
        "unavailable",
        "timeout",
        "internal server error",
    ];
    let line = text.lines().next().unwrap_or_default().trim_end();
    let lower = line.to_lowercase();
    let is_digest = |word: &str| {
        matches!(word.len(), 32 | 40 | 56 | 64 | 96 | 128) && word.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    if line.split_whitespace().next().is_some_and(is_digest) || line.rsplit("= ").next().is_some_and(is_digest) {
        return Other::answer("a file of checksums", CHECKSUMS);
    }
    if line.starts_with("-----BEGIN ") {
        return Other::answer("a key, a certificate or a signature (PEM)", SIGNATURE);
    }
    let is_prose = line.len() <= 120 && !line.contains(['(', ')', '{', '}', ';', '=', '"', '`']);
    match WORDS.iter().find(|word| is_prose && lower.contains(**word)) {
        Some(word) => Other::answer(format!("plain text that says {word:?}"), REFUSED),
        None => Other::new("plain text", TEXT),
    }
}

/// The last character may be cut.
fn is_text(text: &str) -> bool {
    let whole = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
    !whole.chars().any(|c| c == char::REPLACEMENT_CHARACTER || c.is_control() && !c.is_whitespace())
}

/// The error for a file, or its decompressed content, that is nothing we can run.
pub(super) fn neither(shown: &str, found: &str) -> UnpackError {
    let wanted = match shown {
        "the artifact" => "a tar, zip, gzip, zstd, xz or executable file",
        _ => "a tar archive or an executable inside",
    };
    UnpackError::new(Code::TypeMismatch, format!("could not unpack {shown}: want {wanted}, found {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_file_that_is_no_program_has_a_name() {
        for (head, name) in [
            (&b"\0asm\x01\0\0\0"[..], "a WebAssembly module"),
            (b"\x1f\x8b\x08\0", "a gzip file"),
            (b"\xfd7zXZ\0", "an xz file"),
            (b"PK\x03\x04", "a zip archive"),
            (b"\x01\x02\0", "bytes that begin with 010200"),
        ] {
            assert_eq!(no_program(head).as_deref(), Some(name));
        }
        for head in [&b"#!/bin/sh\n"[..], b"\x7fELF\x02\0", b"MZqFpD='\n\0", b"echo x\n\0\0", b"", b"asm"] {
            assert_eq!(no_program(head), None, "{head:?}");
        }
    }
}
