//! Good and bad archives, through the same input that the helper uses.

use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;

use tar::{Builder, EntryType, Header};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

/// One entry: its type, its name, and its content or target.
type Item = (EntryType, &'static str, &'static str);

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;
const SYMLINK: EntryType = EntryType::Symlink;
const HARDLINK: EntryType = EntryType::Link;

/// Writes names and targets into the header unchanged: the library would refuse the bad ones.
fn header(kind: EntryType, name: &[u8], body: &[u8], mode: u32) -> Header {
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    let is_link = matches!(kind, SYMLINK | HARDLINK);
    if is_link {
        header.set_link_name_literal(body).unwrap();
    }
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(if is_link { 0 } else { body.len() as u64 });
    header.set_cksum();
    header
}

fn tar_of(items: &[Item]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (kind, name, body) in items {
        add(&mut tar, &header(*kind, name.as_bytes(), body.as_bytes(), 0o644), body.as_bytes());
    }
    tar.into_inner().unwrap()
}

fn add(tar: &mut Builder<Vec<u8>>, header: &Header, body: &[u8]) {
    tar.append(header, &body[..header.size().unwrap() as usize]).unwrap();
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(content).unwrap();
    gzip.finish().unwrap()
}

fn xz(content: &[u8]) -> Vec<u8> {
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(content).unwrap();
    xz.finish().unwrap()
}

fn zstd_of(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 1).unwrap()
}

/// Name, mode with its kind, content. A mode of 0 leaves the entry a plain file.
fn zip_of(items: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, mode, body) in items {
        let options = SimpleFileOptions::default().unix_permissions(if *mode == 0 { 0o644 } else { mode & 0o777 });
        match mode & 0o170_000 {
            0o120_000 => zip.add_symlink(*name, *body, options).unwrap(),
            0o040_000 => zip.add_directory(*name, options).unwrap(),
            _ => {
                zip.start_file(*name, options).unwrap();
                zip.write_all(body.as_bytes()).unwrap();
            }
        }
    }
    zip.finish().unwrap().into_inner()
}

fn unpack_with(bytes: &[u8], limits: &Limits) -> Result<(Unpacked, Vec<String>), UnpackError> {
    let (artifact, tree) = (tempfile::tempfile().unwrap(), tempfile::tempdir().unwrap());
    (&artifact).write_all(bytes).unwrap();
    let unpacked = super::unpack(artifact, tree.path(), limits)?;
    let mut listing = Vec::new();
    list(tree.path(), "", &mut listing);
    listing.sort();
    Ok((unpacked, listing))
}

/// Lists a tree as `dir/`, `file=content`, `program*=content`, `link->target`.
fn list(dir: &Path, prefix: &str, listing: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        let meta = path.symlink_metadata().unwrap();
        if meta.is_symlink() {
            listing.push(format!("{name}->{}", path.read_link().unwrap().display()));
        } else if meta.is_dir() {
            assert_eq!(meta.permissions().mode() & 0o7777, 0o755, "{name}");
            list(&path, &format!("{name}/"), listing);
            listing.push(format!("{name}/"));
        } else {
            let mark = match meta.permissions().mode() & 0o7777 {
                0o755 => "*",
                0o644 => "",
                mode => panic!("{name} has mode {mode:o}"),
            };
            listing.push(format!("{name}{mark}={}", fs::read_to_string(path).unwrap()));
        }
    }
}

fn good(bytes: &[u8]) -> Vec<String> {
    unpack_with(bytes, &Limits::default()).unwrap().1
}

fn bad(bytes: &[u8]) -> UnpackError {
    match unpack_with(bytes, &Limits::default()) {
        Ok((_, listing)) => panic!("accepted {listing:?}"),
        Err(error) => error,
    }
}

