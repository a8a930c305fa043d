//! The unprivileged helper that unpacks an untrusted archive into a tree of files.
//!
//! It checks every entry itself: a library's own `unpack` silently skips some entries, and follows links that it should
//! not. One bad entry refuses the whole archive. It has no secrets, and can write only to its working directory.

mod binary;
mod budget;
pub mod contents;
mod gzip;
mod kind;
mod tarball;
mod tree;
mod zipped;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::{prctl, stat};
use serde::{Deserialize, Serialize};

use budget::Meter;
use kind::{Kind, Packed};
pub use kind::{head, instead_of_a_file};
use tree::{EntryName, Tree};
pub use tree::{MANIFEST, instead_of_link, is_junk, is_system_program};

/// The 128 MiB that the zstd tool itself accepts by default.
const ZSTD_WINDOW_LOG: u32 = 27;
const XZ_MEMORY: u64 = 256 << 20;
const ADDRESS_SPACE: u64 = 1 << 30;
const OPEN_FILES: u64 = 64;

/// Limits on an archive's content. Counted while writing: the sizes in headers are untrusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes written, and bytes decompressed.
    pub max_bytes: u64,
    /// Files, directories and links.
    pub max_entries: u64,
    /// Bytes written per byte of the artifact, once 10 MiB are written.
    pub max_ratio: u64,
    /// Components of one path.
    pub max_depth: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 2 << 30, max_entries: 100_000, max_ratio: 200, max_depth: 64 }
    }
}

impl Limits {
    /// Returns the helper's arguments.
    pub fn to_args(&self) -> [String; 4] {
        [self.max_bytes, self.max_entries, self.max_ratio, self.max_depth].map(|limit| limit.to_string())
    }

    fn from_args(args: &[String]) -> Option<Self> {
        let [max_bytes, max_entries, max_ratio, max_depth] = args else { return None };
        Some(Self {
            max_bytes: max_bytes.parse().ok()?,
            max_entries: max_entries.parse().ok()?,
            max_ratio: max_ratio.parse().ok()?,
            max_depth: max_depth.parse().ok()?,
        })
    }
}

/// The result of unpacking an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpacked {
    /// Files, directories and links, including implied parent directories.
    pub entries: u64,
    /// Bytes in files.
    pub bytes: u64,
    /// The lone top directory that was left out, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripped: Option<String>,
}

/// Why an archive was refused; also the line that the helper prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct UnpackError {
    pub code: Code,
    /// For the operator; names the entry.
    pub message: String,
}

/// The classes of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// More bytes, or a higher ratio, than the limits allow.
    ArchiveTooLarge,
    /// More entries than the limits allow.
    TooManyEntries,
    /// A path with more components or bytes than the limits allow.
    PathTooDeep,
    /// An unknown kind, or two kinds at once.
    TypeMismatch,
    /// A path or link that leads, or could lead, out of the tree.
    PathEscapes,
    /// An entry that is not a file, directory or link, or has a name that we do not write.
    EntryForbidden,
    /// Two entries for one path.
    DuplicateEntry,
    /// Truncated, corrupt, or followed by trailing data.
    Damaged,
    /// The only transient one.
    DiskFull,
    /// The helper itself failed.
    Failed,
}

impl UnpackError {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn damaged(cause: impl std::fmt::Display) -> Self {
        Self::new(Code::Damaged, format!("could not read the archive: {cause}"))
    }

    fn writing(what: &str, error: &io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::DiskFull,
            io::ErrorKind::FileTooLarge => Code::ArchiveTooLarge,
            _ => Code::Failed,
        };
        Self::new(code, format!("could not write {what:?}: {error}"))
    }
}

