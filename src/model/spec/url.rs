//! The URL of an artifact: which ones are accepted, and what to write instead of what is none.

use std::fmt;

use url::Url;

use crate::model::names::ArtifactName;

/// The longest URL, in characters.
pub(super) const LONGEST_URL: usize = 4096;

/// What replaces the query of a URL that is shown: the query of a presigned URL is a key to the artifact.
const HIDDEN_QUERY: &str = "?…";

/// Returns a URL as it may be shown.
pub fn hide_query(url: &str) -> String {
    match url.split_once('?') {
        Some((address, _)) => format!("{address}{HIDDEN_QUERY}"),
        None => url.to_owned(),
    }
}

/// Returns whether a URL is in its shown form, which stands for the stored one.
pub fn has_hidden_query(url: &str) -> bool {
    url.ends_with(HIDDEN_QUERY)
}

/// Why a text is not accepted as a URL. It quotes no URL, which may hold a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadUrl {
    /// The broken rule.
    pub rule: &'static str,
    /// What to write instead, if that is known.
    pub instead: Option<String>,
}

impl BadUrl {
    /// Says what to write instead, at least by an example.
    pub fn or_like(&self, example: &str) -> String {
        match self.instead {
            Some(_) => self.to_string(),
            None => format!("{}; one looks like {example}", self.rule),
        }
    }
}

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rule)?;
        self.instead.as_ref().map_or(Ok(()), |instead| write!(f, "; {instead}"))
    }
}

/// Parses an artifact's URL, if every other parser would read it the same way.
///
/// # Errors
/// The URL is wrong; the message does not quote it, since it may hold a key.
pub fn parse_url(raw: &str) -> Result<Url, BadUrl> {
    let bad = |rule: &'static str, instead: Option<String>| Err(BadUrl { rule, instead });
    if raw.len() > LONGEST_URL {
        return bad("it has more than 4096 characters", None);
    }
    if let Some(path) = path_of(raw) {
        let rule = if has_scheme(raw, "file") { "its scheme is not https" } else { "it is not a URL" };
        return bad(rule, Some(file_on_disk(path)));
    }
    // The parser drops tabs and newlines, trims spaces and turns \ into /: the result would not be what was written.
    if raw.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return bad("it holds a space, a backslash or a control character", None);
    }
    // Stored in its shown form, it would replace the URL that works.
    if raw.contains(HIDDEN_QUERY) {
        return bad("this is a URL as zexio shows it, its query hidden; write the URL itself", None);
    }
    let parsed = Url::parse(raw);
    let is_web = parsed.as_ref().is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    let Some(url) = parsed.ok().filter(|_| is_web) else {
        let rule =
            if raw.contains("://") && !is_web_scheme(raw) { "its scheme is not https" } else { "it is not a URL" };
        return bad(rule, other_kind(raw));
    };
    if !url.username().is_empty() || url.password().is_some() {
        return bad(
            "it holds user info",
            Some(format!("use a URL that needs no login, such as a presigned one, or {UPLOAD}")),
        );
    }
    match url.fragment() {
        Some(_) => bad("it holds a fragment, which no server sees", Some("leave out # and what follows it".to_owned())),
        None => Ok(url),
    }
}

const UPLOAD: &str = "upload the file with `zexio deploy PROJECT PATH`";
const ON_SERVER: &str = "copy the file into /zexio/artifacts and write artifact: { file: NAME }";

fn has_scheme(raw: &str, scheme: &str) -> bool {
    raw.split_once(':').is_some_and(|(written, _)| written.eq_ignore_ascii_case(scheme))
}

fn is_web_scheme(raw: &str) -> bool {
    has_scheme(raw, "http") || has_scheme(raw, "https")
}

/// Returns the path, if the text is one or a `file:` URL.
fn path_of(raw: &str) -> Option<&str> {
    if has_scheme(raw, "file") {
        let path = &raw["file:".len()..];
        return Some(path.strip_prefix("//localhost").or_else(|| path.strip_prefix("//")).unwrap_or(path));
    }
    let mut start = raw.chars();
    let drive = start.next().is_some_and(|c| c.is_ascii_alphabetic()) && start.next() == Some(':');
    let is_windows = drive && matches!(start.next(), Some('\\' | '/'));
    let is_path =
        raw.starts_with('/') && !raw.starts_with("//") || ["./", "../", "~/"].iter().any(|at| raw.starts_with(at));
    (is_path || is_windows).then_some(raw)
}

/// What to do with a file on a disk. Its path is quoted where it is a plain one.
fn file_on_disk(path: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._+-~".contains(c);
    let path = if path.len() <= 200 && !path.is_empty() && path.chars().all(is_plain) { path } else { "PATH" };
    let name =
        path.rsplit('/').next().filter(|name| *name != "PATH" && ArtifactName::parse(name).is_ok()).unwrap_or("NAME");
    format!(
        "of a file on this server, copy it into /zexio/artifacts and write artifact: {{ file: {name} }}; of one elsewhere, run \
         `zexio deploy PROJECT {path}` there"
    )
}

