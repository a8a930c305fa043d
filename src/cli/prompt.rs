//! Prompts: for a secret without echo, for a confirmation before a removal.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::Path;

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::failure::Failure;

/// The longest value that is read; the agent takes less.
const LONGEST: u64 = 1 << 20;

/// Reads a secret's value: from a file, from a prompt on a terminal, or from standard input. One newline at its end is
/// dropped, because `echo` and editors add it and it is never intended.
///
/// # Errors
/// It could not be read, or it was cancelled.
pub fn secret(name: &str, file: Option<&Path>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let value = match file {
        Some(path) => {
            let open = File::open(path);
            open.and_then(read_all).map_err(|e| Failure::new(format!("could not read {}: {e}", path.display())))?
        }
        None if io::stdin().is_terminal() => ask_silently(&format!("value of {name}: "))?,
        None => read_all(io::stdin()).map_err(|e| Failure::new(format!("could not read standard input: {e}")))?,
    };
    Ok(without_newline(value))
}

fn read_all(from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut value = Zeroizing::new(Vec::new());
    from.take(LONGEST).read_to_end(&mut value)?;
    Ok(value)
}

fn without_newline(mut value: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if value.last() == Some(&b'\n') {
        value.pop();
        if value.last() == Some(&b'\r') {
            value.pop();
        }
    }
    value
}

/// Asks a person to confirm in words. A script is not asked: its author has decided.
///
/// # Errors
/// The person did not confirm.
pub fn confirm(question: &str, expected: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Ok(());
    }
    let mut answer = String::new();
    let asked = write!(io::stderr(), "{question} ").and_then(|()| io::stdin().lock().read_line(&mut answer));
    match asked {
        Ok(_) if answer.trim() == expected => Ok(()),
        _ => Err(Failure::new("nothing was done")),
    }
}

/// Asks a person whether to continue; an empty answer is a yes.
pub fn agrees(question: &str) -> bool {
    let mut answer = String::new();
    let asked = write!(io::stderr(), "{question} ").and_then(|()| io::stdin().lock().read_line(&mut answer));
    asked.is_ok_and(|bytes| bytes > 0) && ["", "y", "yes"].contains(&answer.trim().to_lowercase().as_str())
}

/// The terminal without echo, until it is dropped.
struct Silence {
    terminal: File,
    before: Termios,
}

impl Silence {
    fn keep() -> io::Result<Self> {
        let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&terminal)?;
        let mut silent = before.clone();
        // Ctrl-C comes as a byte: its signal would leave the terminal without echo.
        silent.local_flags &= !(LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::ICANON);
        tcsetattr(&terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

fn ask_silently(question: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let fail = |e: io::Error| Failure::new(format!("could not ask on the terminal: {e}"));
    let mut silence = Silence::keep().map_err(fail)?;
    write!(silence.terminal, "{question}").map_err(fail)?;
    let typed = read_line(&mut silence.terminal).map_err(fail)?;
    writeln!(silence.terminal).map_err(fail)?;
    typed.ok_or_else(|| Failure::new("nothing was done"))
}

/// Reads up to the end of the line; none on Ctrl-C.
fn read_line(from: &mut impl Read) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut typed = Zeroizing::new(Vec::with_capacity(4096));
    let mut byte = [0];
    while typed.len() < LONGEST as usize && from.read(&mut byte)? == 1 {
        match byte[0] {
            b'\n' | b'\r' | 0x04 => break,
            0x03 => return Ok(None),
            0x08 | 0x7f => drop_last_char(&mut typed),
            other => typed.push(other),
        }
    }
    Ok(Some(typed))
}

fn drop_last_char(typed: &mut Vec<u8>) {
    while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8]) -> Option<Vec<u8>> {
        read_line(&mut &keys[..]).unwrap().map(|value| value.to_vec())
    }

    #[test]
    fn what_is_typed_can_be_corrected_and_cancelled() {
        assert_eq!(typed(b"secret\nrest"), Some(b"secret".to_vec()));
        assert_eq!(typed("aü\u{7f}b\r".as_bytes()), Some(b"ab".to_vec()));
        assert_eq!(typed(b"\x7f\x7fa\n"), Some(b"a".to_vec()));
        assert_eq!(typed(b"oops\x03"), None);
    }

    #[test]
    fn one_newline_at_the_end_is_not_part_of_a_value() {
        let cut = |value: &[u8]| without_newline(Zeroizing::new(value.to_vec())).to_vec();
        assert_eq!(cut(b"a\n"), b"a");
        assert_eq!(cut(b"a\r\n"), b"a");
        assert_eq!(cut(b"a\n\n"), b"a\n");
        assert_eq!(cut(b"a "), b"a ");
    }
}
