//! Where everything is on disk. The only place that knows the form of a path.

use std::path::{Path, PathBuf};

use super::names::{ProcessName, ProjectId, ReleaseNo, UnitId};

/// Where unit files are written.
pub const UNIT_DIR: &str = "/etc/systemd/system";
/// Where sealed launch blobs are written.
pub const LAUNCH_DIR: &str = "/etc/zexio/cred";
/// The key that launch blobs are sealed with: not beside them, so that a copy of /etc does not open them.
pub const LAUNCH_KEY: &str = "/var/lib/zexio/launch.key";
/// The binary that units start.
pub const LAUNCHER: &str = "/usr/bin/zexio";

/// The directories with users' homes, which the sandbox hides from apps.
pub const HOMES: [&str; 3] = ["/root", "/home", "/run/user"];
/// What to do about a program in a home.
pub const HIDDEN_HOMES: &str = "apps cannot get at homes (/root, /home, /run/user): install it for all, as under /usr/local, or put it into the artifact";

/// Returns whether a path is within a home.
pub fn is_in_home(path: &Path) -> bool {
    HOMES.iter().any(|home| path.starts_with(home))
}

/// How many units may set up their sandbox at once, by the agent's order and without it.
pub const STARTS_AT_ONCE: usize = 8;

/// The slice that apps run in.
pub const SLICE: &str = "zexio-apps.slice";

/// The agent's directory and its layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Checks the root: absolute, and only characters without meaning to a unit file or a Caddyfile.
    ///
    /// # Errors
    /// The root is not such a path.
    pub fn parse(root: &str) -> Result<Self, String> {
        let plain = root.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b));
        let fits = plain
            && root.len() > 1
            && root.starts_with('/')
            && !root.ends_with('/')
            && !root.split('/').any(|part| part == "..");
        if fits { Ok(Self { root: root.into() }) } else { Err(format!("{root:?} is not an absolute path like /zexio")) }
    }

    /// Returns the directory that holds all others, usually `/zexio`.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// Returns the directories that all projects share, with their modes, parents first. Apps and Caddy reach their own
    /// files through them, and see no names on the way.
    pub fn shared(&self) -> [(PathBuf, u32); 7] {
        [
            (self.root.clone(), 0o711),
            (self.specs(), 0o755),
            (self.artifacts(), 0o750),
            (self.staging(), 0o711),
            (self.trash(), 0o700),
            (self.apps(), 0o711),
            (self.fronts(), 0o755),
        ]
    }
    /// Returns the path of the SQLite database.
    pub fn database(&self) -> PathBuf {
        self.root.join("zexio.db")
    }
    /// Returns the watched directory.
    pub fn specs(&self) -> PathBuf {
        self.root.join("specs")
    }
    /// Returns where artifacts are kept.
    pub fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }
    /// Returns where downloads and archives are prepared; wiped at start.
    pub fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }
    /// Returns where removed directories wait for deletion; wiped at start.
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }
    /// Returns the parent of all projects.
    pub fn apps(&self) -> PathBuf {
        self.root.join("apps")
    }
    /// Returns the directory of a project's data and releases.
    pub fn app(&self, project: &ProjectId) -> PathBuf {
        self.apps().join(project.as_str())
    }
    /// Returns the directory of a project's releases.
    pub fn releases(&self, project: &ProjectId) -> PathBuf {
        self.app(project).join("releases")
    }
    /// Returns the directory of one release.
    pub fn release(&self, project: &ProjectId, release: ReleaseNo) -> PathBuf {
        self.releases(project).join(release.to_string())
    }
    /// Returns the link to the serving release.
    pub fn bundle(&self, project: &ProjectId) -> PathBuf {
        self.app(project).join("bundle")
    }
    /// Returns the directory that the app may write.
    pub fn data(&self, project: &ProjectId) -> PathBuf {
        self.app(project).join("data")
    }
    /// Returns the parent of all markers.
    pub fn fronts(&self) -> PathBuf {
        self.root.join("fronts")
    }
    /// Returns the marker of a web process; it exists while slot b serves.
    pub fn marker(&self, project: &ProjectId, process: &ProcessName) -> PathBuf {
        self.fronts().join(project.as_str()).join(process.as_str())
    }
    /// Returns the path of a unit's file.
    pub fn unit_file(unit: &UnitId) -> PathBuf {
        Path::new(UNIT_DIR).join(unit.name())
    }
    /// Returns the file of a unit's timer.
    pub fn timer_file(unit: &UnitId) -> PathBuf {
        Path::new(UNIT_DIR).join(unit.timer())
    }
    /// Returns a unit's sealed launch blob.
    pub fn launch_blob(unit: &UnitId) -> PathBuf {
        Self::launch_blob_named(&unit.name())
    }
    /// Returns the sealed launch blob of an app's unit by its full name.
    pub fn launch_blob_named(unit: &str) -> PathBuf {
        Path::new(LAUNCH_DIR).join(format!("{unit}.cred"))
    }
    /// Returns a unit's cgroup, as systemd names it: a dash in a slice's name is a level of its path.
    pub fn cgroup(unit: &UnitId) -> String {
        Self::cgroup_named(&unit.name())
    }
    /// Returns the cgroup of an app's unit by its full name.
    pub fn cgroup_named(unit: &str) -> String {
        format!("/zexio.slice/{SLICE}/{unit}")
    }
    /// Returns the link in which systemd keeps the invocation id of a unit's run.
    pub fn invocation(unit: &UnitId) -> PathBuf {
        Path::new("/run/systemd/units").join(format!("invocation:{}", unit.name()))
    }
}

