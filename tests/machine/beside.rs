//! A server that serves already: zexio comes, works, and goes, and no request of what was there fails.

use serde_json::Value;

use crate::machine::{Machine, Said, web_spec};

/// Asks for each site again and again, on new connections and on kept ones, and counts what is not as it was at first.
const CLIENT: &str = r#"
import http.client, json, os, ssl, sys, threading, time
sites = json.load(open("/root/sites.json"))
free = ssl._create_unverified_context()
counts, lock, stop = {}, threading.Lock(), threading.Event()
new = {"ok": 0, "failed": 0, "again": 0, "why": ""}

def ask(kept, site):
    connection = kept or (http.client.HTTPSConnection if site["tls"] else http.client.HTTPConnection)(
        "127.0.0.1", site["port"], timeout=10, **({"context": free} if site["tls"] else {}))
    if site["tls"] and not kept:
        import socket
        raw = socket.create_connection(("127.0.0.1", site["port"]), 10)
        connection.sock = free.wrap_socket(raw, server_hostname=site["host"])
    connection.request("GET", site["path"], headers={"Host": site["host"]})
    answer = connection.getresponse()
    return connection, answer.status, answer.read().decode()

def loop(site, keep):
    kept, again, name = None, False, site["host"] + site["path"]
    while not stop.is_set():
        try:
            connection, status, body = ask(kept, site)
            good, why = status == 200 and site["says"] in body, f"{status} {body[:60]}"
            kept = connection if keep else connection.close()
        except Exception as error:
            if kept: # Caddy may close a connection that is kept between two requests: that is HTTP, and no failure
                kept = None
                continue
            # Caddy itself drops a connection that is being opened while it loads a configuration, once in many loads: a
            # `systemctl reload caddy` without zexio does the same. Nothing was answered; asked again, it must answer.
            if not again and isinstance(error, (ConnectionError, ssl.SSLError)):
                again = True
                with lock: counts.setdefault(name, dict(new))["again"] += 1
                continue
            good, why = False, repr(error)
        again = False
        with lock:
            entry = counts.setdefault(name, dict(new))
            entry["ok" if good else "failed"] += 1
            if not good: entry["why"] = why
        time.sleep(0.004)

threads = [threading.Thread(target=loop, args=(site, keep)) for site in sites for keep in (False, True)]
[thread.start() for thread in threads]
while not os.path.exists("/root/stop"): time.sleep(0.05)
stop.set()
[thread.join() for thread in threads]
json.dump(counts, open("/root/counts.part", "w"))
os.rename("/root/counts.part", "/root/counts.json")
"#;

/// A site that is there: its host, and what it says.
struct Site {
    host: &'static str,
    port: u16,
    says: &'static str,
}

const fn http(host: &'static str, says: &'static str) -> Site {
    Site { host, port: 80, says }
}

/// A server of somebody's: its Caddyfile, what else is in /etc/caddy, and what it serves.
struct Server {
    name: &'static str,
    caddyfile: &'static str,
    files: &'static [(&'static str, &'static str)],
    sites: &'static [Site],
}

const SERVERS: &[Server] = &[
    Server {
        name: "sites alone",
        caddyfile: "http://old.example.com {\n\thandle /a* {\n\t\trespond a\n\t}\n\thandle {\n\t\trespond \"old site\"\n\t}\n}\n\nsecure.example.com {\n\ttls internal\n\trespond secure\n}\n",
        files: &[],
        sites: &[http("old.example.com", "old site"), Site { host: "secure.example.com", port: 443, says: "secure" }],
    },
    Server {
        name: "global options, environment, relative imports, snippets",
        caddyfile: "{\n\tgrace_period 5s\n\tskip_install_trust\n\temail {$MAIL}\n}\n(plain) {\n\theader X-From theirs\n}\nhttp://{$OLD_HOST} {\n\timport plain\n\trespond \"old site\"\n}\nimport sites/*\n",
        files: &[("sites/two", "http://two.example.com {\n\trespond two\n}\n")],
        sites: &[http("old.example.com", "old site"), http("two.example.com", "two")],
    },
    Server {
        name: "CRLF and no final newline, a catch-all on 80",
        caddyfile: "{\r\n\tskip_install_trust\r\n}\r\n:80 {\r\n\trespond \"catch all\"\r\n}\r\nsecure.example.com {\r\n\ttls internal\r\n\trespond secure\r\n}",
        files: &[],
        sites: &[http("any.example.com", "catch all"), Site { host: "secure.example.com", port: 443, says: "secure" }],
    },
    Server {
        name: "an admin endpoint elsewhere, other ports",
        caddyfile: "{\n\tadmin localhost:2020\n\thttp_port 8080\n\tskip_install_trust\n}\nhttp://old.example.com {\n\trespond \"old site\"\n}\nhttp://:8181 {\n\trespond eight\n}\n",
        files: &[],
        sites: &[
            Site { host: "old.example.com", port: 8080, says: "old site" },
            Site { host: "x.example.com", port: 8181, says: "eight" },
        ],
    },
    Server {
        name: "the distribution's file with somebody's page",
        caddyfile: "# mine\n:80 {\n\troot * /usr/share/caddy\n\tfile_server\n}\n",
        files: &[("../../usr/share/caddy/mine.html", "my page")],
        sites: &[http("any.example.com", "my page")],
    },
];

