//! Whatever an archive holds is unpacked within its limits or refused, and nothing of it lands outside its directory.

#![no_main]

use std::fs::File;
use std::io::Write;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use zexio::unpack::{Limits, unpack};

const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_entries: 64, max_ratio: 200, max_depth: 8 };

fuzz_target!(|archive: &[u8]| {
    let parent = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" }).expect("a directory");
    let into = parent.path().join("into");
    std::fs::create_dir(&into).expect("a directory");
    let mut artifact = tempfile::tempfile_in(parent.path()).expect("a file");
    artifact.write_all(archive).expect("the archive is written");
    let unpacked = unpack(artifact, &into, &LIMITS);
    assert_eq!(std::fs::read_dir(parent.path()).expect("it reads").count(), 1, "something lies beside the directory");
    if let Ok(unpacked) = unpacked {
        assert!(unpacked.entries <= LIMITS.max_entries && unpacked.bytes <= LIMITS.max_bytes, "{unpacked:?}");
        look(&into, &into);
    }
});

/// Whoever follows a link of an unpacked tree stays in it.
fn look(directory: &Path, root: &Path) {
    for entry in std::fs::read_dir(directory).expect("it reads").flatten() {
        let (path, kind) = (entry.path(), entry.file_type().expect("it has a kind"));
        assert!(kind.is_dir() || kind.is_file() || kind.is_symlink(), "{path:?} is something else");
        if kind.is_dir() {
            look(&path, root);
        } else if kind.is_symlink() {
            let target = std::fs::canonicalize(&path);
            assert!(target.as_ref().map_or(true, |target| target.starts_with(root)), "{path:?} leads to {target:?}");
        } else {
            File::open(&path).expect("a file opens");
        }
    }
}
