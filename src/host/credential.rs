//! Seals launch blobs as systemd credentials: only PID 1 of this machine opens them, only for the unit they are named
//! for. `systemd-creds` does it; systemd 252 has no call for it.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::port::PortError;

const PROGRAM: &str = "/usr/bin/systemd-creds";

/// Seals a blob under a credential's name.
///
/// # Errors
/// Says what the program said; never shows the blob.
pub fn seal(name: &str, blob: &[u8]) -> Result<Vec<u8>, PortError> {
    let failed = |cause: String| {
        PortError::passing("CredentialFailed", format!("could not seal the launch blob of {name}: {cause}"))
    };
    let mut child = Command::new(PROGRAM)
        .args(["encrypt", &format!("--name={name}"), "-", "-"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed(format!("could not run {PROGRAM}: {e}")))?;
    // It reads all of its input before it writes, so writing first cannot lock up.
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(blob));
    let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
    match (written, output.status.success() && !output.stdout.is_empty()) {
        (Ok(()), true) => Ok(output.stdout),
        (Err(error), true) => Err(failed(error.to_string())),
        (_, false) => Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}