fn machine_of(server: &Server, newer: bool) -> Machine {
    let machine = Machine::start();
    if newer {
        machine.must("install -m 755 /built/caddy/caddy /usr/bin/caddy");
    }
    machine.must("mkdir -p /etc/systemd/system/caddy.service.d /etc/caddy/sites");
    machine.write_file(
        "/etc/systemd/system/caddy.service.d/theirs.conf",
        "[Service]\nEnvironment=MAIL=ops@example.com OLD_HOST=old.example.com\n",
    );
    machine.write_file("/etc/caddy/Caddyfile", server.caddyfile);
    for (path, text) in server.files {
        machine.write_file(&format!("/etc/caddy/{path}"), text);
    }
    machine.must("systemctl daemon-reload; systemctl enable --now caddy");
    machine
}

fn start_clients(machine: &Machine, sites: &[Site]) {
    let of = |site: &Site| {
        let path = if site.says == "my page" { "/mine.html" } else { "/" };
        serde_json::json!({ "host": site.host, "port": site.port, "tls": site.port == 443, "says": site.says, "path": path })
    };
    machine.write_file("/root/sites.json", &Value::Array(sites.iter().map(of).collect()).to_string());
    machine.write_file("/root/client.py", CLIENT);
    machine.must("rm -f /root/stop /root/counts.json; systemd-run -q --unit=clients -p RemainAfterExit=yes python3 /root/client.py");
}

/// Ends the clients; nothing may have failed, and there was something to count.
fn no_request_failed(machine: &Machine, when: &str) -> u64 {
    machine.must("touch /root/stop");
    machine.wait_until("the clients to end", || machine.sh("test -e /root/counts.json").status == 0);
    machine.must("systemctl stop clients");
    let counts: Value = serde_json::from_str(&machine.must("cat /root/counts.json")).expect("JSON");
    let all: Vec<&Value> = counts.as_object().expect("counts").values().collect();
    assert!(all.iter().all(|site| site["failed"] == 0), "{when}: {counts}");
    assert!(all.iter().all(|site| site["ok"].as_u64() > Some(20)), "{when}: it was a load: {counts}");
    assert!(all.iter().all(|site| site["again"].as_u64() < Some(10)), "{when}: connections at a load: {counts}");
    all.iter().filter_map(|site| site["ok"].as_u64()).sum()
}

fn answers(machine: &Machine, site: &Site) -> bool {
    let Site { host, port, says } = site;
    let (scheme, path) =
        (if *port == 443 { "https" } else { "http" }, if *says == "my page" { "mine.html" } else { "" });
    let said = machine
        .sh(&format!("curl -sk --max-time 10 --resolve {host}:{port}:127.0.0.1 {scheme}://{host}:{port}/{path}"));
    said.stdout.contains(says)
}

fn all_answer(machine: &Machine, server: &Server) {
    for site in server.sites {
        machine.wait_until(&format!("{} to answer after a boot", site.host), || answers(machine, site));
    }
}

fn install(machine: &Machine) {
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    machine.must(&format!("make -s -C /src install PROFILE={profile} CARGO_TARGET_DIR=/built"));
}

fn init(machine: &Machine, options: &str) -> Said {
    machine.sh(&format!("zexio init {options} </dev/null"))
}

fn caddy_pid(machine: &Machine) -> String {
    machine.main_pid("caddy")
}

/// The whole life of zexio on such a server.
fn lives_beside(server: &Server, newer: bool) {
    let machine = machine_of(server, newer);
    let case = format!("{}, newer Caddy: {newer}", server.name);
    all_answer(&machine, server);
    start_clients(&machine, server.sites);
    let pid = caddy_pid(&machine);
    install(&machine);
    let first = init(&machine, "");
    assert_eq!(first.status, 0, "{case}: {}{}", first.stdout, first.stderr);
    assert!(
        first.stdout.contains("of its own") && first.stdout.contains("nothing was changed"),
        "{case}: {}",
        first.stdout
    );
    assert_eq!(
        machine.must("cat /etc/caddy/Caddyfile"),
        server.caddyfile.trim(),
        "{case}: without a word nothing changes"
    );
    for time in ["first", "second"] {
        let said = init(&machine, "--yes");
        assert_eq!(said.status, 0, "{case}, {time} time: {}{}", said.stdout, said.stderr);
    }
    let joined = machine.must("cat /etc/caddy/Caddyfile");
    assert!(
        joined.contains("import /etc/caddy/zexio.caddyfile") && joined.contains("admin unix//run/caddy/admin.sock")
    );
    assert_eq!(
        machine.must("cat /etc/caddy/Caddyfile.before-zexio"),
        server.caddyfile.trim(),
        "{case}: a copy is kept"
    );
    machine.must(r#"echo 'artifacts: { allow: ["http://127.0.0.1:9000/"] }' >>/etc/zexio/agent.yaml"#);
    machine.must("systemctl enable --now zexio-agent");
    machine.must("mkdir -p /srv/artifacts && systemd-run -q --unit=artifacts caddy file-server --listen 127.0.0.1:9000 --root /srv/artifacts");
    machine.wait_until("the agent to be healthy", || machine.healthy());
    machine.publish("1.0.0");
    machine.publish("2.0.0");
    for version in ["1.0.0", "2.0.0"] {
        let said = machine.apply("shop", &web_spec("shop", version, "./hello", ""));
        assert_eq!(said.status, 0, "{case}: {}{}", said.stdout, said.stderr);
    }
    machine.must("systemctl reload caddy");
    machine.wait_for_answer("shop.example.com", "/", "2.0.0");
    machine.must("systemctl restart zexio-agent");
    machine.wait_until("the agent to be healthy", || machine.healthy());
    let doctor = machine.sh("zexio doctor").stdout;
    assert!(doctor.contains("imports /etc/caddy/zexio.caddyfile, and Caddy serves both"), "{case}: {doctor}");
    assert_eq!(caddy_pid(&machine), pid, "{case}: it was never restarted");
    let asked = no_request_failed(&machine, &case);

    machine.reboot();
    all_answer(&machine, server);
    machine.wait_for_answer("shop.example.com", "/", "2.0.0");
    start_clients(&machine, server.sites);
    machine.must("make -s -C /src uninstall");
    machine.must("systemctl stop zexio-agent; systemctl daemon-reload; systemctl reload caddy");
    let more = no_request_failed(&machine, &format!("{case}, make uninstall"));
    machine.reboot();
    all_answer(&machine, server);
    machine.must("systemctl is-active caddy");
    eprintln!("{case}: {} requests, 0 failed", asked + more);
}

#[test]
fn zexio_lives_beside_the_sites_of_the_distributions_caddy() {
    SERVERS.iter().for_each(|server| lives_beside(server, false));
}

#[test]
fn zexio_lives_beside_the_sites_of_a_newer_caddy() {
    SERVERS.iter().for_each(|server| lives_beside(server, true));
}

/// What stands against it: the Caddyfile, what is done before `zexio init`, and what that says.
struct Against {
    caddyfile: &'static str,
    before: &'static str,
    says: &'static [&'static str],
}

