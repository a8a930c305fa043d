//! Reads a tar archive entry by entry.

use std::io::{self, Read};

use tar::{Archive, Entry, EntryType};

use super::budget::Meter;
use super::tree::{EntryName, Tree};
use super::{Code, UnpackError};

/// Puts every entry into the tree, and refuses trailing data.
pub(super) fn unpack(source: impl Read, meter: &Meter, tree: &mut Tree) -> Result<(), UnpackError> {
    // The first header was counted when the kind was detected.
    let mut archive = Archive::new(source);
    put_all(&mut archive, meter, tree)?;
    if meter.at_end() {
        return Err(UnpackError::damaged("it is truncated: the mark of its end is missing"));
    }
    meter.expect_content();
    only_zeros(archive.into_inner(), meter)
}

fn put_all(archive: &mut Archive<impl Read>, meter: &Meter, tree: &mut Tree) -> Result<(), UnpackError> {
    let mut entries = archive.entries().map_err(|error| meter.blame(error))?;
    loop {
        meter.expect_headers();
        let Some(entry) = entries.next() else { return Ok(()) };
        put(entry.map_err(|error| meter.blame(error))?, meter, tree)?;
    }
}

fn put(mut entry: Entry<'_, impl Read>, meter: &Meter, tree: &mut Tree) -> Result<(), UnpackError> {
    let kind = entry.header().entry_type();
    let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    check_extensions(&mut entry, &shown, meter)?;
    if kind == EntryType::XGlobalHeader {
        return Ok(());
    }
    let name = tree.name(&entry.path_bytes())?;
    if name.is_junk() {
        meter.expect_content();
        return io::copy(&mut entry, &mut io::sink()).map(drop).map_err(|error| meter.blame(error));
    }
    match kind {
        EntryType::Regular | EntryType::GNUSparse => put_file(entry, name, &shown, meter, tree),
        EntryType::Directory => no_content(&entry, &shown).and_then(|()| tree.dir(&name)),
        EntryType::Symlink => no_content(&entry, &shown).and_then(|()| tree.symlink(name, &target(&entry)?)),
        EntryType::Link => {
            no_content(&entry, &shown)?;
            let target = tree.path(&target(&entry)?)?;
            tree.hardlink(name, &target)
        }
        other => {
            let kind = char::from(other.as_byte());
            Err(forbidden(&shown, &format!("it is neither file, directory nor link (type {kind:?})")))
        }
    }
}

fn put_file(
    mut entry: Entry<'_, impl Read>,
    name: EntryName,
    shown: &str,
    meter: &Meter,
    tree: &mut Tree,
) -> Result<(), UnpackError> {
    // In old archives this means a directory, in newer ones a file: we do not guess.
    if shown.ends_with('/') {
        return Err(forbidden(shown, "a file's name may not end with /"));
    }
    let mode = entry.header().mode().map_err(UnpackError::damaged)?;
    let size = entry.size();
    meter.expect_content();
    let written = tree.file(name, mode & 0o111 != 0, &mut entry, &|error| meter.blame(error))?;
    match written == size || entry.header().entry_type() == EntryType::GNUSparse {
        true => Ok(()),
        false => Err(UnpackError::damaged(format_args!("{shown:?} is truncated: {written}/{size} bytes"))),
    }
}

/// Two readers that disagree about where an entry ends see two different archives.
fn no_content(entry: &Entry<'_, impl Read>, shown: &str) -> Result<(), UnpackError> {
    match entry.size() {
        0 => Ok(()),
        size => Err(forbidden(shown, &format!("it is not a file, yet has {size} bytes of content"))),
    }
}

fn target(entry: &Entry<'_, impl Read>) -> Result<Vec<u8>, UnpackError> {
    let target = entry.link_name_bytes().map(|target| target.into_owned());
    target.ok_or_else(|| UnpackError::damaged("a link has no target"))
}

/// Refuses the extensions that this reader would not apply and others would.
fn check_extensions(entry: &mut Entry<'_, impl Read>, shown: &str, meter: &Meter) -> Result<(), UnpackError> {
    let global = entry.header().entry_type() == EntryType::XGlobalHeader;
    let Some(extensions) = entry.pax_extensions().map_err(|error| meter.blame(error))? else { return Ok(()) };
    for extension in extensions {
        let extension = extension.map_err(|error| meter.blame(error))?;
        let key = String::from_utf8_lossy(extension.key_bytes()).into_owned();
        if key.starts_with("GNU.sparse") || (global && matches!(key.as_str(), "path" | "linkpath" | "size")) {
            return Err(forbidden(shown, &format!("its extension {key:?} is not supported")));
        }
    }
    Ok(())
}

fn forbidden(shown: &str, rule: &str) -> UnpackError {
    UnpackError::new(Code::EntryForbidden, format!("could not accept {shown:?}: {rule}"))
}

fn only_zeros(mut rest: impl Read, meter: &Meter) -> Result<(), UnpackError> {
    let mut chunk = vec![0; 64 << 10];
    loop {
        match rest.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) if chunk[..read].iter().all(|byte| *byte == 0) => {}
            Ok(_) => return Err(UnpackError::damaged("something follows its end")),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(meter.blame(error)),
        }
    }
}
