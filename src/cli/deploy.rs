//! Deploys a local file or directory: packs it if needed, uploads it, and moves the project to it.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256 as Hasher};

use super::client::{Ask, Upload};
use super::failure::Failure;
use super::show::size;
use super::text::clean;
use super::{Session, finish, generation_in, waits};
use crate::model::expected::Expected;
use crate::model::names::{ProjectId, Sha256};
use crate::model::quantity::Span;
use crate::model::spec::{Label, Spec};
use crate::unpack::contents::{self, Place};

/// Deploys a path; waits for the end if requested.
///
/// # Errors
/// It cannot be read or sent, the project belongs to another owner, or it did not become Ready.
pub fn deploy(
    session: &Session,
    project: &ProjectId,
    path: &Path,
    version: Option<&Label>,
    at_most: Option<Span>,
) -> Result<(), Failure> {
    // Checked before anything is packed or sent for nothing.
    let spec = check_movable(session, project)?;
    if path.is_dir() {
        check_contents(path, spec)?;
    }
    let (file, bytes, sha256) = artifact(path)?;
    let content = Box::new(Shown::new(file, project, bytes));
    let sent = session.client.upload("/v1/artifacts", Upload { content, bytes, sha256: sha256.clone() });
    let stored = sent.map_err(with_hint)?;
    if stored.get("sha256").and_then(Value::as_str) != Some(sha256.as_str()) {
        return Err(Failure::new("could not upload the artifact: the agent got other bytes than were sent"));
    }
    let body = json!({ "file": sha256, "version": version });
    let mut answer = session.client.value(&Ask::json("PUT", format!("/v1/projects/{project}/artifact"), &body))?;
    let generation = generation_in(&answer)?;
    let unchanged = answer.get("changed").and_then(Value::as_bool) == Some(false);
    let people = format!(
        "{project}  generation {generation}  {}, sha256 {:.12}{}{}",
        size(bytes),
        sha256.as_str(),
        if unchanged { "  unchanged" } else { "" },
        waits(&answer)
    );
    answer["sha256"] = json!(sha256);
    answer["bytes"] = json!(bytes);
    session.done(&answer, &people)?;
    finish(session, project, generation, at_most)
}

/// Says where the limit of an upload is set.
fn with_hint(refused: Failure) -> Failure {
    if !refused.message.contains("413 too_large") {
        return refused;
    }
    let hint = "`artifacts: { max_bytes: … }` in the server's /etc/zexio/agent.yaml sets how much is taken";
    Failure { message: format!("{}\nhint: {hint}", refused.message), ..refused }
}

/// Says what the server would: the files that the project's processes name and the directory lacks.
fn check_contents(path: &Path, spec: Value) -> Result<(), Failure> {
    // A spec that this version cannot read is left to the agent to judge.
    let Ok(spec) = serde_json::from_value::<Spec>(spec) else { return Ok(()) };
    match contents::lacks(path, &Expected::of_spec(&spec), &Place::Elsewhere) {
        Some(why) => Err(Failure::new(format!("could not deploy {}: {why}", path.display()))),
        None => Ok(()),
    }
}

/// Asks whether the artifact may be moved by this client, and returns the project's spec. The agent checks again when
/// it is moved.
fn check_movable(session: &Session, project: &ProjectId) -> Result<Value, Failure> {
    let answer = session.client.send(&Ask::get(format!("/v1/projects/{project}")))?;
    if answer.status == 404 {
        let how = "a spec with its processes and routes comes first: `zexio apply -f FILE`";
        return Err(Failure::new(format!("there is no project {project}; {how}")));
    }
    let mut view = answer.value()?;
    refused(project, &view).map_or(Ok(view["spec"].take()), |why| Err(Failure::new(why)))
}

fn refused(project: &ProjectId, view: &Value) -> Option<String> {
    let owner = view.get("owner").and_then(Value::as_str).unwrap_or_default();
    let updates = view.pointer("/spec/artifact/updates").and_then(Value::as_str);
    let file = owner.strip_prefix("file:").filter(|_| updates != Some("webhook"))?;
    Some(format!(
        "{project} belongs to the file {} on the server, and only that moves its artifact; \
         name the artifact there, or write `updates: webhook` under its `artifact:` to let deploys move it",
        clean(file)
    ))
}

/// Opens what to send: a file as it is, a directory packed into an unnamed temporary file. Returns its length and hash.
fn artifact(path: &Path) -> Result<(File, u64, Sha256), Failure> {
    let failed = |e: io::Error| Failure::new(format!("could not read {}: {e}", path.display()));
    let mut file = match std::fs::metadata(path).map_err(failed)? {
        found if found.is_dir() => packed(path)?,
        found if found.is_file() => File::open(path).map_err(failed)?,
        _ => return Err(failed(io::Error::other("it is neither a file nor a directory"))),
    };
    match hash(&mut file).map_err(failed)? {
        (0, _) => Err(failed(io::Error::other("it is empty"))),
        (bytes, sha256) => Ok((file, bytes, sha256)),
    }
}