const SITE: &str = "http://old.example.com {\n\trespond \"old site\"\n}\n";

const AGAINST: &[Against] = &[
    Against {
        caddyfile: "{\n\tadmin off\n}\nhttp://old.example.com {\n\trespond \"old site\"\n}\n",
        before: "true",
        says: &["`admin off` in line 2", "`zexio init --yes --restart-caddy`", "nothing was changed"],
    },
    Against {
        caddyfile: SITE,
        before: "sed -i 's/old site/edited/' /etc/caddy/Caddyfile",
        says: &["old.example.com", "systemctl reload caddy", "nothing was changed"],
    },
    Against {
        caddyfile: SITE,
        before: "printf '\\nx.example.com {\\n\\tnonsense\\n}\\n' >>/etc/caddy/Caddyfile",
        says: &["/etc/caddy/Caddyfile line 6 is not valid", "nonsense", "nothing was changed"],
    },
    Against {
        caddyfile: SITE,
        before: "printf '# Written by zexio from its template /etc/zexio/Caddyfile.tmpl; edit that one.\\nhttp://old.example.com {\\n}\\n' >/etc/caddy/zexio.caddyfile",
        says: &[
            "ambiguous site definition",
            "old.example.com",
            "line 1 of /etc/caddy/Caddyfile",
            "nothing was changed",
        ],
    },
    Against {
        caddyfile: "import options\nhttp://old.example.com {\n\trespond \"old site\"\n}\n",
        before: "rm -f /etc/caddy/zexio.caddyfile",
        says: &["a file that it imports", "`admin unix//run/caddy/admin.sock`", "nothing was changed"],
    },
    Against {
        caddyfile: "http://old.example.com {\n\trespond \"old site\"\n}\nimport *.caddyfile\n",
        before: "true",
        says: &["`import *.caddyfile` in line 4", "nothing was changed"],
    },
    Against {
        caddyfile: SITE,
        before: "curl -s -X POST -H 'Content-Type: application/json' -d '{\"listen\":[\":81\"],\"routes\":[{\"handle\":[{\"handler\":\"static_response\"}]}]}' http://localhost:2019/config/apps/http/servers/extra",
        says: &[":81", "systemctl reload caddy", "nothing was changed"],
    },
    Against {
        caddyfile: SITE,
        before: "mkdir -p /etc/systemd/system/caddy.service.d && printf '[Service]\\nExecStart=\\nExecStart=/usr/bin/caddy run --resume --config /etc/caddy/Caddyfile\\n' >/etc/systemd/system/caddy.service.d/x.conf && systemctl daemon-reload && systemctl restart caddy",
        says: &["--resume", "caddy run --config /etc/caddy/Caddyfile", "nothing was changed"],
    },
    Against {
        caddyfile: SITE,
        before: "rm /etc/systemd/system/caddy.service.d/x.conf; systemctl daemon-reload; systemctl stop caddy; systemctl start caddy-api",
        says: &["caddy-api.service", "nothing was changed"],
    },
];

#[test]
fn what_stands_against_it_is_told_with_its_line_and_nothing_is_changed() {
    let machine = Machine::start();
    machine.write_file("/etc/caddy/options", "{\n\tgrace_period 3s\n}\n");
    install(&machine);
    for Against { caddyfile, before, says } in AGAINST {
        machine.write_file("/etc/caddy/Caddyfile", caddyfile);
        // A quick machine would come to systemd's limit of starts.
        machine.must("systemctl reset-failed caddy || true; systemctl restart caddy");
        machine.must(before);
        let pid = caddy_pid(&machine);
        let print = "sha256sum /etc/caddy/Caddyfile; ls -A /etc/caddy";
        let (served, file) = (
            machine.sh("curl -s http://localhost:2019/config/").stdout,
            machine.must("sha256sum /etc/caddy/Caddyfile"),
        );
        let said = init(&machine, "--yes");
        assert_eq!(said.status, 1, "{before}: {}{}", said.stdout, said.stderr);
        assert!(says.iter().all(|part| said.stderr.contains(part)), "{before}: {}", said.stderr);
        assert_eq!(machine.must("sha256sum /etc/caddy/Caddyfile"), file, "{before}");
        assert_eq!(machine.sh("curl -s http://localhost:2019/config/").stdout, served, "{before}");
        assert_eq!(caddy_pid(&machine), pid, "{before}");
        // What `zexio init` refused is what `zexio doctor` names, and no promise that it would do.
        let doctor = machine.sh("zexio doctor");
        assert!(doctor.status == 1 && doctor.stdout.contains(says[0]), "{before}: {}", doctor.stdout);
        assert!(!doctor.stdout.contains("`zexio init --yes` joins them"), "{before}: {}", doctor.stdout);
        assert!(!machine.must(print).contains("draft"), "{before}: nothing is left over");
    }
}

