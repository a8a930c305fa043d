//! Whether the kernel of this server can run a program file: its format, its machine and its loader.

use std::env::consts::ARCH;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// More program headers than any linker writes.
const MOST_HEADERS: u16 = 256;
const LONGEST_LOADER: u64 = 256;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;

/// Describes why a program file cannot run here, and what to do; none if it can, or is no program file.
/// `handled`: another program is registered to run foreign files.
pub fn unfit(path: &Path, handled: bool) -> Option<String> {
    let file = File::open(path).ok()?;
    let mut head = [0; 64];
    let read = file.read_at(&mut head, 0).ok()?;
    let head = head.get(..read)?;
    if head.starts_with(b"\x7fELF") {
        let elf = Elf::read(&file, head)?;
        let foreign = elf.foreign_machine().or_else(|| elf.foreign_system()).filter(|_| !handled);
        return foreign.or_else(|| elf.cut_off()).or_else(|| missing_loader(&elf.loader?));
    }
    foreign_format(head).filter(|_| !handled).map(str::to_owned)
}

/// Whether the kernel hands program files of another system or machine to an emulator.
pub fn has_emulators() -> bool {
    // Registered by Debian's packages for scripts and archives, which are no machine programs.
    const NO_EMULATORS: [&str; 5] = ["register", "status", "python", "jar", "llvm"];
    let entries = fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .any(|name| !NO_EMULATORS.iter().any(|known| name.starts_with(known)))
}

/// Whether files that are no programs of this system may be handed to a program that runs them.
pub fn has_handlers() -> bool {
    let entries = fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .any(|name| !["register", "status"].contains(&&*name))
}

fn foreign_format(head: &[u8]) -> Option<&'static str> {
    const WINDOWS: &str = "a program for Windows: build it for Linux";
    const MAC: &str = "a program for macOS: build it for Linux";
    // What begins so runs everywhere: Cosmopolitan's programs.
    if head.starts_with(b"MZ") && !head.starts_with(b"MZqFpD") {
        return Some(WINDOWS);
    }
    let first: [u8; 8] = head.get(..8)?.try_into().ok()?;
    match first {
        [0xfe, 0xed, 0xfa, 0xce | 0xcf, ..] | [0xce | 0xcf, 0xfa, 0xed, 0xfe, ..] => Some(MAC),
        // Java classes begin with the same four bytes, and then have a version from 45 on.
        [0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, architectures] if architectures < 30 => Some(MAC),
        _ => None,
    }
}

fn missing_loader(loader: &str) -> Option<String> {
    if Path::new(loader).exists() {
        return None;
    }
    let built = match loader {
        _ if loader.contains("musl") => "was built for musl, as on Alpine",
        _ => "was built for another system",
    };
    Some(format!(
        "a program that {built}: it needs the loader {loader}, which this server does not have; build it on a \
         distribution like this server's, or link it statically"
    ))
}

struct Elf {
    machine: u16,
    /// The operating system that it names.
    system: u8,
    /// The file's length, and the length that its parts need.
    length: u64,
    needed: u64,
    /// The program that loads it; none if it is linked statically.
    loader: Option<String>,
}

