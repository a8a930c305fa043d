//! Artifact servers that refuse, or cannot be trusted: each is named with what helps, and is asked again by itself.

use crate::machine::Machine;

/// Makes an authority, one below it, and a certificate for each port of the server below.
const CERTIFICATES: &str = r#"
mkdir -p /root/pki && cd /root/pki && : >index.txt
printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\npolicy=p\ncopy_extensions=copy\nunique_subject=no\n[p]\ncommonName=supplied\n' >ca.cnf
new='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
far='-startdate 20200101000000Z -enddate 20450101000000Z'
openssl req -x509 $new -subj /CN=root -keyout root.key -out root.crt -days 3000 2>&1
sign() { # NAME SUBJECT EXTENSIONS AUTHORITY DATES
  openssl req $new -subj /CN=$2 $3 -keyout $1.key -out $1.csr 2>&1
  openssl ca -batch -notext -config ca.cnf -cert $4.crt -keyfile $4.key -in $1.csr -out $1.crt $5 2>&1
}
sign below below '-addext basicConstraints=critical,CA:TRUE' root "$far"
san='-addext subjectAltName=DNS:files.test'
sign good files.test "$san" root "$far"
sign chain files.test "$san" below "$far"
sign expired files.test "$san" root '-startdate 20200101000000Z -enddate 20200201000000Z'
sign other other.test '-addext subjectAltName=DNS:other.test' root "$far"
openssl req -x509 $new -subj /CN=files.test $san -keyout self.key -out self.crt -days 3000 2>&1
"#;

/// Serves the artifacts over TLS, a port for each certificate; plain http, and answers that are no file, on others.
const SERVER: &str = r#"
import http.server, os, ssl, threading
os.chdir("/srv/artifacts")

class Other(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status = int(self.path.strip("/").split("/")[0])
        self.send_response(status)
        body = b"<!doctype html><title>Sign in</title>"
        if status == 302:
            self.send_header("Location", "/200/sign_in?return_to=x")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

def serve(port, handler, name=None):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    if name:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"/root/pki/{name}.crt", f"/root/pki/{name}.key")
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever).start()

for port, name in [(9101, "good"), (9102, "chain"), (9103, "expired"), (9104, "other"), (9105, "self"), (9106, None)]:
    serve(port, http.server.SimpleHTTPRequestHandler, name)
serve(9107, Other)
"#;

const ALLOWED: &str = "[\"http://127.0.0.1:9000/\", \"https://files.test:9101\", \"https://files.test:9102\", \
     \"https://files.test:9103\", \"https://files.test:9104\", \"https://files.test:9105\", \"https://files.test:9106\", \
     \"http://127.0.0.1:9107\", \"https://files.test:9108\"]";

fn spec(project: &str, url: &str) -> String {
    format!(
        "zexio: 1\nproject: {project}\nartifact: {{ url: \"{url}\" }}\nprocesses: {{ main: {{ run: ./hello, ready: {{ tcp: true }} }} }}\n"
    )
}

#[test]
fn an_artifact_server_that_is_not_trusted_or_refuses_is_named_with_what_helps() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    machine.must(CERTIFICATES);
    machine.write_file("/root/server.py", SERVER);
    machine.must("systemd-run --unit=refusals python3 /root/server.py && echo 127.0.0.1 files.test >>/etc/hosts");
    machine.must(&format!(
        "sed -i 's|^artifacts: .*|artifacts: {{ allow: {ALLOWED} }}|' /etc/zexio/agent.yaml
         mkdir -p /etc/systemd/system/zexio-agent.service.d
         printf '[Service]\\nEnvironment=HTTPS_PROXY=http://127.0.0.1:3128\\n' >/etc/systemd/system/zexio-agent.service.d/proxy.conf
         systemctl daemon-reload && systemctl restart zexio-agent"
    ));
    machine.wait_until("the agent to be healthy", || machine.healthy());
    let deploy = |project: &str, url: &str| {
        let said = machine.apply_and_go(project, &spec(project, url));
        assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
    };
    let says = |project: &str, text: &str| {
        machine.wait_until(&format!("{project} to say `{text}`"), || {
            machine.must(&format!("zexio get {project} -o json")).contains(text)
        });
    };
    let file = "hello-1.0.0.tar.gz";
    let unknown = "no authority that this server trusts signed it";
    for (project, port) in [("good", 9101), ("chain", 9102), ("other", 9104)] {
        deploy(project, &format!("https://files.test:{port}/{file}"));
        says(project, unknown);
    }
    for (project, url, text) in [
        ("expired", format!("https://files.test:9103/{file}"), "it expired at 2020-02-01T00:00:00.000Z, and it is"),
        ("self", format!("https://files.test:9105/{file}"), "basicConstraints=CA:FALSE"),
        ("plain", format!("https://files.test:9106/{file}"), "does not speak TLS on this port"),
        (
            "login",
            "http://127.0.0.1:9107/302/x.tar.gz".to_owned(),
            "after a redirect to 127.0.0.1 (a login), is not the file but a web page",
        ),
        ("page", "http://127.0.0.1:9107/200/x.tar.gz".to_owned(), "is not the file but a web page"),
        ("gone", "http://127.0.0.1:9107/410/x.tar.gz".to_owned(), "removed for good"),
        ("proxy", "http://127.0.0.1:9107/407/x.tar.gz".to_owned(), "a proxy on the way asks for a login"),
        ("busy", "http://127.0.0.1:9107/429/x.tar.gz".to_owned(), "too many requests"),
        ("down", "https://files.test:9108/x.tar.gz".to_owned(), "HTTPS_PROXY is not used"),
    ] {
        deploy(project, &url);
        says(project, text);
    }
    assert!(machine.sh("zexio doctor").stdout.contains("HTTPS_PROXY in the environment is not used"));

    // The authority becomes known; the agent is not restarted.
    machine.must("cp /root/pki/root.crt /usr/local/share/ca-certificates/own.crt && update-ca-certificates 2>&1");
    machine.must("for each in good other chain; do zexio sync $each; done");
    says("good", "\"state\": \"running\"");
    says("other", "it is for other.test, not for files.test");
    says("chain", "leaves out the intermediate certificate");
}