#[test]
fn a_person_is_asked_and_a_link_stays_a_link() {
    let machine = Machine::start();
    machine.must("mkdir -p /srv/infra && rm /etc/caddy/Caddyfile && ln -s /srv/infra/Caddyfile /etc/caddy/Caddyfile");
    machine.write_file("/srv/infra/Caddyfile", &format!("{{\n\thttp_port 8080\n}}\n{SITE}"));
    machine.must(
        "chown root:caddy /srv/infra/Caddyfile && chmod 640 /srv/infra/Caddyfile && systemctl enable --now caddy",
    );
    install(&machine);
    let on_a_terminal = |answer: &str| machine.sh(&format!("echo {answer} | script -qec 'zexio init' /dev/null"));
    let no = on_a_terminal("n");
    assert!(
        no.status == 1 && no.stdout.contains("serves 1 site here (old.example.com). It stays as it is"),
        "{}",
        no.stdout
    );
    assert!(no.stdout.contains("`http_port 8080` in line 2") && no.stdout.contains("[Y/n]"), "{}", no.stdout);
    assert!(!machine.must("cat /srv/infra/Caddyfile").contains("zexio"), "a no is a no");
    let yes = on_a_terminal("");
    assert_eq!(yes.status, 0, "{}", yes.stdout);
    assert!(machine.must("cat /srv/infra/Caddyfile").contains("import /etc/caddy/zexio.caddyfile"));
    assert_eq!(
        machine.must("readlink /etc/caddy/Caddyfile; stat -Lc %a:%U:%G /etc/caddy/Caddyfile"),
        "/srv/infra/Caddyfile\n640:root:caddy"
    );
    assert_eq!(machine.must("stat -c %a:%U:%G /run/caddy"), "700:caddy:caddy");
    machine.must(
        "systemctl restart caddy && curl -sf --resolve old.example.com:8080:127.0.0.1 http://old.example.com:8080/",
    );
}

#[test]
fn admin_off_is_replaced_only_when_a_restart_is_allowed() {
    let machine = Machine::start();
    machine.write_file("/etc/caddy/Caddyfile", &format!("{{\n\tadmin off\n}}\n{SITE}"));
    machine.must("systemctl enable --now caddy");
    install(&machine);
    // Each answer has the whole command, and without a yes nothing changes.
    for flags in ["", "--restart-caddy"] {
        let said = init(&machine, flags);
        assert!(
            said.status == 0 && said.stdout.contains("`zexio init --yes --restart-caddy`"),
            "{flags}: {}",
            said.stdout
        );
        assert!(said.stdout.contains("(old.example.com): `admin off` in line 2"), "{flags}: {}", said.stdout);
        assert!(!machine.must("cat /etc/caddy/Caddyfile").contains("zexio"));
    }
    let said = init(&machine, "--yes --restart-caddy");
    assert!(said.status == 0 && said.stdout.contains("restarted caddy.service"), "{}{}", said.stdout, said.stderr);
    assert!(machine.must("cat /etc/caddy/Caddyfile").contains("# admin off"));
    assert!(answers(&machine, &http("old.example.com", "old site")));
}

#[test]
fn a_caddy_that_is_stopped_is_started_with_its_sites_and_one_without_a_file_gets_one() {
    let machine = Machine::start();
    install(&machine);
    machine.must("rm /etc/caddy/Caddyfile");
    let said = init(&machine, "");
    assert!(said.status == 0 && said.stdout.contains("started caddy.service"), "{}{}", said.stdout, said.stderr);
    assert_eq!(
        machine.must("wc -l </etc/caddy/Caddyfile; systemctl is-active caddy; systemctl is-enabled caddy"),
        "8\nactive\nenabled"
    );

    machine.must("systemctl stop caddy; mkdir -p /etc/systemd/system/caddy.service.d");
    machine.write_file("/etc/systemd/system/caddy.service.d/x.conf", "[Service]\nEnvironment=OLD=old.example.com\n");
    machine.write_file("/etc/caddy/Caddyfile", "http://{$OLD} {\n\trespond \"old site\"\n}\n");
    machine.must("systemctl daemon-reload");
    let said = init(&machine, "");
    assert!(said.status == 0 && said.stdout.contains("nothing was changed"), "{}{}", said.stdout, said.stderr);
    assert_ne!(machine.sh("systemctl is-active caddy").status, 0);
    let said = init(&machine, "--yes");
    assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
    assert!(answers(&machine, &http("old.example.com", "old site")));
    machine.must("grep -q zexio.caddyfile /etc/caddy/Caddyfile && systemctl restart caddy");
    assert!(answers(&machine, &http("old.example.com", "old site")));
}

#[test]
fn who_has_the_port_is_named() {
    let machine = Machine::start();
    machine.must("systemd-run -q --unit=squatter python3 -m http.server 80");
    machine.wait_until("the port to be taken", || machine.sh("curl -sf http://localhost/").status == 0);
    machine.sh("systemctl enable --now caddy");
    install(&machine);
    let said = init(&machine, "");
    assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
    let pid = machine.main_pid("squatter");
    assert!(said.stdout.contains(&format!("process {pid} (python3) listens on port 80")), "{}", said.stdout);
    assert!(machine.sh("zexio doctor").stdout.contains(&format!("process {pid} (python3) listens on 80")));
    machine.must("curl -sf http://localhost/ && systemctl is-active caddy");
}

