//! Seals launch blobs as systemd credentials: only this machine's PID 1 can open them, only for the unit they are named
//! for. Done by `systemd-creds`: systemd 252 has no D-Bus call for it.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use crate::model::reason::Reason;
use crate::port::PortError;

const PROGRAM: &str = "/usr/bin/systemd-creds";

/// A running sealing process, so that the caller can work in parallel.
pub struct Sealing {
    name: String,
    child: Child,
    written: std::io::Result<()>,
}

impl Sealing {
    /// Starts to seal a blob under a credential's name.
    pub fn begin(name: &str, blob: &[u8]) -> Result<Self, PortError> {
        let mut child = Command::new(PROGRAM)
            .args(["encrypt", &format!("--name={name}"), "-", "-"])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| failed(name, &format!("could not run {PROGRAM}: {e}")))?;
        // It reads all of its input before it writes, so writing first cannot deadlock.
        let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(blob));
        Ok(Self { name: name.to_owned(), child, written })
    }

    /// Waits for the sealed blob.
    ///
    /// # Errors
    /// systemd-creds failed; its message is shown, never the blob.
    pub fn end(self) -> Result<Vec<u8>, PortError> {
        let output = self.child.wait_with_output().map_err(|e| failed(&self.name, &e.to_string()))?;
        match (self.written, output.status.success() && !output.stdout.is_empty()) {
            (Ok(()), true) => Ok(output.stdout),
            (Err(error), true) => Err(failed(&self.name, &error.to_string())),
            (_, false) => Err(failed(&self.name, String::from_utf8_lossy(&output.stderr).trim())),
        }
    }
}

fn failed(name: &str, cause: &str) -> PortError {
    PortError::transient(Reason::CredentialFailed, format!("could not seal the launch blob of {name}: {cause}"))
}
