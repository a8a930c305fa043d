//! Launch blobs: sealed on disk with this server's key, opened by a root step of each unit's start, and handed to its
//! main process through systemd's file descriptor store.
//!
//! A systemd credential would do the same, with a mount for each unit that runs; every sandboxed start reads the table of
//! mounts again and again, so each start would take longer the more units there are (docs/decisions/0019).

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use nix::sys::memfd::{MFdFlags, memfd_create};
use sd_notify::NotifyState;
use zeroize::Zeroizing;

use crate::model::layout::{LAUNCH_DIR, LAUNCH_KEY};
use crate::model::reason::Reason;
use crate::port::PortError;

/// What a sealed blob begins with. Earlier versions kept a systemd credential under the same name.
const HEAD: &[u8] = b"zexio-launch 1\n";
const NONCE: usize = 12;
/// The name of the blob in the descriptor store of a unit.
const IN_STORE: &str = "launch";

/// The key that all launch blobs of this server are sealed with. It is not the master key: apps must start when that one
/// is lost, and what is sealed with this one can be written again from the database.
pub struct BlobKey(Aes256Gcm);

impl BlobKey {
    /// Reads the key. Without one it draws one, and removes all blobs: nothing opens them anymore, and the loop writes
    /// them again.
    pub fn provide() -> Result<Self, PortError> {
        let failed = |what: &str, e: &io::Error| super::disk_error(&format!("{what} {LAUNCH_KEY}"), e);
        super::disk::directory(Path::new(LAUNCH_DIR), 0o700)?;
        match Self::read(Path::new(LAUNCH_KEY)) {
            Ok(key) => return Ok(key),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed("read", &e)),
        }
        for entry in fs::read_dir(LAUNCH_DIR).map_err(|e| failed("make", &e))?.filter_map(Result::ok) {
            if is_sealed(&entry.path()) {
                super::disk::remove(&entry.path())?;
            }
        }
        let mut drawn = Zeroizing::new([0; 32]);
        getrandom::fill(drawn.as_mut_slice()).map_err(|e| failed("draw", &io::Error::other(e)))?;
        if let Some(directory) = Path::new(LAUNCH_KEY).parent() {
            super::disk::directory(directory, 0o700)?;
        }
        super::disk::replace(Path::new(LAUNCH_KEY), drawn.as_slice(), 0o600)?;
        Ok(Self::of(&drawn))
    }

    fn read(path: &Path) -> io::Result<Self> {
        let bytes = Zeroizing::new(fs::read(path)?);
        let key: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| {
            io::Error::other("it is damaged; remove it and restart zexio-agent, which draws another one")
        })?;
        Ok(Self::of(key))
    }

    fn of(key: &[u8; 32]) -> Self {
        Self(Aes256Gcm::new(key.into()))
    }

    /// Seals the blob of a unit. It opens for a unit of that name alone.
    pub fn seal(&self, unit: &str, blob: &[u8]) -> Result<Vec<u8>, PortError> {
        let failed = |cause: &str| {
            PortError::transient(Reason::CredentialFailed, format!("could not seal the launch blob of {unit}: {cause}"))
        };
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|e| failed(&e.to_string()))?;
        let sealed = self.0.encrypt(&nonce.into(), Payload { msg: blob, aad: &bound_to(unit) });
        Ok([HEAD, &nonce, &sealed.map_err(|_| failed("it is too large"))?].concat())
    }

    fn open(&self, unit: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, body) = sealed.strip_prefix(HEAD)?.split_at_checked(NONCE)?;
        let nonce: &[u8; NONCE] = nonce.try_into().ok()?;
        self.0.decrypt(nonce.into(), Payload { msg: body, aad: &bound_to(unit) }).ok().map(Zeroizing::new)
    }
}

/// Returns whether a file is a sealed blob.
pub fn is_sealed(path: &Path) -> bool {
    let mut head = [0; HEAD.len()];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok() && head == HEAD
}

fn bound_to(unit: &str) -> Vec<u8> {
    format!("zexio-launch\0v1\0{unit}").into_bytes()
}

/// Opens a unit's blob and puts it into the unit's descriptor store, as root and outside of its sandbox. Returns when
/// systemd has it.
///
/// # Errors
/// What failed; never a part of the blob.
pub fn hand_over(unit: &str, sealed: &Path) -> Result<(), String> {
    let key = BlobKey::read(Path::new(LAUNCH_KEY)).map_err(|e| format!("could not read {LAUNCH_KEY}: {e}"))?;
    let bytes = fs::read(sealed).map_err(|e| format!("could not read {}: {e}", sealed.display()))?;
    let blob = key.open(unit, &bytes).ok_or_else(|| {
        format!(
            "could not open {}: it is damaged or sealed for another unit; the agent writes it again when it is removed",
            sealed.display()
        )
    })?;
    put_in_store(&blob).map_err(|e| format!("could not hand the launch blob to systemd: {e}"))
}

fn put_in_store(blob: &[u8]) -> io::Result<()> {
    let mut file = fs::File::from(memfd_create(IN_STORE, MFdFlags::MFD_CLOEXEC)?);
    file.write_all(blob)?;
    // That of the run before.
    sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(IN_STORE)])?;
    sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(IN_STORE)], &[file.as_fd()])?;
    // systemd closes what comes with a barrier when it has handled all messages before it.
    let (mut rest, barrier) = io::pipe()?;
    sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[barrier.as_fd()])?;
    drop(barrier);
    rest.read_to_end(&mut Vec::new()).map(|_| ())
}

/// Reads the blob that was handed to this process. None if this unit was written by a version that used a credential.
///
/// # Errors
/// systemd handed over something else.
pub fn handed_over() -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    // Closed when the app replaces this process. It is opened by its path: the descriptor's own position is that of the
    // run before, and taking one by its number is not safe code.
    let Some(number) = sd_notify::listen_fds()?.next() else { return Ok(None) };
    let mut file = fs::File::open(format!("/proc/self/fd/{number}"))?;
    let mut blob = Zeroizing::new(Vec::with_capacity(usize::try_from(file.metadata()?.len()).unwrap_or_default()));
    file.read_to_end(&mut blob)?;
    Ok(Some(blob))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_opens_with_its_key_for_its_unit_and_unchanged_alone() {
        let key = BlobKey::of(&[7; 32]);
        let sealed = key.seal("zexio-shop-web-r1.service", b"blob").unwrap();
        let open = |key: &BlobKey, unit: &str, sealed: &[u8]| key.open(unit, sealed).map(|blob| blob.to_vec());
        assert_eq!(open(&key, "zexio-shop-web-r1.service", &sealed), Some(b"blob".to_vec()));
        assert_eq!(open(&key, "zexio-shop-web-r2.service", &sealed), None);
        assert_eq!(open(&BlobKey::of(&[8; 32]), "zexio-shop-web-r1.service", &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(open(&key, "zexio-shop-web-r1.service", &changed), None, "byte {at}");
            assert_eq!(open(&key, "zexio-shop-web-r1.service", &sealed[..at]), None, "cut at {at}");
        }
    }
}