/// Says what to do instead with an address that is not of the web.
fn other_kind(raw: &str) -> Option<String> {
    const STORAGE: [&str; 18] = [
        "s3", "s3a", "s3n", "gs", "gcs", "az", "azure", "abfs", "abfss", "wasb", "wasbs", "r2", "b2", "oss", "cos",
        "obs", "minio", "swift",
    ];
    const TRANSFER: [&str; 12] =
        ["ftp", "ftps", "sftp", "scp", "rsync", "smb", "cifs", "nfs", "dav", "davs", "webdav", "tftp"];
    const IMAGE: [&str; 5] = ["docker", "oci", "docker-image", "docker-daemon", "containers-storage"];
    let scheme = raw.split_once(':').map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
    let is = |known: &[&str]| known.contains(&scheme.as_str());
    let after = raw.split_once(':').map_or("", |(_, after)| after);
    let is_repository = is(&["git", "ssh", "github", "gitlab", "bitbucket"])
        || scheme.starts_with("git+")
        || scheme.contains('@') && !after.is_empty() && !raw.contains("@sha256:");
    let without_scheme = scheme.is_empty() || scheme.contains(['.', '/']) || !raw.contains("://");
    let instead = if is(&STORAGE) {
        format!(
            "the agent has no login to a storage service: write a presigned https URL of the object (`aws s3 presign`, \
             `gcloud storage sign-url`), or {UPLOAD}"
        )
    } else if is(&TRANSFER) {
        format!("files are fetched over https alone: serve it there, {ON_SERVER}, or {UPLOAD}")
    } else if is_repository {
        format!(
            "an artifact is a built file and no repository: write the URL of a release's file, as \
             https://github.com/OWNER/REPO/releases/download/TAG/FILE, or build it and {UPLOAD}"
        )
    } else if is(&IMAGE) || without_scheme && names_an_image(raw) {
        format!(
            "zexio runs programs, not container images: take the files out of it (`docker create`, `docker cp`), pack them as \
             .tar.gz, and {UPLOAD}"
        )
    } else if without_scheme && parse_url(&format!("https://{}", raw.trim_start_matches('/'))).is_ok_and(is_on_the_web)
    {
        "write https:// before it".to_owned()
    } else {
        format!("write an https URL of the file, {ON_SERVER}, or {UPLOAD}")
    };
    Some(instead)
}

/// Returns whether a URL that was written without its scheme has a host and a path.
fn is_on_the_web(url: Url) -> bool {
    url.domain().is_some_and(|domain| domain.contains('.')) && url.path() != "/"
}

/// `ghcr.io/owner/app`, `node:22`, `owner/app@sha256:…`
fn names_an_image(raw: &str) -> bool {
    const REGISTRIES: [&str; 8] = [
        "docker.io",
        "index.docker.io",
        "ghcr.io",
        "quay.io",
        "gcr.io",
        "public.ecr.aws",
        "mcr.microsoft.com",
        "registry.k8s.io",
    ];
    const ZONES: [&str; 4] = [".gcr.io", ".pkg.dev", ".azurecr.io", ".amazonaws.com"];
    if raw.contains("@sha256:") {
        return true;
    }
    let (first, path) = raw.split_once('/').unwrap_or(("", raw));
    let is_registry =
        REGISTRIES.contains(&first) || first.starts_with("registry.") || ZONES.iter().any(|zone| first.ends_with(zone));
    let last = path.rsplit('/').next().unwrap_or_default();
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
    };
    let has_tag = last.split_once(':').is_some_and(|(name, tag)| is_name(name) && is_name(&tag.to_ascii_lowercase()));
    let is_host = first.is_empty() && last.split(':').next().is_some_and(|name| name.contains('.'));
    is_registry || has_tag && !is_host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_another_kind_is_told_what_to_write() {
        for (raw, says) in [
            ("https://u:p@a.com/x.tgz", "it holds user info; use a URL that needs no login, such as a presigned one"),
            ("file:///srv/x.tgz", "its scheme is not https; of a file on this server"),
            ("FILE:/srv/x.tgz", "write artifact: { file: x.tgz }"),
            ("/srv/artifacts/x.tgz", "it is not a URL; of a file on this server"),
            ("/srv/artifacts/x.tgz", "run `zexio deploy PROJECT /srv/artifacts/x.tgz`"),
            ("./dist/my app.tgz", "artifact: { file: NAME }"),
            ("~/x.tgz", "zexio deploy PROJECT ~/x.tgz"),
            ("C:\\build\\x.zip", "zexio deploy PROJECT PATH"),
            ("s3://bucket/x.tgz", "its scheme is not https; the agent has no login to a storage service"),
            ("gs://bucket/x.tgz", "presigned https URL"),
            ("ftp://a.com/x.tgz", "its scheme is not https; files are fetched over https alone"),
            ("sftp://a.com/x.tgz", "files are fetched over https alone"),
            ("git@github.com:owner/app.git", "a built file and no repository"),
            ("ssh://git@github.com/owner/app", "releases/download/TAG/FILE"),
            ("git+https://github.com/owner/app", "no repository"),
            ("github:owner/app", "no repository"),
            ("docker://nginx", "not container images"),
            ("nginx:1.25", "it is not a URL; zexio runs programs, not container images"),
            ("ghcr.io/owner/app", "not container images"),
            ("owner/app:latest", "not container images"),
            ("localhost:5000/app:1", "not container images"),
            ("registry.example.com/app:1.2", "not container images"),
            ("owner/app@sha256:abc", "not container images"),
            ("example.com/x.tgz", "it is not a URL; write https:// before it"),
            ("//example.com/x.tgz", "write https:// before it"),
            ("example.com:8443/x.tgz?key=SECRET", "write https:// before it"),
            ("x.tgz", "copy the file into /zexio/artifacts and write artifact: { file: NAME }"),
            ("owner/app", "write an https URL of the file"),
            ("npm:app@1", "write an https URL of the file"),
            ("", "write an https URL of the file"),
            ("https://", "write an https URL"),
            ("https://a.com/#x", "leave out #"),
        ] {
            let said = parse_url(raw).unwrap_err().to_string();
            assert!(said.contains(says) && !said.contains("SECRET"), "{raw}: {said}");
        }
    }
}
