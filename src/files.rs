//! Small files, written so that a crash leaves the old one or the new one, never a part. Whoever writes a key, a unit
//! or a marker does it with these; what an error means to an operator is the caller's to say.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Replaces a file as one step: written beside it, synced, renamed over it, the directory synced.
///
/// # Errors
/// What the disk said; then the old one is as it was.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let part = beside(path, "part")?;
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&part)?;
    let written = fill(file, bytes, mode).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written.and_then(|()| sync_parent(path))
}

/// Replaces a file as one step, as `replace` does, with the owner and the mode of another one.
///
/// # Errors
/// What the disk said; then the old one is as it was.
pub fn replace_like(path: &Path, bytes: &[u8], like: &fs::Metadata) -> io::Result<()> {
    let part = beside(path, "part")?;
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    let written = fchown(&file, Some(like.uid()), Some(like.gid()))
        .and_then(|()| fill(file, bytes, like.mode() & 0o7777))
        .and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written.and_then(|()| sync_parent(path))
}

/// Lets a file appear whole, and only where there is none: a link fails where a rename would replace.
///
/// # Errors
/// `AlreadyExists`, or what the disk said; then nothing of it is there.
pub fn publish(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // Of this process alone: another one that makes the same file must not write into this one's draft.
    let draft = beside(path, &format!("draft-{}", std::process::id()))?;
    remove(&draft)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
    let linked = fill(file, bytes, mode).and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    linked.and_then(|()| sync_parent(path))
}

/// Removes a file or link; tells whether it was there. Its directory is the caller's to sync.
///
/// # Errors
/// What the disk said.
pub fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Puts a directory's entries on disk.
///
/// # Errors
/// What the disk said.
pub fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Puts the entries of a path's directory on disk.
///
/// # Errors
/// What the disk said.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync)
}

/// The dot keeps it out of whatever reads the directory by name.
fn beside(path: &Path, ending: &str) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    Ok(path.with_file_name(format!(".{}.{ending}", name.to_string_lossy())))
}

fn fill(mut file: File, bytes: &[u8], mode: u32) -> io::Result<()> {
    // The mode again: the umask took bits from it, and a left-over part may have another.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_has_the_new_bytes_and_mode_and_nothing_is_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("unit");
        fs::write(dir.path().join(".unit.part"), "left over from a crash, and longer than what comes").unwrap();
        replace(&path, b"old", 0o600).unwrap();
        replace(&path, b"new", 0o644).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_replaces_anothers_is_as_closed_as_that() {
        let dir = tempfile::tempdir().unwrap();
        let (like, path) = (dir.path().join("like"), dir.path().join("new"));
        replace(&like, b"secret", 0o640).unwrap();
        replace_like(&path, b"secret too", &fs::metadata(&like).unwrap()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::read(&path).unwrap(), b"secret too");
    }

    #[test]
    fn a_published_file_never_replaces_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        publish(&path, b"first", 0o600).unwrap();
        assert_eq!(publish(&path, b"second", 0o600).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
        assert!(remove(&path).unwrap() && !remove(&path).unwrap());
    }
}