const NGINX: &str = "server {
  listen 80;
  listen 443 ssl;
  server_name shop.example.com;
  ssl_certificate /srv/shop.crt;
  ssl_certificate_key /srv/shop.key;
  location / {
    proxy_pass http://127.0.0.1:7480;
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
  }
}
server { listen 80; server_name old.example.com; location / { return 200 'old site'; } }
";

#[test]
fn caddy_stands_behind_nginx_which_is_left_alone() {
    let machine = Machine::start();
    machine.must(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=shop.example.com -keyout /srv/shop.key -out /srv/shop.crt 2>/dev/null",
    );
    machine.write_file("/etc/nginx/conf.d/sites.conf", NGINX);
    machine.must("systemctl enable --now nginx");
    let old = "curl -sf --resolve old.example.com:80:127.0.0.1 http://old.example.com/";
    machine.wait_until("nginx to serve", || machine.sh(old).stdout.trim() == "old site");
    let pid = machine.main_pid("nginx");
    // The distribution's Caddyfile wants port 80 too.
    machine.sh("systemctl enable --now caddy");
    install(&machine);
    machine.write_file("/etc/zexio/agent.yaml", "caddy: { behind: nginx }\n");
    let said = init(&machine, "");
    assert!(said.status == 0 && !said.stdout.contains("port 80"), "{}{}", said.stdout, said.stderr);
    machine.must("systemctl is-active caddy && systemctl enable --now zexio-agent");
    machine.wait_until("the agent to be healthy", || machine.healthy());
    machine.write_file("/zexio/artifacts/echo", ECHO);
    let spec = "zexio: 1\nproject: shop\nartifact: { file: echo }\nprocesses:\n  web:\n    run: ./app\n    ready: { http: / }\n    routes: [{ host: shop.example.com }]\ndeploy: { verify: { http: /, within: 30s } }\n";
    let said = machine.apply("shop", spec);
    assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
    for (scheme, port) in [("https", 443), ("http", 80)] {
        let asked =
            machine.must(&format!("curl -sk --resolve shop.example.com:{port}:127.0.0.1 {scheme}://shop.example.com/"));
        assert_eq!(asked, format!("127.0.0.1, 127.0.0.1 {scheme} shop.example.com - -"));
    }
    let status = machine.must("zexio status shop -o json");
    assert!(!status.contains("certificate"), "nginx has them: {status}");
    let doctor = machine.sh("zexio doctor");
    assert!(doctor.stdout.contains("(nginx) listens on 443, in front of Caddy"), "{}", doctor.stdout);
    assert!(!doctor.stdout.contains("wrong   ports"), "{}", doctor.stdout);
    assert_eq!(machine.must(old), "old site");
    assert_eq!(machine.main_pid("nginx"), pid);
    machine.reboot();
    machine.wait_until("both to come back", || {
        machine.sh(old).stdout.trim() == "old site"
            && machine.sh("curl -skf --resolve shop.example.com:443:127.0.0.1 https://shop.example.com/").status == 0
    });
}

