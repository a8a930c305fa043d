//! What a unit's launcher gets: directory, command, variables. It travels as a blob, sealed on disk and
//! opened by a root step of this unit's start.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::model::desired::{Content, SecretVersion, Workload};
use crate::model::layout::Layout;
use crate::model::names::{EnvName, UnitId};
use crate::model::spec::Sealed;

/// The only variable of the agent's that a spec may set; `$PATH` in it stands for the agent's value.
const PATH: &str = "PATH";
const HEAD: &str = "zexio-launch-1";

/// What a launcher gets, with the sealed values still by name and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The working directory.
    pub directory: String,
    pub words: Vec<String>,
    /// Variables that the agent sets.
    pub own: BTreeMap<String, String>,
    /// The spec's variables.
    pub env: BTreeMap<EnvName, Sealed>,
    /// The spec's secrets.
    pub secrets: BTreeMap<EnvName, SecretVersion>,
}

impl Launch {
    /// Returns what the launcher of one process gets.
    pub fn of(unit: &UnitId, workload: &Workload, content: &Content, port: Option<u16>, layout: &Layout) -> Self {
        let data = layout.data(&unit.project).display().to_string();
        let mut own: BTreeMap<String, String> = [
            ("HOST", "127.0.0.1".to_owned()),
            ("DATA_DIR", data.clone()),
            ("HOME", data),
            (PATH, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("ZEXIO_PROJECT", unit.project.to_string()),
            ("ZEXIO_PROCESS", unit.process.to_string()),
            ("ZEXIO_RELEASE", unit.release.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        own.extend(port.map(|port| ("PORT".to_owned(), port.to_string())));
        Self {
            directory: layout.release(&unit.project, unit.release).display().to_string(),
            words: workload.run.as_ref().map(|run| run.filled_in(&own)).unwrap_or_default(),
            own,
            env: content.env.clone(),
            secrets: content.secrets.clone(),
        }
    }

    /// Returns the blob: NUL-separated, since neither a word nor a variable can hold a NUL.
    pub fn blob(&self, opened: &BTreeMap<EnvName, Zeroizing<String>>) -> Zeroizing<Vec<u8>> {
        let mut blob = Zeroizing::new(Vec::with_capacity(4096));
        let mut put = |parts: &[&str]| {
            parts.iter().for_each(|part| blob.extend_from_slice(part.as_bytes()));
            blob.push(0);
        };
        put(&[HEAD]);
        put(&[&self.directory]);
        put(&[&self.words.len().to_string()]);
        self.words.iter().for_each(|word| put(&[word]));
        let base = self.own.get(PATH).map_or("", String::as_str);
        for (name, value) in opened {
            match name.as_str() {
                PATH => put(&[PATH, "=", &Zeroizing::new(value.replace("${PATH}", base).replace("$PATH", base))]),
                name => put(&[name, "=", value]),
            }
        }
        // The agent's own come last and so win if a name is in both; only PATH is the spec's, if set.
        let has_path = opened.keys().any(|name| name.as_str() == PATH);
        let own = self.own.iter().filter(|(name, _)| *name != PATH || !has_path);
        own.for_each(|(name, value)| put(&[name, "=", value]));
        blob
    }
}

/// What a blob holds: where and how to run the command.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// The working directory.
    pub directory: &'a str,
    pub words: Vec<&'a str>,
    pub variables: Vec<(&'a str, &'a str)>,
}

/// Reads a blob.
///
/// # Errors
/// It is not a blob; the error never shows its content.
pub fn open(blob: &[u8]) -> Result<Opened<'_>, &'static str> {
    let text = std::str::from_utf8(blob).map_err(|_| "the launch blob is not UTF-8")?;
    let mut parts = text.strip_suffix('\0').ok_or("the launch blob is cut off")?.split('\0');
    let damaged = "the launch blob is damaged";
    if parts.next() != Some(HEAD) {
        return Err("the launch blob is of another version");
    }
    let directory = parts.next().ok_or(damaged)?;
    let count: usize = parts.next().and_then(|count| count.parse().ok()).ok_or(damaged)?;
    let words: Vec<&str> = parts.by_ref().take(count).collect();
    if words.len() != count || count == 0 {
        return Err(damaged);
    }
    let variables = parts.map(|pair| pair.split_once('=').ok_or(damaged)).collect::<Result<_, _>>()?;
    Ok(Opened { directory, words, variables })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_spec_holds_reaches_the_app_byte_for_byte() {
        let hostile = "a\nUser=root\r%m $HOME `x` \\ \"' \u{1b}[2J é =";
        let launch = Launch {
            directory: "/zexio/apps/shop/releases/7".into(),
            words: vec!["./shop".into(), hostile.into(), String::new()],
            own: [("PORT".to_owned(), "21003".to_owned())].into(),
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
        };
        let opened = [(EnvName::parse("KEY").unwrap(), Zeroizing::new(hostile.to_owned()))].into();
        let blob = launch.blob(&opened);
        let read = open(&blob).unwrap();
        assert_eq!(read.words, ["./shop", hostile, ""]);
        assert_eq!(read.variables, [("KEY", hostile), ("PORT", "21003")]);
    }

    #[test]
    fn a_path_of_the_specs_own_is_added_to_the_usual_one_or_takes_its_place() {
        let launch = Launch {
            directory: "/d".into(),
            words: vec!["app".into()],
            own: [("PATH".to_owned(), "/usr/bin:/bin".to_owned()), ("PORT".to_owned(), "1".to_owned())].into(),
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
        };
        let path = |value: Option<&str>| {
            let spec = value.map(|value| (EnvName::parse("PATH").unwrap(), Zeroizing::new(value.to_owned())));
            let blob = launch.blob(&spec.into_iter().collect());
            let read = open(&blob).unwrap();
            let found: Vec<&str> =
                read.variables.iter().filter(|(name, _)| *name == "PATH").map(|(_, value)| *value).collect();
            found.join(" and ")
        };
        assert_eq!(path(None), "/usr/bin:/bin");
        assert_eq!(path(Some("./bin:$PATH")), "./bin:/usr/bin:/bin");
        assert_eq!(path(Some("${PATH}:/opt/$HOME")), "/usr/bin:/bin:/opt/$HOME");
        assert_eq!(path(Some("/opt/bin")), "/opt/bin");
    }

    #[test]
    fn a_damaged_blob_is_refused() {
        for blob in [
            &b""[..],
            b"x\0",
            b"zexio-launch-1\0/d\0",
            b"zexio-launch-1\0/d\x002\0a\0",
            b"zexio-launch-1\0/d\x001\0a\0noequals\0",
        ] {
            assert!(open(blob).is_err(), "{blob:?}");
        }
    }
}
