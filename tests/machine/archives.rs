//! Artifacts as people's tools make them: what they add is left out, what they lack is given or told before a start.

use crate::machine::{Machine, profile_dir};

/// Makes the applications that are packed: a program, a Python app with a zip's entry point, a Node app.
fn applications(machine: &Machine) {
    let built = profile_dir().file_name().unwrap_or_default().to_string_lossy().into_owned();
    machine.must(&format!(
        "mkdir -p /root/w && cd /root/w && cp /built/{built}/examples/hello . && cp -r /src/examples/node /src/examples/python .
         cp python/app.py python/__main__.py"
    ));
}

fn spec(project: &str, file: &str, run: &str, more: &str) -> String {
    format!(
        "zexio: 1\nproject: {project}\nartifact: {{ file: {file} }}\nprocesses:\n  web:\n    run: {run}\n    \
         ready: {{ tcp: true, within: 20s }}\n    routes: [{{ host: {project}.example.com, tls: internal }}]\n{more}"
    )
}

/// Writes an archive with Python, which writes any field as it is told to.
fn python(machine: &Machine, script: &str) {
    machine.write_file("/root/w/make.py", &format!("import os, tarfile, zipfile\nos.chdir('/root/w')\n{script}\n"));
    machine.must("python3 /root/w/make.py");
}