/// Reads a file from its beginning, and rewinds it.
fn hash(file: &mut File) -> io::Result<(u64, Sha256)> {
    let (mut hasher, mut piece, mut bytes) = (Hasher::new(), vec![0; 256 << 10], 0);
    file.rewind()?;
    loop {
        match file.read(&mut piece)? {
            0 => break,
            got => {
                hasher.update(&piece[..got]);
                bytes += got as u64;
            }
        }
    }
    file.rewind()?;
    Ok((bytes, Sha256::of_digest(hasher.finalize().into())))
}

fn packed(directory: &Path) -> Result<File, Failure> {
    let temporary = std::env::temp_dir();
    let file = tempfile::tempfile_in(&temporary).map_err(|e| {
        Failure::new(format!("could not make a file in {}: {e}; TMPDIR can name another place", temporary.display()))
    })?;
    let mut into = io::BufWriter::new(file);
    super::pack::pack(directory, &mut into)?;
    into.into_inner().map_err(|e| super::pack::could_not(directory, e.error()))
}

/// A body that shows on the terminal how much of it was sent.
struct Shown<R> {
    from: R,
    project: ProjectId,
    bytes: u64,
    went: u64,
    told: Option<Instant>,
    live: bool,
}

impl<R> Shown<R> {
    fn new(from: R, project: &ProjectId, bytes: u64) -> Self {
        let live = io::stderr().is_terminal();
        Self { from, project: project.clone(), bytes, went: 0, told: None, live }
    }

    fn tell(&mut self) {
        let done = self.went >= self.bytes;
        if !self.live || (!done && self.told.is_some_and(|told| told.elapsed() < Duration::from_millis(100))) {
            return;
        }
        self.told = Some(Instant::now());
        let line = if done { String::new() } else { bar(&self.project, self.went, self.bytes) };
        // Progress is optional: a closed stderr stops nothing.
        let mut err = io::stderr().lock();
        let _ = write!(err, "\r\x1b[K{line}").and_then(|()| err.flush());
    }
}

impl<R: Read> Read for Shown<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = self.from.read(into)?;
        self.went += got as u64;
        self.tell();
        Ok(got)
    }
}

impl<R> Drop for Shown<R> {
    fn drop(&mut self) {
        if self.live && self.went < self.bytes {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

const WIDTH: u64 = 24;

fn bar(project: &ProjectId, went: u64, of: u64) -> String {
    let part =
        |whole: u64| u64::try_from(u128::from(went) * u128::from(whole) / u128::from(of.max(1))).unwrap_or(whole);
    let full = "=".repeat(usize::try_from(part(WIDTH)).unwrap_or(0));
    let width = usize::try_from(WIDTH).unwrap_or(0);
    format!("{project}  uploading [{full:<width$}] {:>3} %  {} of {}", part(100), size(went), size(of))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> ProjectId {
        ProjectId::parse("shop").unwrap()
    }

    #[test]
    fn only_a_file_that_keeps_its_artifact_to_itself_stands_in_the_way() {
        let view = |owner: &str, updates: &str| json!({"owner": owner, "spec": {"artifact": {"updates": updates}}});
        assert_eq!(refused(&shop(), &view("api", "fixed")), None);
        assert_eq!(refused(&shop(), &view("file:shop.yaml", "webhook")), None);
        let said = refused(&shop(), &view("file:shop.yaml", "fixed")).unwrap();
        assert!(said.contains("file shop.yaml") && said.contains("`updates: webhook`"), "{said}");
    }

    #[test]
    fn a_bar_is_as_long_as_what_went() {
        assert_eq!(bar(&shop(), 0, 2048), "shop  uploading [                        ]   0 %  0B of 2.0K");
        assert_eq!(bar(&shop(), 1024, 2048), "shop  uploading [============            ]  50 %  1.0K of 2.0K");
        assert_eq!(bar(&shop(), u64::MAX, u64::MAX).matches('=').count(), 24);
    }

    #[test]
    fn an_artifact_is_a_file_or_a_directory_with_something_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("app");
        std::fs::write(&file, "").unwrap();
        assert!(artifact(&file).unwrap_err().message.ends_with("it is empty"));
        std::fs::write(&file, "abc").unwrap();
        let (mut opened, bytes, sha256) = artifact(&file).unwrap();
        let mut read = Vec::new();
        opened.read_to_end(&mut read).unwrap();
        assert_eq!((read.as_slice(), bytes, sha256), (&b"abc"[..], 3, crate::sign::digest(b"abc")));
        let (mut opened, bytes, sha256) = artifact(dir.path()).unwrap();
        read.clear();
        opened.read_to_end(&mut read).unwrap();
        assert_eq!((read.len() as u64, sha256), (bytes, crate::sign::digest(&read)));
        assert!(artifact(&dir.path().join("nothing")).unwrap_err().message.starts_with("could not read "));
        assert!(artifact(Path::new("/dev/null")).unwrap_err().message.ends_with("neither a file nor a directory"));
    }
}
