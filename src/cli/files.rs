//! What a verb's argument names: a file, the documents of a directory, or standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::failure::Failure;

/// Returns the documents at a path: the file itself, or those of the directory.
///
/// # Errors
/// The directory cannot be read, or has none.
pub fn files_at(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if path.is_dir() { files_in(path) } else { Ok(vec![path.to_owned()]) }
}

fn files_in(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let fail = |e: std::io::Error| Failure::new(format!("could not read {}: {e}", dir.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let fits = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
        files.extend((fits && !hidden).then_some(path));
    }
    files.sort();
    if files.is_empty() {
        return Err(Failure::new(format!("there is no .yaml or .yml file in {}", dir.display())));
    }
    Ok(files)
}

/// Reads a file, or standard input for `-`.
///
/// # Errors
/// The file could not be read; the message names it and the cause.
pub fn read_input(path: &Path) -> Result<Vec<u8>, Failure> {
    let read = if path == Path::new("-") {
        let mut all = Vec::new();
        std::io::stdin().lock().read_to_end(&mut all).map(|_| all)
    } else {
        std::fs::read(path)
    };
    read.map_err(|e| Failure::new(format!("could not read {}: {e}", path.display())))
}