fn with_theirs(machine: &Machine) {
    machine.write_file("/etc/caddy/Caddyfile", SITE);
    machine.must("systemctl enable --now caddy");
    install(machine);
    machine.must(r#"echo 'artifacts: { allow: ["http://127.0.0.1:9000/"] }' >>/etc/zexio/agent.yaml"#);
    machine.must("mkdir -p /srv/artifacts && systemd-run -q --unit=artifacts caddy file-server --listen 127.0.0.1:9000 --root /srv/artifacts");
    machine.must("zexio init </dev/null && systemctl enable --now zexio-agent");
    machine.wait_until("the agent to be healthy", || machine.healthy());
    machine.publish("1.0.0");
    machine.publish("2.0.0");
}

#[test]
fn routes_wait_for_a_caddyfile_that_is_not_joined_and_come_with_it() {
    let machine = Machine::start();
    with_theirs(&machine);
    let pid = caddy_pid(&machine);
    machine.apply_and_go("shop", &web_spec("shop", "1.0.0", "./hello", ""));
    machine.wait_until("the routes to wait", || machine.status_has("shop", "\"RoutePending\""));
    assert!(machine.must("zexio get shop -o json").contains("serves 1 site of its own (old.example.com)"));
    let doctor = machine.sh("zexio doctor");
    assert!(doctor.status == 1 && doctor.stdout.contains("nothing changed"), "{}", doctor.stdout);
    assert_eq!(init(&machine, "--yes").status, 0);
    machine.wait_for_answer("shop.example.com", "/", "1.0.0");
    assert!(answers(&machine, &http("old.example.com", "old site")));
    assert_eq!(caddy_pid(&machine), pid);

    // The operator takes the line out again: it is told, and not put back.
    machine.must("sed -i '/^import .*zexio/d' /etc/caddy/Caddyfile && systemctl reload caddy");
    machine.wait_until("the routes to wait", || machine.status_has("shop", "\"RoutePending\""));
    assert!(!machine.must("cat /etc/caddy/Caddyfile").contains("zexio.caddyfile"));
    assert_eq!(init(&machine, "--yes").status, 0);
    machine.wait_for_answer("shop.example.com", "/", "1.0.0");
    machine.wait_until("it to be told", || machine.status_has("shop", "\"Serving\""));

    // A site that was there before and is gone is never well.
    machine.must("sed -i '/^http:..old/,/^}/d' /etc/caddy/Caddyfile && systemctl reload caddy");
    let doctor = machine.sh("zexio doctor");
    assert!(
        doctor.status == 1 && doctor.stdout.contains("old.example.com was served before zexio came, and is not now"),
        "{}",
        doctor.stdout
    );
}

#[test]
fn an_edit_that_is_not_loaded_or_not_valid_holds_back_new_routes_alone() {
    let machine = Machine::start();
    with_theirs(&machine);
    assert_eq!(init(&machine, "--yes").status, 0);
    assert_eq!(machine.apply("shop", &web_spec("shop", "1.0.0", "./hello", "")).status, 0);

    // Not valid.
    machine.must("printf 'x.example.com {\\n\\tnonsense\\n}\\n' >>/etc/caddy/Caddyfile");
    let said = machine.apply("shop", &web_spec("shop", "2.0.0", "./hello", ""));
    assert_eq!(said.status, 0, "a host that is there is deployed on: {}{}", said.stdout, said.stderr);
    machine.apply_and_go("blog", &web_spec("blog", "1.0.0", "./hello", ""));
    machine.wait_until("the new route to be refused", || machine.status_has("blog", "\"RouteRefused\""));
    let said = machine.must("zexio get blog -o json");
    let line = machine.must("grep -n nonsense /etc/caddy/Caddyfile | cut -d: -f1");
    assert!(said.contains(&format!("/etc/caddy/Caddyfile line {line} is not valid")), "{said}");
    let doctor = machine.sh("zexio doctor");
    assert!(doctor.status == 1 && doctor.stdout.contains(&format!("line {line} is not valid")), "{}", doctor.stdout);
    assert!(machine.get("shop.example.com", "/").1.contains("2.0.0"));

    // Valid, and not loaded.
    machine.must("sed -i '/^x.example.com/,/^}/d; s/old site/edited site/' /etc/caddy/Caddyfile");
    machine.wait_until("the new route to wait", || machine.status_has("blog", "edited"));
    assert!(machine.must("zexio get blog -o json").contains("systemctl reload caddy"));
    assert!(answers(&machine, &http("old.example.com", "old site")), "the edit is the operator's to load");
    machine.apply_and_go("shop", &web_spec("shop", "1.0.0", "./hello", ""));
    machine.wait_for_answer("shop.example.com", "/", "1.0.0");
    assert!(machine.sh("zexio doctor").stdout.contains("was edited and is not loaded"));
    machine.must("systemctl reload caddy");
    machine.wait_for_answer("blog.example.com", "/", "1.0.0");
    assert!(answers(&machine, &http("old.example.com", "edited site")));

    // The same host in both.
    machine.must("printf 'http://plain.example.com {\\n\\trespond theirs\\n}\\n' >>/etc/caddy/Caddyfile && systemctl reload caddy");
    let both = web_spec("wiki", "1.0.0", "./hello", "")
        .replace("wiki.example.com, tls: internal", "plain.example.com, tls: off");
    machine.apply_and_go("wiki", &both);
    let line = machine.must("grep -n plain.example.com /etc/caddy/Caddyfile | cut -d: -f1");
    machine.wait_until("the host to be named", || machine.status_has("wiki", "\"RouteRefused\""));
    let said = machine.must("zexio get wiki -o json");
    assert!(said.contains("plain.example.com") && said.contains(&format!("in line {line}")), "{said}");
    assert!(answers(&machine, &http("plain.example.com", "theirs")));
    assert!(machine.get("shop.example.com", "/").1.contains("hello"));
}

/// The place of a host in the operator's file, as it is named in our words.
fn place(machine: &Machine, host: &str, file: &str) -> String {
    format!("line {} of {file}", machine.must(&format!("grep -n '{host}' {file} | tail -1 | cut -d: -f1")))
}

#[test]
fn a_host_that_the_operator_has_too_is_named_with_its_file_and_comes_as_soon_as_it_is_free() {
    for newer in [false, true] {
        let machine = Machine::start();
        if newer {
            machine.must("install -m 755 /built/caddy/caddy /usr/bin/caddy");
        }
        with_theirs(&machine);
        assert_eq!(init(&machine, "--yes").status, 0);
        machine.must("printf 'import sites/*.caddy\\n' >>/etc/caddy/Caddyfile");
        // Caddy itself refuses the one; the other, which is written in another way, it would serve beside ours.
        let of = |host: &str| format!("/etc/caddy/sites/{host}.caddy");
        machine.write_file(&of("same"), "# theirs\nhttp://same.example.com {\n\trespond theirs\n}\n");
        machine.write_file(&of("odd"), "odd.example.com:443 {\n\ttls internal\n\trespond theirs\n}\n");
        machine.must("systemctl reload caddy");
        let plain = |project: &str| web_spec(project, "1.0.0", "./hello", "").replace("tls: internal", "tls: off");
        machine.apply_and_go("same", &plain("same"));
        machine.apply_and_go("odd", &web_spec("odd", "1.0.0", "./hello", ""));
        let theirs = [http("same.example.com", "theirs"), Site { host: "odd.example.com", port: 443, says: "theirs" }];
        for (project, site) in [("same", &theirs[0]), ("odd", &theirs[1])] {
            machine.wait_until("the host to be refused", || machine.status_has(project, "\"RouteRefused\""));
            let said = machine.must(&format!("zexio get {project} -o json"));
            let place = place(&machine, site.host, &of(project));
            assert!(said.contains(site.host) && said.contains(&place), "newer: {newer}: {said}");
            assert!(said.contains("\"live\": false"), "{said}");
            let doctor = machine.sh("zexio doctor");
            let named = format!("{} of {project} is not served: RouteRefused", site.host);
            assert!(doctor.status == 1 && doctor.stdout.contains(&named), "newer: {newer}: {}", doctor.stdout);
            assert!(answers(&machine, site), "newer: {newer}: theirs is served on");
        }
        machine.must(&format!("rm {} {} && systemctl reload caddy", of("same"), of("odd")));
        let ours = [http("same.example.com", "hello from same"), Site { says: "hello from odd", ..theirs[1] }];
        for site in &ours {
            machine.wait_until("what the operator gave up to be served", || answers(&machine, site));
        }
        machine.wait_until("both to be ready", || {
            ["same", "odd"].iter().all(|name| machine.status_has(name, "\"Serving\""))
        });
        let doctor = machine.sh("zexio doctor");
        assert!(
            doctor.status == 0 && doctor.stdout.contains("2 hosts are served"),
            "newer: {newer}: {}",
            doctor.stdout
        );
    }
}

#[test]
fn a_live_host_is_served_on_while_an_edit_that_is_not_loaded_has_it_too() {
    let machine = Machine::start();
    with_theirs(&machine);
    assert_eq!(init(&machine, "--yes").status, 0);
    assert_eq!(machine.apply("shop", &web_spec("shop", "1.0.0", "./hello", "")).status, 0);
    machine.must("printf 'shop.example.com {\\n\\ttls internal\\n\\trespond theirs\\n}\\n' >>/etc/caddy/Caddyfile");
    let place = place(&machine, "shop.example.com", "/etc/caddy/Caddyfile");
    machine.apply_and_go("blog", &web_spec("blog", "1.0.0", "./hello", ""));
    machine.wait_until("the new routes to wait", || machine.status_has("blog", "\"RoutePending\""));
    let told = format!("shop.example.com was added in {place}");
    let tries = format!("journalctl -u zexio-agent -o cat | grep -c '{told}' || true");
    machine.wait_until("it to be tried again and again", || {
        let shop = machine.must("zexio get shop -o json");
        assert!(shop.contains("\"Serving\"") && !shop.contains("\"live\": false"), "{shop}");
        let blog = machine.must("zexio get blog -o json");
        assert!(blog.contains("\"RoutePending\"") && blog.contains(&told), "{blog}");
        let answer = machine.get("shop.example.com", "/").1;
        assert!(answer.contains("hello from shop"), "{answer}");
        machine.must(&tries).parse::<u32>().is_ok_and(|tries| tries > 2)
    });
    let doctor = machine.sh("zexio doctor");
    assert!(doctor.status == 1 && doctor.stdout.contains(&told), "{}", doctor.stdout);
    assert!(doctor.stdout.contains("blog.example.com of blog is not served: RoutePending"), "{}", doctor.stdout);
    machine.must("sed -i '/^shop.example.com/,/^}/d' /etc/caddy/Caddyfile");
    machine.wait_for_answer("blog.example.com", "/", "hello from blog");
    assert!(machine.get("shop.example.com", "/").1.contains("hello from shop"));
}

#[test]
fn the_template_is_read_again_and_a_broken_one_does_not_hold() {
    let machine = Machine::start();
    with_theirs(&machine);
    assert_eq!(init(&machine, "--yes").status, 0);
    assert_eq!(machine.apply("shop", &web_spec("shop", "1.0.0", "./hello", "")).status, 0);
    let marked = |text: &str| {
        machine
            .must(&format!("sed -i 's|^{{#- ---- ... and above.*|{text}\\n&|' /etc/zexio/Caddyfile.tmpl && zexio sync"))
    };
    marked("\\nhttp://mine.example.com {{\\n\\trespond mine\\n}}".replace("{{", "{").replace("}}", "}").as_str());
    machine.wait_until("the site of the template", || answers(&machine, &http("mine.example.com", "mine")));
    for (broken, says) in
        [("{{% nonsense %}}", "nonsense"), ("http://bad.example.com {{\\n\\tnonsense\\n}}", "nonsense")]
    {
        machine.must("cp /etc/zexio/Caddyfile.tmpl /root/good.tmpl");
        marked(&broken.replace("{{", "{").replace("}}", "}"));
        machine.wait_until("it to be told", || {
            machine.status_has("shop", "thechangedCaddyfiletemplate") && machine.status_has("shop", says)
        });
        assert!(machine.status_has("shop", "\"Serving\""));
        assert_eq!(machine.sh("zexio doctor").status, 1);
        machine.must("systemctl restart zexio-agent");
        machine.wait_until("the agent to be healthy", || machine.healthy());
        assert_eq!(
            machine
                .apply("shop", &web_spec("shop", "2.0.0", "./hello", &format!("env: {{ A: \"{}\" }}\n", broken.len())))
                .status,
            0
        );
        let next = web_spec(if broken.starts_with('h') { "two" } else { "one" }, "1.0.0", "./hello", "");
        assert_eq!(
            machine.apply(if broken.starts_with('h') { "two" } else { "one" }, &next).status,
            0,
            "the last good one holds"
        );
        machine.must("cp /root/good.tmpl /etc/zexio/Caddyfile.tmpl && zexio sync");
        machine.wait_until("it to be over", || !machine.status_has("shop", "thechangedCaddyfiletemplate"));
    }
    assert!(answers(&machine, &http("mine.example.com", "mine")));
}

#[test]
fn a_server_of_the_version_before_is_moved_over_without_a_lost_request() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    assert_eq!(
        machine.apply("shop", &web_spec("shop", "1.0.0", "./hello", "").replace("tls: internal", "tls: off")).status,
        0
    );
    // As it was: all ours in one file, a site of the operator's in the template, the drop-in, no line for the directory.
    let options = "{\\n\\tadmin unix/{{ admin }}\\n\\tskip_install_trust\\n\\tgrace_period 4s\\n}";
    let mine = "http://mine.example.com {\\n\\trespond mine\\n}";
    machine.must(&format!(
        "systemctl stop zexio-agent
         python3 - <<'END'
template = open('/etc/zexio/Caddyfile.tmpl').read()
mark = template.index('{{#- ---- ... and above')
open('/etc/zexio/Caddyfile.tmpl', 'w').write('{options}\\n' + template[:mark] + '\\n{mine}\\n' + template[mark:])
ours = open('/etc/caddy/zexio.caddyfile').read()
first, rest = ours.split('\\n', 1)
options = '{options}'.replace('{{{{ admin }}}}', '//run/caddy/admin.sock'[1:])
open('/etc/caddy/Caddyfile', 'w').write(first + '\\n' + options + '\\n\\n{mine}\\n\\n' + rest)
END
         rm /etc/caddy/zexio.caddyfile /etc/tmpfiles.d/zexio-caddy.conf /etc/zexio/.Caddyfile.tmpl.good
         mkdir -p /usr/lib/systemd/system/caddy.service.d
         printf '[Service]\\nRuntimeDirectory=caddy\\nRuntimeDirectoryMode=0700\\n' >/usr/lib/systemd/system/caddy.service.d/zexio.conf
         systemctl daemon-reload && systemctl restart caddy"
    ));
    let sites = [http("shop.example.com", "hello from shop"), http("mine.example.com", "mine")];
    for site in &sites {
        machine.wait_until("the old server to serve", || answers(&machine, site));
    }
    let pid = caddy_pid(&machine);
    start_clients(&machine, &sites);
    install(&machine);
    machine.must("systemctl start zexio-agent");
    machine.wait_until("the agent to be healthy", || machine.healthy());
    let main = machine.must("cat /etc/caddy/Caddyfile");
    assert!(main.contains("import /etc/caddy/zexio.caddyfile") && main.contains("grace_period 4s"), "{main}");
    assert!(
        !main.contains("example.com") && machine.must("cat /etc/caddy/zexio.caddyfile").contains("mine.example.com")
    );
    assert_eq!(init(&machine, "").status, 0, "nothing of theirs is left to ask about");
    machine.publish("2.0.0");
    assert_eq!(
        machine.apply("shop", &web_spec("shop", "2.0.0", "./hello", "").replace("tls: internal", "tls: off")).status,
        0
    );
    assert_eq!(machine.apply("blog", &web_spec("blog", "2.0.0", "./hello", "")).status, 0);
    assert_eq!(caddy_pid(&machine), pid);
    no_request_failed(&machine, "moving over");
    assert_ne!(machine.sh("test -e /usr/lib/systemd/system/caddy.service.d/zexio.conf").status, 0);
    machine.must("systemctl restart caddy");
    assert!(sites.iter().all(|site| answers(&machine, site)));
    machine.reboot();
    for site in &sites {
        machine.wait_until("it to come back", || answers(&machine, site));
    }
    assert_eq!(
        machine.sh("curl -s http://127.0.0.1:2019/config/").status,
        7,
        "no admin endpoint that an app could reach"
    );
}