#[test]
fn hostile_tar_entries_refuse_the_whole_archive_by_name() {
    let cases: Vec<(&[Item], Code, &str)> = vec![
        (&[(FILE, "../x", "")], Code::PathEscapes, "../x"),
        (&[(FILE, "a/../../x", "")], Code::PathEscapes, "a/../../x"),
        (&[(FILE, "a/../x", "")], Code::PathEscapes, "a/../x"),
        (&[(DIR, "..", "")], Code::PathEscapes, ".."),
        (&[(FILE, "/etc/x", "")], Code::PathEscapes, "/etc/x"),
        (&[(FILE, "a\\x", "")], Code::EntryForbidden, "a\\\\x"),
        (&[(FILE, "a\nx", "")], Code::EntryForbidden, "a\\nx"),
        (&[(FILE, "a\rx", "")], Code::EntryForbidden, "a\\rx"),
        (&[(FILE, "a\x1b[2Jx", "")], Code::EntryForbidden, "a\\u{1b}[2Jx"),
        (&[(FILE, "a/", "x")], Code::EntryForbidden, "a/"),
        (&[(FILE, "./", "x")], Code::EntryForbidden, "./"),
        (&[(DIR, "a", "content")], Code::EntryForbidden, "content"),
        (&[(EntryType::Char, "dev", "")], Code::EntryForbidden, "dev"),
        (&[(EntryType::Block, "dev", "")], Code::EntryForbidden, "dev"),
        (&[(EntryType::Fifo, "pipe", "")], Code::EntryForbidden, "pipe"),
        (&[(EntryType::Continuous, "odd", "")], Code::EntryForbidden, "odd"),
        (&[(FILE, "a", "1"), (FILE, "a", "2")], Code::DuplicateEntry, "\"a\""),
        (&[(FILE, "a", "1"), (FILE, "./a", "2")], Code::DuplicateEntry, "\"a\""),
        (&[(FILE, "a", "1"), (DIR, "a", "")], Code::DuplicateEntry, "\"a\""),
        (&[(FILE, "a/b", "1"), (FILE, "a", "2")], Code::DuplicateEntry, "\"a\""),
        (&[(FILE, "a/b", "1"), (SYMLINK, "a", "c")], Code::DuplicateEntry, "\"a\""),
        (&[(FILE, "a", "1"), (FILE, "a/b", "2")], Code::DuplicateEntry, "\"a/b\""),
        (&[(SYMLINK, "a", "c"), (FILE, "a/b", "2")], Code::PathEscapes, "\"a/b\""),
        (&[(SYMLINK, "a", "."), (DIR, "a", "")], Code::DuplicateEntry, "\"a\""),
        (&[(SYMLINK, "a", "."), (FILE, "a", "over")], Code::DuplicateEntry, "\"a\""),
        (&[(FILE, "x", ""), (SYMLINK, "shadow", "/etc/shadow")], Code::PathEscapes, "shadow"),
        (&[(FILE, "x", ""), (SYMLINK, "up", "..")], Code::PathEscapes, "\"up\""),
        (&[(FILE, "x", ""), (SYMLINK, "a/up", "../../x")], Code::PathEscapes, "a/up"),
        (&[(FILE, "x", ""), (SYMLINK, "up", "missing/../../x")], Code::PathEscapes, "\"up\""),
        (
            &[(FILE, "d/e/x", ""), (SYMLINK, "d/f", "../d/e"), (SYMLINK, "y", "d/f/../../../z")],
            Code::PathEscapes,
            "\"y\"",
        ),
        (&[(FILE, "x", ""), (SYMLINK, "d/l", ".."), (SYMLINK, "m", "d/l/../z")], Code::PathEscapes, "\"m\""),
        (&[(FILE, "x", ""), (SYMLINK, "a", "b"), (SYMLINK, "b", "a")], Code::PathEscapes, "never arrives"),
        (&[(FILE, "top/x", ""), (SYMLINK, "top/up", "../top/x")], Code::PathEscapes, "\"up\""),
        (&[(FILE, "x", ""), (SYMLINK, "a", "b\\c")], Code::EntryForbidden, "\"a\""),
        (&[(FILE, "x", ""), (SYMLINK, "a", "b\nc")], Code::EntryForbidden, "\"a\""),
        (&[(HARDLINK, "h", "/etc/shadow")], Code::PathEscapes, "/etc/shadow"),
        (&[(HARDLINK, "h", "../x")], Code::PathEscapes, "../x"),
        (&[(HARDLINK, "h", "later"), (FILE, "later", "")], Code::PathEscapes, "\"h\""),
        (&[(FILE, "x", ""), (SYMLINK, "s", "x"), (HARDLINK, "h", "s")], Code::PathEscapes, "\"h\""),
        (&[(DIR, "d", ""), (HARDLINK, "h", "d")], Code::PathEscapes, "\"h\""),
        (&[(FILE, MANIFEST, "{}"), (FILE, "x", "")], Code::EntryForbidden, MANIFEST),
        (&[(FILE, "top/.zexio-release.json", "{}")], Code::EntryForbidden, MANIFEST),
        (&[(DIR, "empty", "")], Code::Damaged, "no files"),
        (&[], Code::TypeMismatch, "begin with 00000000"),
    ];
    for (items, code, named) in cases {
        let error = bad(&tar_of(items));
        assert_eq!(error.code, code, "{items:?}: {error}");
        assert!(error.message.contains(named), "{items:?}: {error}");
        assert!(!error.message.chars().any(char::is_control), "{error:?}");
    }
}