impl Elf {
    fn read(file: &File, head: &[u8]) -> Option<Self> {
        let (wide, little) = (*head.get(4)? == 2, *head.get(5)? == 1);
        let u16_at = |at: usize| -> Option<u16> {
            let bytes: [u8; 2] = head.get(at..at + 2)?.try_into().ok()?;
            Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
        };
        let number = |bytes: &[u8]| -> Option<u64> {
            let mut bytes = bytes.to_vec();
            if little {
                bytes.reverse();
            }
            Some(bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
        };
        let machine = u16_at(18)?;
        let word = if wide { 8 } else { 4 };
        let table = number(head.get(if wide { 32..40 } else { 28..32 })?)?;
        let (size, count) = if wide { (u16_at(54)?, u16_at(56)?) } else { (u16_at(42)?, u16_at(44)?) };
        let (mut loader, mut needed) = (None, 0);
        for index in 0..count.min(MOST_HEADERS) {
            let mut header = [0; 56];
            let header = header.get_mut(..usize::from(size).min(56))?;
            let at = table.checked_add(u64::from(index) * u64::from(size))?;
            needed = needed.max(at.saturating_add(u64::from(size)));
            if file.read_exact_at(header, at).is_err() {
                break;
            }
            let kind = number(header.get(..4)?)?;
            let (offset, length) = if wide { (8, 32) } else { (4, 16) };
            let offset = number(header.get(offset..offset + word)?)?;
            let length = number(header.get(length..length + word)?)?;
            if kind == u64::from(PT_LOAD) {
                needed = needed.max(offset.saturating_add(length));
            }
            if kind == u64::from(PT_INTERP) && loader.is_none() {
                let mut name = vec![0; usize::try_from(length.min(LONGEST_LOADER)).ok()?];
                let read = file.read_exact_at(&mut name, offset);
                loader = read.ok().map(|()| String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned());
            }
        }
        let (system, length) = (*head.get(7)?, file.metadata().ok()?.len());
        Some(Self { machine, system, length, needed, loader })
    }

    /// The kernel starts a program whose end is missing, and kills it when it gets there.
    fn cut_off(&self) -> Option<String> {
        (self.needed > self.length).then(|| {
            format!(
                "a program that is cut off: it has {} of at least {} bytes; build or pack it again",
                self.length, self.needed
            )
        })
    }

    fn foreign_system(&self) -> Option<String> {
        let system = match self.system {
            2 => "NetBSD",
            6 => "Solaris",
            9 => "FreeBSD",
            12 => "OpenBSD",
            _ => return None,
        };
        Some(format!("a program for {system}: build it for Linux"))
    }

    fn foreign_machine(&self) -> Option<String> {
        // A kernel runs the 32-bit programs of its kind too.
        let own: &[u16] = match ARCH {
            "x86_64" => &[62, 3],
            "aarch64" => &[183, 40],
            "riscv64" => &[243],
            _ => return None,
        };
        let built = machine_name(self.machine);
        (!own.contains(&self.machine))
            .then(|| format!("a program for {built}, and this server is {}: build it for that", machine_name(own[0])))
    }
}

fn machine_name(machine: u16) -> String {
    let known = match machine {
        3 => "x86 of 32 bits",
        62 => "amd64 (x86-64)",
        40 => "ARM of 32 bits",
        183 => "arm64 (aarch64)",
        243 => "RISC-V",
        21 => "ppc64",
        22 => "s390x",
        other => return format!("another machine ({other})"),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an ELF file of 64 bits with one program header.
    pub(in crate::unpack) fn elf(machine: u16, loader: &str) -> Vec<u8> {
        let mut file = vec![0; 120];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        file[32] = 64;
        file[54] = 56;
        file[56] = 1;
        file[64] = 3;
        file[72] = 120;
        file[96..98].copy_from_slice(&u16::try_from(loader.len() + 1).unwrap().to_le_bytes());
        file.extend(loader.bytes());
        file.push(0);
        file
    }

    fn found(content: &[u8]) -> Option<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        unfit(file.path(), false)
    }

    #[test]
    fn what_this_machine_cannot_run_is_named() {
        let (own, other) = if ARCH == "aarch64" { (183, 62) } else { (62, 183) };
        let ours = std::env::current_exe().unwrap();
        assert_eq!(unfit(&ours, false), None);
        let content = fs::read(ours).unwrap();
        assert!(content.starts_with(b"\x7fELF"));
        for (content, said) in [
            (elf(other, "/bin/sh"), "and this server is"),
            (
                elf(own, "/lib/ld-musl-none.so.1"),
                "was built for musl, as on Alpine: it needs the loader /lib/ld-musl-none.so.1",
            ),
            (elf(own, "/lib64/ld-none.so.2"), "was built for another system"),
            (b"MZ\x90\0\x03\0\0\0".to_vec(), "a program for Windows"),
            (b"\xcf\xfa\xed\xfe\x07\0\0\x01".to_vec(), "a program for macOS"),
            (b"\xca\xfe\xba\xbe\0\0\0\x02".to_vec(), "a program for macOS"),
        ] {
            let said_here = found(&content).unwrap_or_default();
            assert!(said_here.contains(said), "{said}: {said_here}");
        }
        let freebsd = {
            let mut program = elf(own, "/bin/sh");
            program[7] = 9;
            program
        };
        assert!(found(&freebsd).unwrap().contains("a program for FreeBSD"));
        for cut in [&content[..3000], &content[..64]] {
            let said = found(cut).unwrap_or_default();
            assert!(said.contains(&format!("is cut off: it has {} of", cut.len())), "{said}");
        }
        for content in [
            elf(own, "/bin/sh"),
            b"\x7fELF".to_vec(),
            b"#!/bin/sh\n".to_vec(),
            b"MZqFpD='\n".to_vec(),
            b"\xca\xfe\xba\xbe\0\0\0\x41".to_vec(),
            Vec::new(),
        ] {
            assert_eq!(found(&content), None);
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), elf(other, "/bin/sh")).unwrap();
        assert_eq!(unfit(file.path(), true), None, "an emulator may run it");
    }

    #[test]
    fn a_program_file_of_any_bytes_is_read_without_a_fault() {
        let whole = elf(62, "/lib/ld");
        for at in 4..whole.len() {
            let mut bent = whole.clone();
            bent[at] = 0xff;
            let _ = found(&bent);
            let _ = found(&whole[..at]);
        }
    }
}