/// Unpacks an artifact of any known kind into an empty directory. A lone top directory is left out. A jar is kept
/// whole, and the files that macOS adds to archives are left out.
///
/// # Errors
/// The entry and the rule. What was already written stays: the caller deletes the directory.
pub fn unpack(mut artifact: File, into: &Path, limits: &Limits) -> Result<Unpacked, UnpackError> {
    let length = artifact.seek(SeekFrom::End(0)).map_err(UnpackError::damaged)?;
    artifact.seek(SeekFrom::Start(0)).map_err(UnpackError::damaged)?;
    let mut tree = Tree::new(into, limits, length);
    let meter = Meter::new(limits, length);
    match kind::of_file(&mut artifact)? {
        Kind::Zip => zipped::unpack(artifact, length, &mut tree)?,
        Kind::Packed(packed) => {
            let source = decompressor(packed, artifact).map_err(UnpackError::damaged)?;
            unpack_stream(source, packed.name(), &meter, &mut tree)?;
        }
        Kind::Executable if zipped::has_jar(&mut artifact) => {
            tree.file(EntryName::app(), true, &mut artifact, &|error| UnpackError::damaged(error))?;
            tree.hardlink(EntryName::jar(), &EntryName::app())?;
        }
        Kind::Tar | Kind::Executable => unpack_stream(Box::new(artifact), "the artifact", &meter, &mut tree)?,
    }
    tree.finish()
}

/// Opens a decoder that reads all members or frames and fails on trailing data other than padding.
fn decompressor(packed: Packed, artifact: File) -> io::Result<Box<dyn Read>> {
    let source = BufReader::with_capacity(64 << 10, artifact);
    Ok(match packed {
        Packed::Gzip => Box::new(gzip::Members::new(source)),
        Packed::Xz => Box::new(XzDecoder::new_stream(source, Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?)),
        Packed::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

fn unpack_stream(source: Box<dyn Read>, shown: &str, meter: &Meter, tree: &mut Tree) -> Result<(), UnpackError> {
    let mut source = meter.over(source);
    let head = kind::head(&mut source).map_err(|error| meter.blame(error))?;
    let found = kind::of(&head);
    let mut source = io::Cursor::new(head).chain(source);
    match found {
        Ok(Kind::Tar) => tarball::unpack(source, meter, tree),
        Ok(Kind::Executable) => tree.file(EntryName::app(), true, &mut source, &|error| meter.blame(error)).map(drop),
        Ok(Kind::Zip | Kind::Packed(_)) => Err(kind::neither(shown, "another archive")),
        Err(found) => Err(kind::neither(shown, &found)),
    }
}

/// Runs as the helper process: reads the artifact from standard input, writes the tree to the current directory and the
/// verdict, one line of JSON, to standard output.
pub fn main_from_stdin(args: &[String]) -> ExitCode {
    // Under memory pressure this process is killed, not the agent. Best effort: unpacking works without.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let result = run(args);
    let line = match &result {
        Ok(unpacked) => serde_json::to_string(unpacked),
        Err(error) => serde_json::to_string(error),
    };
    let printed = line.map_err(io::Error::from).and_then(|line| writeln!(io::stdout(), "{line}"));
    match result.is_ok() && printed.is_ok() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn run(args: &[String]) -> Result<Unpacked, UnpackError> {
    let failed = |cause: String| UnpackError::new(Code::Failed, format!("could not start unpacking: {cause}"));
    let limits = Limits::from_args(args).ok_or_else(|| failed("want four limits as arguments".to_owned()))?;
    confine(&limits).map_err(|errno| failed(errno.to_string()))?;
    let artifact = io::stdin().as_fd().try_clone_to_owned().map_err(|error| failed(error.to_string()))?;
    unpack(File::from(artifact), Path::new("."), &limits)
}

/// Drops every privilege that unpacking does not need, so that a vulnerability in a decoder is worth less.
fn confine(limits: &Limits) -> nix::Result<()> {
    prctl::set_no_new_privs()?;
    // A helper whose agent exited has no use.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // Blocked, so that a file over the limit is a failed write with a message, not a silent kill.
    SigSet::from(Signal::SIGXFSZ).thread_block()?;
    stat::umask(stat::Mode::from_bits_truncate(0o022));
    for (resource, most) in [
        (Resource::RLIMIT_FSIZE, limits.max_bytes),
        (Resource::RLIMIT_AS, ADDRESS_SPACE),
        (Resource::RLIMIT_NOFILE, OPEN_FILES),
        // An exploited decoder could otherwise leave a child behind that writes after the verdict.
        (Resource::RLIMIT_NPROC, 0),
        (Resource::RLIMIT_CORE, 0),
    ] {
        setrlimit(resource, most, most)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