#[test]
fn a_name_that_is_not_text_is_refused() {
    let mut tar = Builder::new(Vec::new());
    add(&mut tar, &header(FILE, b"a\xff", b"", 0o644), b"");
    let error = bad(&tar.into_inner().unwrap());
    assert_eq!((error.code, error.message.contains("not UTF-8")), (Code::EntryForbidden, true), "{error}");
}

#[test]
fn long_names_are_read_and_their_tricks_refused() {
    let with_pax = |key: &str, value: &[u8]| {
        let mut tar = Builder::new(Vec::new());
        tar.append_pax_extensions([(key, value)]).unwrap();
        add(&mut tar, &header(FILE, b"short", b"x", 0o644), b"x");
        add(&mut tar, &header(FILE, b"other", b"", 0o644), b"");
        tar.into_inner().unwrap()
    };
    let deep = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    assert!(good(&with_pax("path", deep.as_bytes())).contains(&format!("{deep}=x")));
    for (key, value, code) in [
        ("path", "../x".to_owned(), Code::PathEscapes),
        ("path", "n".repeat(256), Code::EntryForbidden),
        ("path", "a\0b".to_owned(), Code::EntryForbidden),
        ("path", "d/".repeat(65), Code::PathTooDeep),
        ("path", "d/".repeat(5000), Code::PathTooDeep),
        ("path", format!("{}x", format!("{}/", "d".repeat(250)).repeat(9)), Code::PathTooDeep),
        ("GNU.sparse.major", "1".to_owned(), Code::EntryForbidden),
        ("comment", "x".repeat(2 << 20), Code::Damaged),
    ] {
        assert_eq!(bad(&with_pax(key, value.as_bytes())).code, code, "{key}");
    }
}

#[test]
fn a_size_from_an_extension_cannot_smuggle_an_entry() {
    let hidden = tar_of(&[(FILE, "hidden", "")]);
    let mut tar = Builder::new(Vec::new());
    tar.append_pax_extensions([("size", b"512".as_slice())]).unwrap();
    let mut outer = header(FILE, b"outer", b"", 0o644).as_bytes().to_vec();
    outer.extend_from_slice(&hidden[..512]);
    let mut bytes = tar.get_ref().clone();
    bytes.extend_from_slice(&outer);
    bytes.extend_from_slice(&[0; 1024]);
    let listing = good(&bytes);
    assert!(listing.len() == 1 && listing[0].starts_with("outer="), "{listing:?}");
}

