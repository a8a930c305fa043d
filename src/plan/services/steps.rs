//! The next step of each service.

use crate::model::desired::{DesiredService, DesiredServices, ServiceIntent};
use crate::model::observed::{ActiveState, Observed, ServiceSeen};
use crate::model::progress::{Progress, ServiceProgress};
use crate::model::services::Service;
use crate::plan::{Action, Plan, ServiceAction, Step, StepReason};

use super::job::Task;
use super::presence::{has_desired_packages, installed_by_request, observed_service};
use super::versions::matching;

/// Adds the steps for the services, at most one for each.
pub fn steps(wanted: &DesiredServices, observed: &Observed, all_progress: &Progress, plan: &mut Plan) {
    for (service, request) in wanted {
        let (Some(seen), Some(progress)) = (observed_service(*service, observed), all_progress.services.get(service))
        else {
            continue;
        };
        if seen.has_running_job() {
            continue;
        }
        if let Some(backoff) = progress.backoff.as_ref().filter(|backoff| observed.now < backoff.until) {
            plan.requeue_by(backoff.until);
            continue;
        }
        if let Some((action, reason)) = step(*service, request, seen, progress) {
            plan.steps.push(Step { action: Action::Service(*service, action), reason });
        }
    }
}

fn step(
    service: Service,
    request: &DesiredService,
    seen: &ServiceSeen,
    progress: &ServiceProgress,
) -> Option<(ServiceAction, StepReason)> {
    match request.intent {
        ServiceIntent::Install(version) => {
            let Some(found) = matching(service, version, seen).filter(|found| found.fully_installed) else {
                return Some((ServiceAction::Packages(Task::Install(version)), StepReason::ServiceMissing));
            };
            let daemon = found.daemon.as_ref()?;
            let down = matches!(daemon.state, ActiveState::Inactive | ActiveState::Failed);
            if down {
                return Some((ServiceAction::Start(daemon.unit.clone()), StepReason::ServiceDown));
            }
            (!daemon.enabled).then_some((ServiceAction::Enable, StepReason::ServiceDown))
        }
        ServiceIntent::Remove { .. } if has_desired_packages(service, request, seen, progress) => {
            Some((ServiceAction::DeleteRecord, StepReason::ServiceGone))
        }
        ServiceIntent::Remove { purge } => {
            let task = Task::Remove { majors: installed_by_request(seen, progress), purge };
            Some((ServiceAction::Packages(task), StepReason::ServiceUnwanted))
        }
        ServiceIntent::Unreadable => None,
    }
}
