//! The command line's own documentation: shell completions, man pages.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use super::args::Args;
use super::failure::Failure;
use super::output::say;

/// Prints the completions for a shell.
///
/// # Errors
/// The output is closed.
pub fn completions(shell: Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "zexio", &mut text);
    say(&String::from_utf8_lossy(&text))
}

/// Writes a page for each verb into a directory: `zexio.1`, `zexio-apply.1`, `zexio-secret-set.1`.
///
/// # Errors
/// Names the file that could not be written.
pub fn man(directory: &Path) -> Result<(), Failure> {
    for (name, text) in pages().map_err(|e| could_not(directory, &e))? {
        let path = directory.join(name);
        fs::File::create(&path).and_then(|mut file| file.write_all(&text)).map_err(|e| could_not(&path, &e))?;
    }
    Ok(())
}

fn could_not(path: &Path, cause: &io::Error) -> Failure {
    Failure::new(format!("could not write {}: {cause}", path.display()))
}

fn pages() -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut command = Args::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    collect(command, "zexio".to_owned(), &mut pages)?;
    Ok(pages)
}

/// A verb's page, and those of its subcommands. Hidden verbs are not for typing.
fn collect(command: Command, name: String, pages: &mut Vec<(PathBuf, Vec<u8>)>) -> io::Result<()> {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        collect(verb.clone(), format!("{name}-{}", verb.get_name()), pages)?;
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(command.display_name(&name))
        .title(name.to_uppercase())
        .source(concat!("zexio ", env!("CARGO_PKG_VERSION")))
        .manual("Zexio Agent")
        .render(&mut text)?;
    pages.push((PathBuf::from(format!("{name}.1")), text));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_that_is_typed_has_a_page_and_no_other() {
        let pages = pages().unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.to_str().unwrap()).collect();
        for name in ["zexio.1", "zexio-apply.1", "zexio-secret-set.1", "zexio-doctor.1"] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("launch") || name.contains("help")), "{names:?}");
        let page = |name: &str| {
            let found = pages.iter().find(|(page, _)| page.to_str() == Some(name)).unwrap();
            String::from_utf8(found.1.clone()).unwrap()
        };
        assert!(page("zexio.1").contains("zexio\\-apply(1)"), "{}", page("zexio.1"));
        let set = page("zexio-secret-set.1");
        assert!(set.contains("\\fBzexio secret set\\fR") && set.contains("zexio\\-secret\\-set"), "{set}");
    }
}