#[test]
fn benign_archives_pass() {
    let cases: Vec<(&[Item], &[&str])> = vec![
        (&[(DIR, "./", ""), (FILE, "./bar", "1"), (FILE, "./d/x", "2")], &["bar=1", "d/", "d/x=2"]),
        (&[(DIR, "d/", ""), (FILE, "d/x", ""), (DIR, "d", ""), (FILE, "y", "")], &["d/", "d/x=", "y="]),
        (&[(FILE, "a//b", "1"), (FILE, "c", "")], &["a/", "a/b=1", "c="]),
        (&[(FILE, "a..b", ""), (FILE, "...", ""), (FILE, "-rf", "")], &["-rf=", "...=", "a..b="]),
        (
            &[
                (SYMLINK, "node_modules/.bin/x", "../pkg/cli.js"),
                (FILE, "node_modules/pkg/cli.js", "c"),
                (FILE, "package.json", "{}"),
            ],
            &[
                "node_modules/",
                "node_modules/.bin/",
                "node_modules/.bin/x->../pkg/cli.js",
                "node_modules/pkg/",
                "node_modules/pkg/cli.js=c",
                "package.json={}",
            ],
        ),
        (&[(FILE, "x", ""), (SYMLINK, "dangling", "not/yet")], &["dangling->not/yet", "x="]),
        (&[(FILE, "d/x", ""), (SYMLINK, "s", "d"), (SYMLINK, "t", "s/../d/x")], &["d/", "d/x=", "s->d", "t->s/../d/x"]),
        (&[(FILE, "x", "1"), (SYMLINK, "d/root", "..")], &["d/", "d/root->..", "x=1"]),
        (&[(FILE, "x", "1"), (HARDLINK, "h", "x"), (HARDLINK, "i", "./h")], &["h=1", "i=1", "x=1"]),
        (&[(FILE, "x", "1"), (SYMLINK, "self", ".")], &["self->.", "x=1"]),
    ];
    for (items, want) in cases {
        assert_eq!(good(&tar_of(items)), want, "{items:?}");
    }
}

#[test]
fn a_lone_top_directory_is_left_out_even_if_it_holds_its_own_name() {
    let items: &[Item] = &[
        (DIR, "shop", ""),
        (FILE, "shop/shop", "program"),
        (FILE, "shop/.top-0", ""),
        (FILE, "shop/lib/x", ""),
        (SYMLINK, "shop/bin/run", "../shop"),
    ];
    assert_eq!(good(&tar_of(items)), [".top-0=", "bin/", "bin/run->../shop", "lib/", "lib/x=", "shop=program"]);
    assert_eq!(good(&tar_of(&[(FILE, "a/b/c", "1")])), ["b/", "b/c=1"]);
}

#[test]
fn of_a_mode_only_the_right_to_run_is_kept() {
    let mut tar = Builder::new(Vec::new());
    for (name, mode) in [("setuid", 0o6755), ("zero", 0), ("user", 0o700), ("world", 0o666), ("group", 0o010)] {
        add(&mut tar, &header(FILE, name.as_bytes(), b"", mode), b"");
    }
    add(&mut tar, &header(DIR, b"locked", b"", 0), b"");
    add(&mut tar, &header(FILE, b"locked/x", b"", 0o1777), b"");
    let want = ["group*=", "locked/", "locked/x*=", "setuid*=", "user*=", "world=", "zero="];
    assert_eq!(good(&tar.into_inner().unwrap()), want);
}

#[test]
fn every_compression_is_known_by_its_first_bytes() {
    let tar = tar_of(&[(FILE, "x", "1"), (FILE, "y", "2")]);
    for pack in [gzip, xz, zstd_of] {
        assert_eq!(good(&pack(&tar)), ["x=1", "y=2"]);
        assert_eq!(good(&pack(b"#!/bin/sh\n")), ["app*=#!/bin/sh\n"]);
        assert!(bad(&pack(b"\x01\x02plain text")).message.ends_with("found bytes that begin with 0102706c61696e20"));
        assert_eq!(bad(&pack(&gzip(&tar))).code, Code::TypeMismatch);
        let cut = pack(&tar);
        assert_eq!(bad(&cut[..cut.len() - 12]).code, Code::Damaged);
        let followed = [&pack(&tar)[..], b"PK\x03\x04 and more"].concat();
        assert_eq!(bad(&followed).code, Code::Damaged);
    }
    let padding = |bytes: usize| [&gzip(&tar)[..], &vec![0; bytes]].concat();
    for padded in [1, 511, 200_000] {
        assert_eq!(good(&padding(padded)), ["x=1", "y=2"]);
    }
    for followed in [&b"\n"[..], b"\x1f", b"\x1f\x8b", &gzip(&tar), b"PK"] {
        let error = bad(&[&padding(3)[..], followed].concat());
        assert!(error.code == Code::Damaged && error.message.contains("follows the end of the gzip file"), "{error}");
    }
    let two = [gzip(&tar[..512]), gzip(&tar[512..])].concat();
    assert_eq!(good(&two), ["x=1", "y=2"]);
    assert_eq!(good(b"\x7fELF and so on"), ["app*=\x7fELF and so on"]);
}