#[test]
fn archives_run_as_their_makers_make_them() {
    let machine = Machine::with_agent();
    applications(&machine);
    machine.must(
        "cd /root/w && mkdir -p finder/shop finder/__MACOSX/shop && cp hello finder/shop/ && echo x >finder/__MACOSX/shop/._hello
         echo x >finder/shop/.DS_Store && (cd finder && python3 -m zipfile -c ../finder.zip shop __MACOSX)
         mkdir package && cp node/* package/ && tar czf npm.tgz package
         git init -q repo && cp hello repo/ && ln -s hello repo/latest && cd repo && git add . &&
         git -c user.name=x -c user.email=x@x commit -qm x && git archive --format=zip --prefix=shop-0a1b2c/ -o ../source.zip HEAD
         cd /root/w && mkdir env && cp python/app.py env/ && python3 -m venv --without-pip env/venv && tar czf venv.tgz -C env .",
    );
    python(
        &machine,
        r##"
with tarfile.open("bsdtar.tgz", "w:gz", format=tarfile.PAX_FORMAT) as tar:
    for name in ["._shop", "shop/._hello", "shop/hello"]:
        entry = tar.gettarinfo("hello", name)
        entry.pax_headers = {"LIBARCHIVE.xattr.com.apple.quarantine": "MDA4Mg", "SCHILY.xattr.com.apple.x": "y"}
        tar.addfile(entry, open("hello", "rb"))
with zipfile.ZipFile("windows.zip", "w") as zip:
    entry = zipfile.ZipInfo("shop-x")
    entry.filename = "shop\\bin\\hello"
    entry.create_system = 0
    zip.writestr(entry, open("hello", "rb").read())
with zipfile.ZipFile("ci.zip", "w", zipfile.ZIP_DEFLATED) as zip:
    for name in ["hello", "start.sh"]:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = 0o100644 << 16
        zip.writestr(entry, open("hello", "rb").read() if name == "hello" else "#!/bin/sh\nexec ./hello\n")
# A jar, as far as what unpacks it can tell; Python runs a zip by its __main__.py as Java does by its manifest.
class Stream:
    def __init__(self, path): self.file = open(path, "wb")
    def write(self, data): return self.file.write(data)
    def flush(self): self.file.flush()
for name, head in [("app.jar", b""), ("boot.jar", b"#!/usr/bin/python3\n")]:
    stream = Stream(name)
    stream.write(head)
    # To a stream that cannot be sought in, sizes follow the data, as jar and Gradle write them.
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as zip:
        zip.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n")
        zip.write("python/__main__.py", "__main__.py")
    stream.flush()
"##,
    );
    machine.must("cd /root/w && cp *.zip *.tgz *.jar /zexio/artifacts/");
    for (project, file, run) in [
        ("finder", "finder.zip", "./hello"),
        ("bsdtar", "bsdtar.tgz", "./hello"),
        ("windows", "windows.zip", "./hello"),
        ("ci", "ci.zip", "./start.sh"),
        ("source", "source.zip", "./latest"),
        ("npm", "npm.tgz", "node server.js"),
        ("jar", "app.jar", "python3 app.jar"),
        ("boot", "boot.jar", "./app"),
        ("bootjar", "boot.jar", "python3 app.jar"),
        ("venv", "venv.tgz", "./venv/bin/python app.py"),
    ] {
        // A zip whose one directory is bin/ inside of shop/: only the outermost is left out.
        let run = if project == "windows" { "./bin/hello" } else { run };
        machine.drop_spec(project, &spec(project, file, run, ""));
    }
    for project in ["finder", "bsdtar", "windows", "ci", "source", "npm", "jar", "boot", "bootjar", "venv"] {
        machine.wait_for_answer(&format!("{project}.example.com"), "/", "hello from");
    }
    assert_eq!(machine.must("ls -A /zexio/apps/finder/releases/1"), ".zexio-release.json\nhello");
    // The same directory, sent from here.
    assert_eq!(machine.apply("sent", &spec("sent", "venv.tgz", "./venv/bin/python app.py", "")).status, 0);
    machine.must("touch /root/w/env/.DS_Store && zexio deploy sent /root/w/env --wait=150s");
    machine.wait_for_answer("sent.example.com", "/", "hello from");
    assert_eq!(machine.sh("ls /zexio/apps/sent/releases/2/.DS_Store").status, 2);
}

#[test]
fn what_an_artifact_lacks_is_told_before_anything_starts() {
    let machine = Machine::with_agent();
    applications(&machine);
    machine.must(
        r"cd /root/w && mkdir -p dist/public && cp hello dist/ && tar czf dist.tgz dist && tar czf flat.tgz hello
          printf '#!/bin/sh\r\nexec ./hello\r\n' >run.sh && chmod +x run.sh && tar czf crlf.tgz run.sh hello
          mkdir l && ln -s /usr/bin/python9.9 l/python && cp hello l && tar czf link.tgz -C l . && ln -s /etc/passwd out && tar czf out.tgz out hello
          python3 -c 'import zipfile; zipfile.ZipFile(\'app.jar\', \'w\').writestr(\'META-INF/MANIFEST.MF\', \'x\')'
          mkdir build && printf '#!/bin/sh\nexec ./hello\n' >build/run && cp hello build/ && echo >build/app.py && tar czf build.tgz build
          printf '#!/usr/bin/env pythonx\n' >x && printf '#!/root/.pyenv/shims/python3\n' >home && chmod +x x home && tar czf first.tgz x home
          printf '@echo off\r\nnode server.js\r\n' >start.cmd && tar czf cmd.tgz start.cmd && printf 'MZ\220\0\3\0\0\0' >app.exe && tar czf exe.tgz app.exe
          python3 -c 'd = bytearray(open(\'hello\', \'rb\').read()); d[18] = 62 + 183 - d[18]; open(\'other\', \'wb\').write(d)' && tar czf other.tgz other
          printf 'version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 3\n' >big && chmod +x big && tar czf lfs.tgz big
          mkdir -p venv/bin && ln -s /opt/hostedtoolcache/Python/3.11.9/x64/bin/python3.11 venv/bin/python && cp hello venv && tar czf venv.tgz -C venv .
          cp *.tgz *.jar /zexio/artifacts/"
            .replace("\\'", "\"")
            .as_str(),
    );
    let site = "zexio: 1\nproject: site\nartifact: { file: dist.tgz }\nprocesses: { docs: { static: dist/public, routes: [{ host: site.example.com, tls: internal }] } }\n";
    machine.drop_spec("site", site);
    let cases = [
        ("stripped", "dist.tgz", "./dist/hello", "its one top directory \"dist\" was stripped: write ./hello"),
        ("named", "flat.tgz", "hello", "the artifact has it: write ./hello"),
        ("crlf", "crlf.tgz", "./run.sh", "./run.sh has Windows line ends (CRLF)"),
        ("crlfarg", "crlf.tgz", "sh run.sh", "run.sh has Windows line ends (CRLF)"),
        (
            "link",
            "link.tgz",
            "./python x",
            "a link to /usr/bin/python9.9, and this server does not have that; it has python3",
        ),
        ("out", "out.tgz", "./hello", "its target is absolute"),
        ("jar", "app.jar", "java -jar shop.jar", "it has app.jar: write app.jar"),
        ("near", "flat.tgz", "./helo", "it has hello: write ./hello"),
        ("script", "build.tgz", "sh build/run", "its one top directory \"build\" was stripped: write ./run"),
        ("module", "build.tgz", "gunicorn build.app", "directory \"build\" of the artifact was stripped: write app"),
        ("package", "build.tgz", "npm start", "no package.json, which npm needs in process web; its one top directory"),
        ("env", "first.tgz", "./x", "whose first line names pythonx, which this server does not have"),
        (
            "home",
            "first.tgz",
            "./home",
            "names /root/.pyenv/shims/python3, which is out of reach; apps cannot get at homes",
        ),
        ("cmd", "cmd.tgz", "./start.cmd", "which is a script for Windows"),
        ("exe", "exe.tgz", "./app.exe", "which is a program for Windows: build it for Linux"),
        ("other", "other.tgz", "./other", "and this server is"),
        ("lfs", "lfs.tgz", "./big", "which is a Git LFS pointer and not the file itself"),
        ("venv", "venv.tgz", "./hello", "make the virtual environment with `/usr/bin/python3 -m venv`"),
        ("python", "flat.tgz", "python app.py", "runs python, which this server does not have; it has python3"),
    ];
    for (project, file, run, _) in cases {
        machine.drop_spec(project, &spec(project, file, run, ""));
    }
    let told = |project: &str, said: &str| {
        machine.wait_until(said, || machine.sh(&format!("zexio why {project}")).stdout.contains(said));
        assert!(machine.status_has(project, "ArtifactFailed"));
        let started = machine.must(&format!("journalctl -q --grep 'zexio-{project}-.*r1' _PID=1 | wc -l || true"));
        assert_eq!(started, "0", "{project}: nothing was started");
    };
    for (project, _, _, said) in cases {
        told(project, said);
    }
    told("site", "which process docs serves; its one top directory \"dist\" was stripped: write public");
    // The release command is judged like a process.
    let release = "release: { run: ./migrate }\n";
    machine.drop_spec("migrate", &spec("migrate", "flat.tgz", "./hello", release));
    told("migrate", "the artifact has no ./migrate, which the release command runs; at its top it has hello");
    // What serves goes on, and the mend is a new spec.
    machine.drop_spec("stripped", &spec("stripped", "dist.tgz", "./hello", ""));
    machine.wait_for_answer("stripped.example.com", "/", "hello from");
    machine.drop_spec("stripped", &spec("stripped", "dist.tgz", "./helo", ""));
    machine.wait_until("the reason", || machine.status_has("stripped", "write./hello"));
    machine.wait_for_answer("stripped.example.com", "/", "release");
    // From here, the same is said before anything is sent.
    assert_eq!(machine.apply("sent", &spec("sent", "dist.tgz", "./hello", "")).status, 0);
    machine.must("mkdir /root/w/empty && cp /root/w/hello /root/w/empty/helo");
    let said = machine.sh("zexio deploy sent /root/w/empty");
    assert!(said.status == 1 && said.stderr.contains("it has helo: write ./helo"), "{}", said.stderr);
}

#[test]
fn a_command_is_filled_in_and_a_path_of_the_apps_own_is_used() {
    let machine = Machine::with_agent();
    applications(&machine);
    machine.must("cd /root/w && mkdir -p app/bin && cp hello app/bin/ && echo page >app/index.html && tar czf /zexio/artifacts/app.tgz app");
    let serve = "python3 -m http.server --bind $HOST ${PORT}";
    machine.drop_spec("filled", &spec("filled", "app.tgz", serve, ""));
    machine.wait_for_answer("filled.example.com", "/", "page");
    let list =
        r#"[sh, -c, "echo $DATA_DIR $$PORT >$DATA_DIR/said; x=$PORT; exec python3 -m http.server --bind $HOST $x"]"#;
    machine.drop_spec("listed", &spec("listed", "app.tgz", list, ""));
    machine.wait_for_answer("listed.example.com", "/", "page");
    let port = machine.must("zexio status listed -o json | grep -o '\"port\": *[0-9]*' | grep -o '[0-9]*' | head -1");
    assert_eq!(machine.must("cat /zexio/apps/listed/data/said"), format!("/zexio/apps/listed/data {port}"));
    let env = "env: { PATH: './bin:$PATH', LD_LIBRARY_PATH: ./lib }\n";
    machine.drop_spec("path", &spec("path", "app.tgz", "hello", env));
    machine.wait_for_answer("path.example.com", "/", "hello from");
    let path = machine.get("path.example.com", "/env/PATH").1;
    assert_eq!(path, "./bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    assert_eq!(machine.get("path.example.com", "/env/LD_LIBRARY_PATH").1, "./lib");
    // What is shown can be applied again, as it is and changed.
    machine.must("printf hidden | zexio secret set shown KEY || true");
    let more = "env: { GREETING: 'good morning' }\nsecrets: [KEY]\n";
    machine.write_file("/root/shown.yaml", &spec("shown", "app.tgz", "./bin/hello", more));
    machine.must("zexio apply -f /root/shown.yaml && printf hidden | zexio secret set shown KEY");
    machine.wait_for_answer("shown.example.com", "/", "hello from");
    for format in ["yaml", "json"] {
        machine.must(&format!(
            "zexio get shown -o {format} >/root/again && grep -q sealed /root/again && zexio validate /root/again"
        ));
        machine.must("zexio plan -f /root/again && zexio apply -f /root/again --wait=150s");
        assert!(machine.status_has("shown", r#""generation":1,"#), "{format}: nothing changed");
    }
    machine.must("sed -i 's/\"keep\": 5/\"keep\": 4/' /root/again && zexio apply -f /root/again --wait=150s");
    assert!(machine.status_has("shown", r#""generation":2,"#) && machine.status_has("shown", r#""keep":4"#));
    assert_eq!(machine.get("shown.example.com", "/env/GREETING").1, "good morning");
    machine.must("zexio get shown -o yaml >/zexio/specs/copied.yaml");
    machine.wait_until("the refusal", || machine.sh("zexio get").stdout.contains("a file has the value itself"));
    machine.must("rm /zexio/specs/copied.yaml");
    // What only a shell understands is refused through every door, and what serves goes on.
    machine.write_file("/root/shell.yaml", &spec("shell", "app.tgz", "cd app && ./hello", ""));
    for command in
        ["zexio validate /root/shell.yaml", "zexio plan -f /root/shell.yaml", "zexio apply -f /root/shell.yaml"]
    {
        let said = machine.sh(command);
        let all = format!("{}{}", said.stdout, said.stderr);
        assert!(said.status == 1 && all.contains(r#"[sh, -c, "cd app && exec ./hello"]"#), "{command}: {all}");
    }
    machine.drop_spec("path", &spec("path", "app.tgz", "NODE_ENV=production hello", env));
    machine.wait_until("the refusal", || machine.status_has("path", "putNODE_ENVunderenv"));
    machine.wait_for_answer("path.example.com", "/", "hello from");
}
