//! Fixes that a distribution backported into an old version: only the package's version shows them.

use std::process::{Command, Stdio};

/// The first package of Caddy with the fixes of the known vulnerabilities (CVE-2026-27585, CVE-2026-27587 to 27590 and
/// related), by Caddy's upstream version. This list is the only place.
const MENDED: [(&str, &str); 1] = [("2.6.2", "2.6.2-12+deb13u1")];

/// Returns the version of Caddy's package if it has fixes that its upstream version lacks.
pub fn mended_caddy() -> Option<String> {
    let query = ["--show", "--showformat=${Version}", "caddy"];
    let found = Command::new("/usr/bin/dpkg-query").args(query).env_clear().stdin(Stdio::null()).output().ok()?;
    let package = String::from_utf8(found.stdout).ok().filter(|_| found.status.success())?;
    is_mended(&package, is_at_least).then_some(package)
}

fn is_mended(package: &str, is_at_least: impl Fn(&str, &str) -> bool) -> bool {
    let upstream = package.split_once('-').map_or(package, |(upstream, _)| upstream);
    MENDED.iter().any(|(version, first)| *version == upstream && is_at_least(package, first))
}

/// Version order is dpkg's.
fn is_at_least(package: &str, other: &str) -> bool {
    let compare = ["--compare-versions", package, "ge", other];
    let status =
        Command::new("/usr/bin/dpkg").args(compare).env_clear().stdin(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_counts_for_the_version_that_it_mends() {
        let newer = |_: &str, _: &str| true;
        assert!(is_mended("2.6.2-12+deb13u1", newer));
        assert!(!is_mended("2.6.2-5", |_, _| false));
        assert!(!is_mended("2.6.3-1", newer), "another version");
        assert!(!is_mended("", newer));
    }
}