#[test]
fn what_is_no_artifact_is_named() {
    let mut both = tar_of(&[(FILE, "PK\x03\x04", "")]);
    both.extend_from_slice(&zip_of(&[("x", 0, "1")]));
    for (bytes, found) in [
        (&b""[..], "empty"),
        (b"<!DOCTYPE html><title>Sign in</title>", "a web page"),
        (b"\xef\xbb\xbf\n<HTML>", "a web page"),
        (b"<?xml version=\"1.0\"?>\n<!DOCTYPE html PUBLIC \"x\"><html>", "a web page"),
        (b"<?xml version=\"1.0\"?><feed>", "XML"),
        (b"<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code>", "an error of a storage server, NoSuchKey"),
        (b"<Error><Code>SECRET</Code>", "an error of a storage server; is the URL whole"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "a Git LFS pointer; it stands for"),
        (b"  {\"error\": 1}", "JSON; an API answers so"),
        (b"console.log(1)\n", "plain text; a script begins with #!"),
        (b"console.log('not found')\n", "plain text; a script begins with #!"),
        (b"Not authorized\n", "plain text that says \"not authorized\"; the server sent its refusal"),
        (b"404: Not Found", "plain text that says \"not found\""),
        (b"Your key SECRET: access denied", "says \"access denied\"; the server"),
        (
            b"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824  app.tgz\n",
            "a file of checksums; name the URL",
        ),
        (b"SHA1 (app.tgz) = aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d\n", "a file of checksums"),
        (b"-----BEGIN PGP SIGNATURE-----\n", "(PEM); name the URL of the file that it belongs to"),
        ("Nicht gefunden, \u{fc}".as_bytes(), "plain text"),
        (&"\u{fc}".as_bytes()[..1], "plain text"),
        (b"BZh91AY", "bzip2 file; pack the files"),
        (b"!<arch>\ndebian-binary", "a Debian package"),
        (b"MZ\x90", "Windows program; build it for Linux"),
        (&both, "two kinds"),
    ] {
        let error = bad(bytes);
        assert_eq!((error.code, error.message.contains(found)), (Code::TypeMismatch, true), "{error}");
    }
}

#[test]
fn a_tar_archive_must_end_and_end_there() {
    let tar = tar_of(&[(FILE, "x", "1")]);
    assert_eq!(good(&[&tar[..], &[0; 9000]].concat()), ["x=1"]);
    assert_eq!(good(&tar[..tar.len() - 512]), ["x=1"]);
    for broken in [&tar[..1024], &tar[..600], &tar[..513], &tar[..512], &[&tar[..], b"more"].concat()] {
        assert_eq!(bad(broken).code, Code::Damaged, "{}", broken.len());
    }
    let zip = zip_of(&[("x", 0, "1")]);
    assert_eq!(bad(&[&tar[..], &zip].concat()).code, Code::Damaged);
    let mut altered = tar.clone();
    altered[0] = b'y';
    assert_eq!(bad(&altered).code, Code::Damaged);
}

#[test]
fn zip_archives_follow_the_same_policy() {
    let zip = zip_of(&[
        ("shop/", 0o040_755, ""),
        ("shop/run", 0o755, "r"),
        ("shop/a/x", 0, "1"),
        ("shop/link", 0o120_777, "a/x"),
    ]);
    assert_eq!(good(&zip), ["a/", "a/x=1", "link->a/x", "run*=r"]);
    for (items, code, named) in [
        (&[("../x", 0, "")][..], Code::PathEscapes, "../x"),
        (&[("/x", 0, "")], Code::PathEscapes, "/x"),
        (&[("a\nx", 0, "")], Code::EntryForbidden, "a\\nx"),
        (&[("a", 0, ""), ("a/b", 0, "")], Code::DuplicateEntry, "a/b"),
        (&[("a", 0, ""), ("./a", 0, "")], Code::DuplicateEntry, "\"a\""),
        (&[("x", 0, ""), ("s", 0o120_777, "/etc/shadow")], Code::PathEscapes, "/etc/shadow"),
        (&[("x", 0, ""), ("s", 0o120_777, "../x")], Code::PathEscapes, "\"s\""),
        (&[("s", 0o120_777, "."), ("s/x", 0, "")], Code::PathEscapes, "s/x"),
        (&[(MANIFEST, 0, "{}")], Code::EntryForbidden, MANIFEST),
        (&[], Code::Damaged, "no files"),
    ] {
        let error = bad(&zip_of(items));
        assert_eq!(error.code, code, "{items:?}: {error}");
        assert!(error.message.contains(named), "{items:?}: {error}");
    }
}

