//! Reads a zip archive entry by entry.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use zip::{CompressionMethod, ZipArchive};

use super::tree::{EntryName, Tree};
use super::{Code, UnpackError};

const END_RECORD: u64 = 22;
const END_MAGIC: &[u8; 4] = b"PK\x05\x06";
/// The file type bits of a Unix mode.
const KIND_OF_MODE: u32 = 0o170_000;
const LONGEST_TARGET: u64 = 4096;

/// Marks a zip archive as a jar, which is run as it is.
const MANIFEST: &str = "META-INF/MANIFEST.MF";

/// Puts every entry into the tree, or the whole file if it is a jar. The file must be one zip archive from its first
/// byte to its last.
pub(super) fn unpack(mut artifact: File, length: u64, tree: &mut Tree) -> Result<(), UnpackError> {
    let mut whole = artifact.try_clone().map_err(UnpackError::damaged)?;
    artifact.seek(SeekFrom::Start(0)).map_err(UnpackError::damaged)?;
    let mut archive = ZipArchive::new(BufReader::new(artifact)).map_err(UnpackError::damaged)?;
    let comment = archive.comment().len() as u64;
    if archive.offset() != 0 || !ends_with_record(&mut whole, length, comment).map_err(UnpackError::damaged)? {
        return Err(UnpackError::damaged("something precedes or follows the zip archive"));
    }
    if archive.has_duplicate_names() {
        return Err(UnpackError::new(Code::DuplicateEntry, "could not accept the archive: two entries have one name"));
    }
    // A reader that uses the local headers must see the same archive as one that uses the central directory.
    archive.validate_header_consistency().map_err(UnpackError::damaged)?;
    if archive.index_for_name(MANIFEST).is_some() {
        whole.seek(SeekFrom::Start(0)).map_err(UnpackError::damaged)?;
        let damaged = |error: io::Error| UnpackError::damaged(error);
        return tree.file(EntryName::jar(), false, &mut whole, &damaged).map(drop);
    }
    (0..archive.len()).try_for_each(|index| put(&mut archive, index, tree))
}

/// Whether a script has a jar appended, as Spring Boot makes them to run without `java -jar`. Rewinds the file.
pub(super) fn has_jar(artifact: &mut File) -> bool {
    let archive = artifact.try_clone().ok().and_then(|file| ZipArchive::new(BufReader::new(file)).ok());
    let has = archive.is_some_and(|archive| archive.index_for_name(MANIFEST).is_some());
    has & artifact.seek(SeekFrom::Start(0)).is_ok()
}

/// Whether a zip archive has a file of this name.
pub(super) fn has_entry(archive: &Path, name: &str) -> bool {
    let archive = File::open(archive).ok().and_then(|file| ZipArchive::new(BufReader::new(file)).ok());
    archive.is_some_and(|archive| archive.index_for_name(name).is_some())
}

/// Whether the end record that was used ends where the file ends.
fn ends_with_record(file: &mut File, length: u64, comment: u64) -> io::Result<bool> {
    let Some(at) = length.checked_sub(END_RECORD + comment) else { return Ok(false) };
    let mut magic = [0; 4];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut magic)?;
    Ok(magic == *END_MAGIC)
}

/// An entry's metadata in the central directory.
struct About {
    raw: Vec<u8>,
    shown: String,
    mode: u32,
    size: u64,
}

fn put(archive: &mut ZipArchive<BufReader<File>>, index: usize, tree: &mut Tree) -> Result<(), UnpackError> {
    let about = about(archive, index)?;
    let name = tree.name(&about.raw)?;
    if name.is_junk() {
        return Ok(());
    }
    let is_dir = about.raw.ends_with(b"/");
    match (about.mode & KIND_OF_MODE, is_dir) {
        (0 | 0o100_000 | 0o040_000, true) if about.size == 0 => tree.dir(&name),
        (_, true) => Err(forbidden(&about.shown, "it is named like a directory but is none")),
        (0 | 0o100_000, false) => put_file(archive, index, name, &about, tree),
        (0o120_000, false) => {
            let target = read_target(archive, index, &about)?;
            tree.symlink(name, &target)
        }
        _ => Err(forbidden(&about.shown, "it is neither file, directory nor link")),
    }
}

fn about(archive: &ZipArchive<BufReader<File>>, index: usize) -> Result<About, UnpackError> {
    let entry = archive.by_index_data(index).map_err(UnpackError::damaged)?;
    // The format allows only /; old Windows tools write \ and mean /.
    let raw: Vec<u8> = entry.name_raw().iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect();
    let shown = String::from_utf8_lossy(&raw).into_owned();
    if entry.encrypted() {
        return Err(forbidden(&shown, "it is encrypted"));
    }
    if !matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
        return Err(forbidden(&shown, &format!("its compression {} is not supported", entry.compression())));
    }
    Ok(About { raw, shown, mode: entry.unix_mode().unwrap_or(0o644), size: entry.size() })
}

fn put_file(
    archive: &mut ZipArchive<BufReader<File>>,
    index: usize,
    name: EntryName,
    about: &About,
    tree: &mut Tree,
) -> Result<(), UnpackError> {
    let damaged = |error: io::Error| UnpackError::damaged(format_args!("{:?}: {error}", about.shown));
    let mut entry = archive.by_index(index).map_err(UnpackError::damaged)?;
    let written = tree.file(name, about.mode & 0o111 != 0, &mut entry, &damaged)?;
    match written == about.size {
        true => Ok(()),
        false => Err(UnpackError::damaged(format_args!("{:?} has {written}/{} bytes", about.shown, about.size))),
    }
}

fn read_target(archive: &mut ZipArchive<BufReader<File>>, index: usize, about: &About) -> Result<Vec<u8>, UnpackError> {
    let mut target = Vec::new();
    let entry = archive.by_index(index).map_err(UnpackError::damaged)?;
    let read = entry.take(LONGEST_TARGET).read_to_end(&mut target);
    read.map_err(|error| UnpackError::damaged(format_args!("{:?}: {error}", about.shown)))?;
    Ok(target)
}

fn forbidden(shown: &str, rule: &str) -> UnpackError {
    UnpackError::new(Code::EntryForbidden, format!("could not accept {shown:?}: {rule}"))
}
