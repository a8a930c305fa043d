//! Desired host services: whether each is installed and running. The agent has observed them; this judges what it
//! observed.

use serde_json::Value;

use super::{Finding, advice, ok, wrong};
use crate::model::reason::Reason;

/// Judges the desired services.
pub fn findings(services: &[Value]) -> Vec<Finding> {
    services.iter().filter(|view| view["desired"].is_object()).map(judge).collect()
}

fn judge(view: &Value) -> Finding {
    let text = |key: &str| view[key].as_str().unwrap_or_default();
    let (service, message) = (text("service"), format!("{}: {}", text("service"), text("message")));
    let unit = text("unit");
    let is_seen = view["observed_generation"] == view["desired"]["generation"];
    match (text("state"), Reason::named(text("reason")).unwrap_or(Reason::Unlisted)) {
        _ if !is_seen => advice(
            "services",
            format!("{service}: the agent has not observed this request yet"),
            "`zexio doctor` again",
        ),
        ("running" | "installed", Reason::Running | Reason::Installed) => ok("services", message),
        (_, Reason::VersionUnavailable) => wrong(
            "services",
            message,
            format!("`zexio service install {service}` with a version that is on offer, or add a package source"),
        ),
        (_, Reason::NoPackageManager) => {
            wrong("services", message, format!("install it by hand and `zexio service remove {service}`"))
        }
        ("failed", Reason::ServiceDown) => wrong("services", message, "mend what its log says; it is started again"),
        ("failed", _) => {
            wrong("services", message, format!("mend what `journalctl -u {unit}` names; it is tried again"))
        }
        (_, Reason::PruneRefused) => {
            advice("services", message, "`zexio sync --prune` lets it go; its file put back keeps it")
        }
        _ => advice("services", message, format!("wait; `journalctl -fu {unit}` shows how far it is")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::State;
    use super::*;

    #[test]
    fn a_service_is_well_only_if_it_is_as_desired_now() {
        let view = |generation: u64, state: &str, reason: Reason| {
            json!({ "service": "redis", "desired": { "version": "default", "generation": 2 }, "state": state,
                "reason": reason, "message": "m", "observed_generation": generation, "unit": "zexio-host@redis.service" })
        };
        for (view, state, mend) in [
            (view(2, "running", Reason::Running), State::Ok, ""),
            (view(2, "installed", Reason::Installed), State::Ok, ""),
            (view(1, "running", Reason::Running), State::Advice, "again"),
            (view(2, "installing", Reason::Installing), State::Advice, "journalctl -fu zexio-host@redis.service"),
            (view(2, "running", Reason::PruneRefused), State::Advice, "zexio sync --prune"),
            (view(2, "failed", Reason::VersionUnavailable), State::Wrong, "on offer"),
            (view(2, "failed", Reason::PackagesFailed), State::Wrong, "journalctl -u zexio-host@redis.service"),
            (view(2, "failed", Reason::ServiceDown), State::Wrong, "its log"),
        ] {
            let found = findings(std::slice::from_ref(&view));
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].state, state, "{view}");
            assert!(found[0].mend.as_deref().unwrap_or_default().contains(mend), "{:?}", found[0]);
        }
        let unwanted =
            json!({ "service": "redis", "desired": null, "state": "absent", "reason": Reason::NotInstalled });
        assert_eq!(findings(&[unwanted]), []);
    }
}