#[test]
fn an_altered_zip_is_refused() {
    let zip = zip_of(&[("aa", 0, "1"), ("bb", 0, "2")]);
    let find = |bytes: &[u8], what: &[u8], from: usize| {
        from + bytes[from..].windows(what.len()).position(|window| window == what).unwrap()
    };
    let directory = find(&zip, b"PK\x01\x02", 0);
    let with = |at: usize, bytes: &[u8]| {
        let mut zip = zip.clone();
        zip[at..at + bytes.len()].copy_from_slice(bytes);
        zip
    };
    let encrypted = with(directory + 8, &[1]);
    let fifo = with(directory + 38, &(0o010_644_u32 << 16).to_le_bytes());
    let twice = with(find(&zip, b"bb", directory), b"aa");
    let other_name = with(find(&zip, b"aa", 0), b"cc");
    let wrong_checksum = with(directory + 16, &[0, 0, 0, 0]);
    let followed = [&zip[..], b"x"].concat();
    let preceded = [b"PK\x03\x04", &zip[..]].concat();
    for (what, bytes, code) in [
        ("encrypted", encrypted, Code::EntryForbidden),
        ("fifo", fifo, Code::EntryForbidden),
        ("twice", twice, Code::DuplicateEntry),
        ("other name", other_name, Code::Damaged),
        ("wrong checksum", wrong_checksum, Code::Damaged),
        ("followed", followed, Code::Damaged),
        ("preceded", preceded, Code::Damaged),
        ("cut", zip[..zip.len() - 1].to_vec(), Code::Damaged),
    ] {
        let error = bad(&bytes);
        assert!(error.code == code || (what == "encrypted" && error.code == Code::Damaged), "{what}: {error:?}");
    }
}

#[test]
fn every_limit_ends_the_work() {
    let limits = Limits { max_bytes: 100_000, max_entries: 5, max_ratio: 200, max_depth: 3 };
    let code = |bytes: &[u8]| unpack_with(bytes, &limits).map_err(|error| error.code).map(|_| ());
    let big: &'static str = Box::leak("x".repeat(100_001).into_boxed_str());
    for pack in [gzip, xz, zstd_of, |bytes: &[u8]| bytes.to_vec()] {
        assert_eq!(code(&pack(&tar_of(&[(FILE, "x", big)]))), Err(Code::ArchiveTooLarge));
        assert_eq!(code(&pack(format!("#!{big}").as_bytes())), Err(Code::ArchiveTooLarge));
    }
    assert_eq!(code(&zip_of(&[("x", 0, big)])), Err(Code::ArchiveTooLarge));
    let names = ["a", "b", "c", "d", "e", "f"];
    let many: Vec<Item> = names.iter().map(|&name| (FILE, name, "")).collect();
    assert_eq!(code(&tar_of(&many[..5])), Ok(()));
    assert_eq!(code(&tar_of(&many)), Err(Code::TooManyEntries));
    assert_eq!(code(&tar_of(&[(DIR, "a", ""); 6])), Err(Code::TooManyEntries));
    assert_eq!(code(&tar_of(&[(FILE, "a/b/x", ""), (FILE, "c/d/x", "")])), Err(Code::TooManyEntries));
    assert_eq!(code(&zip_of(&names.map(|name| (name, 0, "")))), Err(Code::TooManyEntries));
    assert_eq!(code(&tar_of(&[(FILE, "a/b/c/d", "")])), Err(Code::PathTooDeep));
}

