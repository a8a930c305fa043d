//! System users: one per project, and one for the helper that unpacks. Created and removed by the distribution's own
//! programs, with fixed arguments.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{Gid, Uid, User};

use crate::model::layout::USER_PREFIX;
use crate::model::names::ProjectId;
use crate::model::reason::Reason;
use crate::port::PortError;

/// The user that unpacks artifacts: it owns nothing and has no privileges.
pub const UNPACKER: &str = "zexio-unpack";

/// Creates the user that unpacks artifacts, unless it exists.
pub fn make_unpacker() -> Result<(Uid, Gid), PortError> {
    make(UNPACKER, Path::new("/nonexistent"))
}

/// Returns a user's ids, if it exists.
pub fn find(name: &str) -> Result<Option<(Uid, Gid)>, PortError> {
    let found = User::from_name(name)
        .map_err(|e| PortError::transient(Reason::UserFailed, format!("could not look up user {name}: {e}")))?;
    Ok(found.map(|user| (user.uid, user.gid)))
}

/// Returns the project whose user this is, if any.
pub fn project_of(uid: u32) -> Option<ProjectId> {
    let user = User::from_uid(Uid::from_raw(uid)).ok()??;
    user.name.strip_prefix(USER_PREFIX)?.parse().ok()
}

/// Creates a system user that cannot log in, unless it exists.
pub fn make(name: &str, home: &Path) -> Result<(Uid, Gid), PortError> {
    if let Some(ids) = find(name)? {
        return Ok(ids);
    }
    let home = home.to_string_lossy();
    let fixed =
        ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", "--home-dir", &home, name];
    run("/usr/sbin/useradd", &fixed, &format!("make user {name}"))?;
    find(name)?.ok_or_else(|| {
        PortError::transient(Reason::UserFailed, format!("could not make user {name}: it is not there afterwards"))
    })
}

/// Removes a user, if it exists.
pub fn remove(name: &str) -> Result<(), PortError> {
    if find(name)?.is_none() { Ok(()) } else { run("/usr/sbin/userdel", &[name], &format!("remove user {name}")) }
}

fn run(program: &str, args: &[&str], what: &str) -> Result<(), PortError> {
    let failed = |cause: String| PortError::transient(Reason::UserFailed, format!("could not {what}: {cause}"));
    let output = Command::new(program)
        .args(args)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|e| failed(format!("{program}: {e}")))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}