const ECHO: &str = r#"#!/usr/bin/python3
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        names = ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "X-Real-IP"]
        body = " ".join(self.headers.get(name, "-") for name in names).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"#;

#[test]
fn an_app_sees_the_client_behind_a_proxy_that_is_trusted_and_no_other() {
    for newer in [false, true] {
        let machine = Machine::start();
        if newer {
            machine.must("install -m 755 /built/caddy/caddy /usr/bin/caddy");
        }
        machine.install_agent();
        machine.must("ip addr add 192.0.2.7/32 dev lo; ip addr add 192.0.2.8/32 dev lo; ip link set lo up");
        machine.must("echo 'caddy: { trusted_proxies: [192.0.2.7, 2001:db8::/32] }' >>/etc/zexio/agent.yaml; systemctl restart zexio-agent");
        machine.wait_until("the agent to be healthy", || machine.healthy());
        machine.write_file("/zexio/artifacts/echo", ECHO);
        let spec = "zexio: 1\nproject: echo\nartifact: { file: echo }\nprocesses:\n  web:\n    run: ./app\n    ready: { http: / }\n    routes: [{ host: tls.example.com, tls: internal }, { host: plain.example.com, tls: off }]\n";
        let said = machine.apply("echo", spec);
        assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
        let ask = |from: &str, scheme: &str| {
            let (host, port) = if scheme == "https" { ("tls.example.com", 443) } else { ("plain.example.com", 80) };
            machine.must(&format!(
                "curl -sk --interface {from} --resolve {host}:{port}:127.0.0.1 -H 'X-Forwarded-For: 203.0.113.9' \
                 -H 'X-Forwarded-Proto: https' -H 'X-Forwarded-Host: shop.example.org' \
                 -H 'Forwarded: for=203.0.113.9' -H 'X-Real-IP: 203.0.113.9' {scheme}://{host}/"
            ))
        };
        // The proxy in front ends TLS, or speaks it to us as well.
        for scheme in ["http", "https"] {
            assert_eq!(
                ask("192.0.2.7", scheme),
                "203.0.113.9, 192.0.2.7 https shop.example.org for=203.0.113.9 203.0.113.9",
                "{scheme}, newer: {newer}"
            );
        }
        assert_eq!(ask("192.0.2.8", "http"), "192.0.2.8 http plain.example.com - -", "newer: {newer}");
        assert_eq!(ask("192.0.2.8", "https"), "192.0.2.8 https tls.example.com - -", "newer: {newer}");
    }
}