#[test]
fn a_bomb_is_ended_by_its_ratio() {
    let zeros = vec![0; 11 << 20];
    let mut tar = Builder::new(Vec::new());
    add(&mut tar, &header(FILE, b"x", &zeros, 0o644), &zeros);
    let tar = tar.into_inner().unwrap();
    let bomb = zstd_of(&tar);
    let error = bad(&bomb);
    assert_eq!((error.code, error.message.contains("200 times")), (Code::ArchiveTooLarge, true), "{error}");
    assert_eq!(good(&tar).len(), 1);
}

#[test]
fn a_sparse_file_costs_what_it_writes() {
    let mut sparse = Header::new_gnu();
    sparse.set_path("holes").unwrap();
    sparse.set_entry_type(EntryType::GNUSparse);
    sparse.set_mode(0o644);
    sparse.set_size(0);
    let gnu = sparse.as_gnu_mut().unwrap();
    gnu.set_real_size(3 << 30);
    gnu.sparse[0].set_offset(3 << 30);
    gnu.sparse[0].set_length(0);
    sparse.set_cksum();
    let mut tar = Builder::new(Vec::new());
    tar.append(&sparse, &b""[..]).unwrap();
    assert_eq!(bad(&tar.into_inner().unwrap()).code, Code::ArchiveTooLarge);
}

#[test]
fn a_zstd_window_that_eats_the_memory_is_refused() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(30).unwrap();
    encoder.write_all(&tar_of(&[(FILE, "x", "")])).unwrap();
    assert_eq!(bad(&encoder.finish().unwrap()).code, Code::Damaged);
}

#[test]
fn the_helper_and_the_agent_speak_of_the_same_limits() {
    let limits = Limits { max_bytes: 1, max_entries: 2, max_ratio: 3, max_depth: 4 };
    assert_eq!(Limits::from_args(&limits.to_args()), Some(limits));
    assert_eq!(Limits::from_args(&["1".to_owned()]), None);
}

#[test]
fn what_a_desktop_leaves_in_an_archive_is_left_out_and_hides_no_top_directory() {
    let left = [
        "__MACOSX/",
        "__MACOSX/shop/._app",
        "._shop",
        "shop/.DS_Store",
        "shop/sub/._x",
        "Icon\r",
        "shop/sub/Icon\r",
        "__MACOSX/._Icon\r",
        "Thumbs.db",
        "shop/desktop.ini",
    ];
    let kept = [(FILE, "shop/app", "#!x"), (FILE, "shop/sub/x", "y"), (FILE, "shop/a._b", "z")];
    let mut items: Vec<Item> = left.map(|name| (if name.ends_with('/') { DIR } else { FILE }, name, "notes")).into();
    items[0].2 = "";
    items.extend(kept);
    items.push((SYMLINK, "shop/._link", "../../out"));
    assert_eq!(good(&tar_of(&items)), ["a._b=z", "app*=#!x", "sub/", "sub/x=y"]);
    let items: Vec<(&str, u32, &str)> = items[..13].iter().map(|(_, name, body)| (*name, 0, *body)).collect();
    assert_eq!(good(&zip_of(&items[1..])), ["a._b=z", "app*=#!x", "sub/", "sub/x=y"]);
    let big = "x".repeat(3 << 20);
    let big: &'static str = Box::leak(big.into_boxed_str());
    assert_eq!(good(&tar_of(&[(FILE, "._app", big), (FILE, "app", "a")])), ["app=a"]);
    assert_eq!(bad(&tar_of(&[(FILE, "._app", "x"), (DIR, "__MACOSX", "")])).code, Code::Damaged, "nothing is left");
    for name in ["Icon\r\r", "Icons\r", "x\r/Icon\r", "Icon\r/x", "app\r"] {
        assert_eq!(bad(&tar_of(&[(FILE, name, "x"), (FILE, "app", "#!x")])).code, Code::EntryForbidden, "{name:?}");
    }
}

#[test]
fn where_no_file_may_be_run_those_that_begin_as_programs_may() {
    let items = [("bin/run", 0, "#!/bin/sh"), ("bin/elf", 0, "\u{7f}ELFx"), ("bin/data", 0, "x")];
    assert_eq!(good(&zip_of(&items)), ["data=x", "elf*=\u{7f}ELFx", "run*=#!/bin/sh"]);
    let items = [("bin/run", 0o100_755, "#!/bin/sh"), ("bin/elf", 0, "\u{7f}ELFx")];
    assert_eq!(good(&zip_of(&items)), ["elf=\u{7f}ELFx", "run*=#!/bin/sh"], "where some may, the modes are meant");
}

