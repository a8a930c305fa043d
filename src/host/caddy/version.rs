//! The version of the installed Caddy, and what follows from it.

use std::process::{Command, Stdio};

use super::PROGRAM;

/// Explains an outdated Caddy.
pub const OUTDATED: &str =
    "it works, but lacks fixes of known holes; Caddy 2.11.9 or newer comes from its own repository";

/// A Caddy version: the numbers that could be parsed; empty if Caddy could not be run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(Vec<u32>);

impl Version {
    /// Runs this machine's Caddy to get its version.
    pub fn installed() -> Self {
        let output = Command::new(PROGRAM).arg("version").env_clear().stdin(Stdio::null()).output();
        Self::parse(&output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default())
    }

    /// Whether the version could be read.
    pub fn is_known(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether it has what the agent needs: 2.6.2 and newer do.
    pub fn is_enough(&self) -> bool {
        self.0 >= vec![2, 6, 2]
    }

    fn parse(text: &str) -> Self {
        Self(
            text.trim_start_matches('v')
                .split(['.', ' ', '-', '\n'])
                .map_while(|part| part.parse().ok())
                .take(3)
                .collect(),
        )
    }

    /// Whether it can keep streams open across a change of routes: 2.7 and newer can. An older one cuts WebSockets when
    /// routes change; deploys change none.
    pub fn keeps_streams(&self) -> bool {
        self.0 >= vec![2, 7]
    }

    /// Whether its compression flushes each chunk of an answer at once: 2.11 and newer do. An older one buffers until
    /// it has enough.
    pub fn encode_flushes(&self) -> bool {
        self.0 >= vec![2, 11]
    }

    /// Whether it lacks fixes of known vulnerabilities (CVE-2026-27586 and related). It works all the same.
    pub fn is_outdated(&self) -> bool {
        self.0 < vec![2, 11, 9]
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.iter().map(u32::to_string).collect::<Vec<_>>().join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caddy_is_told_only_what_it_knows_and_an_old_one_is_named() {
        for (version, keeps, outdated) in [
            ("2.6.2\n", false, true),
            ("v2.7.0 h1:abc=\n", true, true),
            ("v2.11.7 h1:abc=\n", true, true),
            ("v2.11.9 h1:abc=\n", true, false),
            ("v3.0.0\n", true, false),
            ("(devel)\n", false, true),
            ("", false, true),
        ] {
            let read = Version::parse(version);
            assert_eq!(
                (read.is_known(), read.is_enough()),
                (version.starts_with(['v', '2']), version.starts_with(['v', '2']))
            );
            assert_eq!((read.keeps_streams(), read.is_outdated()), (keeps, outdated), "{version:?}");
        }
    }
}
