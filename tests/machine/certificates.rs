//! `tls: auto` against a real ACME server: a second Caddy with an authority of its own.

use crate::machine::{Machine, web_spec};

/// The authority: its own ports and storage, no admin endpoint, reachable by name from the first Caddy.
const AUTHORITY: &str = "{
	admin off
	auto_https disable_redirects
	storage file_system /var/lib/authority
	skip_install_trust
}
acme.example.com:9443 {
	tls internal
	acme_server
}
";

const ROOT: &str = "/var/lib/authority/pki/authorities/local/root.crt";

fn with_authority() -> Machine {
    let machine = Machine::start();
    machine.write_file("/etc/authority.caddy", AUTHORITY);
    machine.must("printf '127.0.0.1 acme.example.com auto.example.com\\n' >> /etc/hosts");
    machine.must("systemd-run --unit=authority caddy run --adapter caddyfile --config /etc/authority.caddy");
    machine.wait_until("the authority to answer", || {
        machine.sh(&format!("curl -sf --cacert {ROOT} https://acme.example.com:9443/acme/local/directory")).status == 0
    });
    // The first Caddy trusts it like any public authority: by the system's certificates.
    machine.must(&format!(
        "mkdir -p /etc/systemd/system/caddy.service.d && cp {ROOT} /etc/authority.crt && chmod 644 /etc/authority.crt"
    ));
    machine.write_file(
        "/etc/systemd/system/caddy.service.d/trust.conf",
        "[Service]\nEnvironment=SSL_CERT_FILE=/etc/authority.crt\n",
    );
    machine.must("mkdir -p /etc/zexio && systemctl daemon-reload");
    machine.write_file(
        "/etc/zexio/agent.yaml",
        "caddy:\n  acme_ca: https://acme.example.com:9443/acme/local/directory\n  email: ops@example.com\n",
    );
    machine.install_agent();
    machine
}

fn auto(project: &str) -> String {
    web_spec(project, "1.0.0", "./hello", "").replace("tls: internal", "tls: auto")
}

#[test]
fn a_public_certificate_is_issued_and_kept_and_one_that_cannot_be_had_is_in_nobodys_way() {
    let machine = with_authority();
    machine.publish("1.0.0");
    // Nobody can find this one, so no authority can prove it.
    assert_eq!(machine.apply("lost", &auto("lost")).status, 0);
    assert_eq!(machine.apply("auto", &auto("auto")).status, 0);
    let get = || machine.sh("curl -sf --cacert /etc/authority.crt https://auto.example.com/").stdout;
    machine.wait_until("the certificate", || get().contains("hello from auto 1.0.0"));
    machine.wait_until("the certificate in the status", || machine.status_has("auto", r#""certificate":"issued""#));
    machine.wait_until("the failed challenge in the status", || {
        machine.status_has("lost", "noneyet,Caddytriesagain") && machine.status_has("lost", "lost.example.com")
    });
    let certificate =
        "sha256sum /var/lib/caddy/.local/share/caddy/certificates/acme*/auto.example.com/auto.example.com.crt";
    let before = machine.must(certificate);
    machine.must("systemctl restart caddy");
    machine.wait_until("the site after a restart", || get().contains("hello from auto 1.0.0"));
    assert_eq!(machine.must(certificate), before, "a certificate that is good is used again");
}