#[test]
fn a_jar_is_kept_whole() {
    let jar = zip_of(&[("META-INF/MANIFEST.MF", 0, "Main-Class: X"), ("X.class", 0, "x")]);
    let names = |bytes: &[u8]| -> Vec<(String, u64)> {
        let (artifact, tree) = (tempfile::tempfile().unwrap(), tempfile::tempdir().unwrap());
        (&artifact).write_all(bytes).unwrap();
        super::unpack(artifact, tree.path(), &Limits::default()).unwrap();
        let mut names: Vec<_> = fs::read_dir(tree.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
            .collect();
        names.sort();
        names
    };
    let length = jar.len() as u64;
    assert_eq!(names(&jar), [("app.jar".to_owned(), length)]);
    let script = [b"#!/bin/sh\nexec java -jar $0\n".as_slice(), &jar].concat();
    let length = script.len() as u64;
    assert_eq!(names(&script), [("app".to_owned(), length), ("app.jar".to_owned(), length)]);
    assert_eq!(good(&zip_of(&[("web/META-INF/MANIFEST.MF", 0, "x"), ("web/x", 0, "y")])).len(), 3, "no jar by itself");
    let broken = &jar[..jar.len() - 30];
    assert_eq!(bad(broken).code, Code::Damaged);
}

#[test]
fn links_to_programs_of_the_system_are_kept_and_lead_nowhere_else() {
    let venv = [
        (FILE, "venv/pyvenv.cfg", "home = /usr/bin"),
        (SYMLINK, "venv/bin/python", "python3"),
        (SYMLINK, "venv/bin/python3", "/usr/bin/python3"),
        (SYMLINK, "venv/bin/python3.11", "python3"),
        (DIR, "venv/lib", ""),
        (SYMLINK, "venv/lib64", "lib"),
        (FILE, "app.py", "x"),
    ];
    let listing = good(&tar_of(&venv));
    assert!(listing.contains(&"venv/bin/python3->/usr/bin/python3".to_owned()), "{listing:?}");
    for (first, second) in [
        ("/usr/bin/../../etc/passwd", ""),
        ("/usr/bin", ""),
        ("/usr/bin/", ""),
        ("/usr/bin/.", ""),
        ("/usr/bin/..", ""),
        ("/usr/bin/a/b", ""),
        ("/usr//bin/a", ""),
        ("/etc/passwd", ""),
        ("/usr/bin/x", "a/../passwd"),
        ("/usr/bin/x", "a/.."),
    ] {
        let mut items = vec![(FILE, "f", "x"), (SYMLINK, "a", first)];
        items.extend((!second.is_empty()).then_some((SYMLINK, "b", second)));
        let code = unpack_with(&tar_of(&items), &Limits::default()).map(|_| ()).map_err(|error| error.code);
        assert_eq!(code, Err(Code::PathEscapes), "{first} {second}");
    }
    assert_eq!(bad(&tar_of(&[(SYMLINK, "a", "/usr/bin/x"), (FILE, "a/b", "x")])).code, Code::PathEscapes);
}

#[test]
fn a_zip_of_windows_has_backslashes_between_its_names() {
    let items = [("shop\\bin\\run", 0, "#!x"), ("shop\\conf\\", 0, ""), ("shop/readme", 0, "r")];
    let listing = unpack_with(&zip_of(&items), &Limits::default());
    assert_eq!(listing.unwrap().1, ["bin/", "bin/run*=#!x", "conf/", "readme=r"]);
    assert_eq!(bad(&zip_of(&[("..\\x", 0, "x")])).code, Code::PathEscapes);
    assert_eq!(bad(&zip_of(&[("\\x", 0, "x")])).code, Code::PathEscapes);
    assert_eq!(bad(&zip_of(&[("a\\x", 0, "x"), ("a/x", 0, "y")])).code, Code::DuplicateEntry);
}
