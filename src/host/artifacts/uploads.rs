//! Uploaded artifacts: written to staging, visible only once complete.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::files;
use crate::model::layout::Layout;
use crate::model::names::Sha256;
use crate::port::{PortError, Upload, Uploads};

use super::fetch;
use crate::host::disk_error;
use crate::model::reason::Reason;

/// Stores uploads on this server's disk.
pub struct DiskUploads {
    staging: PathBuf,
    artifacts: PathBuf,
    max_bytes: u64,
    count: AtomicU64,
}

impl DiskUploads {
    /// Stores uploads up to a size in bytes at the layout's paths.
    pub fn new(layout: &Layout, max_bytes: u64) -> Self {
        Self { staging: layout.staging(), artifacts: layout.artifacts(), max_bytes, count: AtomicU64::new(0) }
    }
}

impl Uploads for DiskUploads {
    fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    fn begin(&self, bytes: u64) -> Result<Box<dyn Upload>, PortError> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let path = self.staging.join(format!("upload-{}-{number}", std::process::id()));
        let made = fs::create_dir_all(&self.staging)
            .and_then(|()| fs::create_dir_all(&self.artifacts))
            .and_then(|()| OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path));
        let what = format!("begin an upload in {}", self.staging.display());
        let file = made.map_err(|e| disk_error(&what, &e))?;
        let upload = Box::new(DiskUpload { file, path, artifacts: self.artifacts.clone() });
        match fetch::room(&self.staging, bytes).map_err(|e| disk_error(&what, &e))? {
            Some(missing) => Err(PortError::transient(Reason::DiskFull, format!("could not {what}: {missing}"))),
            None => Ok(upload),
        }
    }
}

/// A file in staging; removed on drop unless it was moved away.
struct DiskUpload {
    file: File,
    path: PathBuf,
    artifacts: PathBuf,
}

impl Upload for DiskUpload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), PortError> {
        self.file.write_all(bytes).map_err(|e| disk_error("write an upload", &e))
    }

    fn keep(self: Box<Self>, sha256: &Sha256) -> Result<(), PortError> {
        let place = self.artifacts.join(sha256.as_str());
        let kept = self
            .file
            .sync_all()
            .and_then(|()| fs::rename(&self.path, &place))
            .and_then(|()| files::sync(&self.artifacts));
        kept.map_err(|e| disk_error(&format!("keep an upload as {}", place.display()), &e))
    }
}

impl Drop for DiskUpload {
    fn drop(&mut self) {
        // Already gone if it was kept; what cannot be removed goes when staging is wiped.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::digest;

    #[test]
    fn an_upload_is_seen_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::parse(dir.path().join("z").to_str().unwrap()).unwrap();
        let uploads = DiskUploads::new(&layout, 100);
        let mut dropped = uploads.begin(4).unwrap();
        dropped.write(b"half").unwrap();
        drop(dropped);
        let mut kept = uploads.begin(5).unwrap();
        kept.write(b"who").unwrap();
        kept.write(b"le").unwrap();
        assert_eq!(fs::read_dir(layout.artifacts()).unwrap().count(), 0);
        kept.keep(&digest(b"whole")).unwrap();
        assert_eq!(fs::read(layout.artifacts().join(digest(b"whole").as_str())).unwrap(), b"whole");
        assert_eq!(fs::read_dir(layout.staging()).unwrap().count(), 0);
    }

    #[test]
    fn an_upload_that_has_no_room_is_refused_before_it_comes() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::parse(dir.path().join("z").to_str().unwrap()).unwrap();
        let refused = DiskUploads::new(&layout, 100).begin(1 << 60).err().unwrap();
        assert!(refused.message.contains("disk full: need "), "{}", refused.message);
        assert_eq!(fs::read_dir(layout.staging()).unwrap().count(), 0);
    }
}