/// The prefix of the name of a project's system user.
pub const USER_PREFIX: &str = "zx-";

/// Returns the system user of a project.
pub fn user_of(project: &ProjectId) -> String {
    format!("{USER_PREFIX}{project}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_absolute_and_plain() {
        for raw in ["", "/", "zexio", "/zexio/", "/a/../b", "/a b", "/a%b", "/a\"b"] {
            assert!(Layout::parse(raw).is_err(), "{raw:?}");
        }
        assert_eq!(Layout::parse("/srv/zexio-1.0").unwrap().root(), Path::new("/srv/zexio-1.0"));
    }

    #[test]
    fn everything_stands_beneath_a_shared_directory_that_only_its_reader_may_list() {
        let layout = Layout::parse("/zexio").unwrap();
        let shared: Vec<String> =
            layout.shared().iter().map(|(path, mode)| format!("{mode:o} {}", path.display())).collect();
        assert_eq!(
            shared,
            [
                "711 /zexio",
                "755 /zexio/specs",
                "750 /zexio/artifacts",
                "711 /zexio/staging",
                "700 /zexio/trash",
                "711 /zexio/apps",
                "755 /zexio/fronts",
            ]
        );
        let (shop, web) = (ProjectId::parse("shop").unwrap(), ProcessName::parse("web").unwrap());
        let unit = UnitId { project: shop.clone(), process: web.clone(), release: ReleaseNo(3), instance: None };
        let paths = [
            layout.database(),
            layout.release(&shop, ReleaseNo(3)),
            layout.bundle(&shop),
            layout.data(&shop),
            layout.marker(&shop, &web),
            Layout::unit_file(&unit),
            Layout::timer_file(&unit),
            Layout::launch_blob(&unit),
            Layout::invocation(&unit),
        ];
        let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        assert_eq!(
            paths,
            [
                "/zexio/zexio.db",
                "/zexio/apps/shop/releases/3",
                "/zexio/apps/shop/bundle",
                "/zexio/apps/shop/data",
                "/zexio/fronts/shop/web",
                "/etc/systemd/system/zexio-shop-web-r3.service",
                "/etc/systemd/system/zexio-shop-web-r3.timer",
                "/etc/zexio/cred/zexio-shop-web-r3.service.cred",
                "/run/systemd/units/invocation:zexio-shop-web-r3.service",
            ]
        );
        assert_eq!(Layout::cgroup(&unit), "/zexio.slice/zexio-apps.slice/zexio-shop-web-r3.service");
    }
}
