//! Host services: desired and observed state.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::model::desired::{DesiredService, Owner, Refusal, ServiceIntent};
use crate::model::document;
use crate::model::reason::Reason;
use crate::model::services::{Service, package_job_unit};
use crate::model::status::{ServiceState, ServiceStatus};
use crate::port::{PortError, WriteError};

use super::problem::Problem;
use super::query::content_type;
use super::{Answer, ApiState, Call, json};

/// The content types of a desired service.
pub const TYPES: [&str; 5] = ["application/json", "application/yaml", "text/yaml", "application/x-yaml", "text/x-yaml"];

/// Answers `GET /v1/services`: every known service.
///
/// # Errors
/// The database cannot be read.
pub async fn list(call: &Call) -> Answer {
    call.query(&[])?;
    let all = call
        .ask(|state| {
            let (wanted, statuses) =
                (state.service_progress.desired_services()?, state.service_progress.service_statuses()?);
            let view = |service: Service| view(service, wanted.get(&service), &statuses);
            Ok(Service::ALL.into_iter().map(view).collect::<Vec<Value>>())
        })
        .await?;
    json(StatusCode::OK, &json!({ "services": all }))
}

/// Answers `GET /v1/services/{name}`.
///
/// # Errors
/// There is no such service, or the database cannot be read.
pub async fn get(call: &Call) -> Answer {
    call.query(&[])?;
    let service = service(call)?;
    let shown = call.ask(move |state| Ok(look(state, service)?)).await?;
    json(StatusCode::OK, &shown)
}

/// Answers `PUT /v1/services/{name}`.
///
/// # Errors
/// There is no such service or version, or it belongs to another owner.
pub async fn put(call: &Call) -> Answer {
    call.query(&[])?;
    content_type(&call.headers, &TYPES)?;
    let service = service(call)?;
    let version = document::parse_service(service, &call.body).map_err(|error| Problem::invalid(error.problems))?;
    let by = call.by()?;
    let put = call
        .write(move |state| Ok(state.desired_services.put_service(service, version, &Owner::Api, None, &by)?))
        .await?;
    let status = if put.created { StatusCode::CREATED } else { StatusCode::OK };
    let version = version.shown(service);
    json(status, &json!({ "service": service, "generation": put.generation, "version": version }))
}

/// Answers `DELETE /v1/services/{name}`. Also confirms a removal that a missing file requested and the agent held back.
///
/// # Errors
/// There is no such service, it was never requested, or it belongs to another owner.
pub async fn delete(call: &Call) -> Answer {
    let purge = call.query(&["purge"])?.flag("purge")?;
    let (service, by) = (service(call)?, call.by()?);
    let generation = call
        .write(move |state| {
            let wanted = state.desired_services.desired_service(service)?.ok_or(WriteError::ServiceUnknown(service))?;
            let held = wanted.refusal.as_ref().is_some_and(Refusal::holds_a_removal);
            let owner = if held { wanted.owner } else { Owner::Api };
            Ok(state.desired_services.delete_service(service, &owner, purge, &by)?)
        })
        .await?;
    json(StatusCode::ACCEPTED, &json!({ "service": service, "generation": generation }))
}

fn service(call: &Call) -> Result<Service, Problem> {
    call.name()?.parse().map_err(|why: String| Problem::missing("unknown_service", why))
}

fn look(state: &ApiState, service: Service) -> Result<Value, PortError> {
    let wanted = state.service_progress.desired_services()?;
    Ok(view(service, wanted.get(&service), &state.service_progress.service_statuses()?))
}

fn view(service: Service, wanted: Option<&DesiredService>, statuses: &BTreeMap<Service, ServiceStatus>) -> Value {
    let status = statuses.get(&service);
    json!({
        "service": service,
        "desired": wanted.map(|wanted| desired(service, wanted)),
        "installed": status.and_then(|status| status.installed.as_ref()),
        "state": status.map_or(ServiceState::Unknown, |status| status.state),
        "reason": status.map_or(Reason::Pending, |status| status.reason),
        "message": status.map_or("no pass has observed it yet", |status| &status.message),
        "evidence": status.map(|status| status.evidence.clone()).unwrap_or_default(),
        "since": status.map(|status| status.since),
        "observed_generation": status.map_or(0, |status| status.observed_generation),
        "unit": package_job_unit(service),
    })
}

fn desired(service: Service, wanted: &DesiredService) -> Value {
    let owner = wanted.owner.to_string();
    match wanted.intent {
        ServiceIntent::Install(version) => {
            json!({ "version": version.shown(service), "generation": wanted.generation, "owner": owner })
        }
        ServiceIntent::Remove { purge } => {
            json!({ "remove": true, "purge": purge, "generation": wanted.generation, "owner": owner })
        }
        ServiceIntent::Unreadable => json!({ "generation": wanted.generation, "owner": owner }),
    }
}
