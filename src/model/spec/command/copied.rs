//! Command lines that were copied from elsewhere: from a Dockerfile, a Procfile, a shell's prompt, another user's session.

use super::placeholder;
use super::reader::Reader;
use super::syntax::quoted;

/// Recognizes a whole command that was written as the only word of a list. A file may have a blank in its name.
pub(super) fn whole_line(program: &str) -> Option<String> {
    let (first, rest) = program.split_once(' ')?;
    let is_command = !first.contains('/') || rest.split_whitespace().any(|word| word.starts_with('-'));
    let words: Vec<String> = Reader::of(program).ok()?.words.iter().map(|word| quoted(word)).collect();
    (is_command && is_plain(first)).then(|| {
        format!(
            "{program:?} is one word here, the name of a program; a list has each word by itself: [{}]",
            words.join(", ")
        )
    })
}

/// Programs that run another one as another user are not for apps.
pub(super) fn for_another_user(program: &str, arguments: &[String]) -> Option<String> {
    const WITH_VALUE: [&str; 14] =
        ["-u", "-g", "-p", "-C", "-h", "-r", "-t", "-T", "-R", "-D", "-U", "--user", "--group", "--chdir"];
    let name = program.rsplit('/').next().unwrap_or(program);
    let skipped = match name {
        "sudo" | "doas" => {
            let mut at = 0;
            while let Some(word) = arguments.get(at).filter(|word| word.starts_with('-') || word.contains('=')) {
                at += if WITH_VALUE.contains(&word.as_str()) { 2 } else { 1 };
                if word == "--" {
                    break;
                }
            }
            Some(at)
        }
        "gosu" | "su-exec" => Some(1),
        "su" | "runuser" | "pkexec" => None,
        _ => return None,
    };
    let rest = skipped.and_then(|skipped| arguments.get(skipped..)).filter(|rest| !rest.is_empty());
    let instead = rest.map_or("leave it out".to_owned(), |rest| Reader::line_of(&joined(rest)));
    Some(format!(
        "{name} is for other users, and a process runs as its project's own user without more rights; {instead}"
    ))
}

/// Returns whether a name consists of what names usually have, beside separators and patterns. Any other one was meant as
/// it stands: a file may have any name.
fn is_plain(program: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./*:".contains(c);
    program.split('\\').all(|part| !part.is_empty() && part.chars().all(is_plain))
}

/// Recognizes a line that was copied from elsewhere, by its first word.
pub(super) fn copied_from(program: &str, arguments: &[String]) -> Option<String> {
    let rest = joined(arguments);
    let line = || Reader::line_of(&rest);
    let last = arguments.last().map_or(program, String::as_str);
    match program {
        "CMD" | "ENTRYPOINT" | "RUN" => Some(format!("{program} is a Dockerfile's word; {}", line())),
        "$" | "#" | "%" if !rest.is_empty() => Some(format!("{program} is a shell's prompt; {}", line())),
        _ if program.ends_with(':') && !rest.is_empty() && is_plain(program) => {
            Some(format!("{program} is how a line of a Procfile begins; {}", line()))
        }
        _ if program.starts_with('[')
            && is_plain(program.trim_matches(['[', ',', '"', '\'']))
            && last.ends_with(']') =>
        {
            let all = format!("{program} {}", arguments.join(" "));
            Some(format!("a list of words stands without quotes around it: run: {}", all.trim()))
        }
        _ if program.contains('\\') && is_plain(program) => Some(format!(
            "{program:?} is a path of Windows; directories are separated by /, as in {:?}",
            program.replace('\\', "/")
        )),
        _ if program.contains('*') && is_plain(program) => Some(format!(
            "{program:?} is a shell's pattern for names, and no shell runs this command; name the program, or write \
             [sh, -c, {}]",
            quoted(format!("exec {program} {rest}").trim())
        )),
        _ => None,
    }
}

/// Writes words as one text, each in quotes that needs them.
fn joined(words: &[String]) -> String {
    let plain = |word: &str| {
        let reads = |reader: Reader| reader.words == [word] && reader.found().is_none();
        !word.is_empty() && placeholder::replaced(word).is_none() && Reader::of(word).is_ok_and(reads)
    };
    let written = words.iter().map(|word| match word {
        word if plain(word) => word.clone(),
        word if word.contains('\'') => quoted(word),
        word => format!("'{word}'"),
    });
    written.collect::<Vec<_>>().join(" ")
}
