//! Which major a desired version means, among those installed or on offer.

use std::collections::BTreeSet;

use crate::model::observed::{Installation, ServiceSeen};
use crate::model::services::{Service, Version};

/// Returns the installed version that matches the desired one.
pub fn matching(service: Service, version: Version, seen: &ServiceSeen) -> Option<&Installation> {
    match version {
        Version::Major(major) => seen.installed.get(&major),
        Version::Default => {
            default_major(service, seen.installed.keys().copied()).and_then(|major| seen.installed.get(&major))
        }
    }
}

/// Returns the default major among the available ones.
pub fn default_major(service: Service, majors: impl Iterator<Item = u32>) -> Option<u32> {
    majors.filter(|major| service.can_be_default(*major)).max()
}

/// A package that is available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvailablePackage {
    pub major: u32,
    /// Its exact version, as the package manager names it.
    pub exact: String,
}

/// Chooses from the available packages.
///
/// # Errors
/// The desired version is not available; says which ones are.
pub fn choose_package(
    service: Service,
    version: Version,
    offers: &[AvailablePackage],
) -> Result<&AvailablePackage, String> {
    let majors: BTreeSet<u32> = offers.iter().map(|offer| offer.major).collect();
    let major = match version {
        Version::Major(major) => Some(major),
        Version::Default => default_major(service, majors.iter().copied()),
    };
    // The first of a major is the newest: package managers list them in that order.
    offers.iter().find(|offer| Some(offer.major) == major).ok_or_else(|| {
        let listed: Vec<String> = majors.iter().map(ToString::to_string).collect();
        let there = if listed.is_empty() { "none is".to_owned() } else { format!("on offer: {}", listed.join(", ")) };
        format!(
            "the package manager does not offer {service} {}; {there}. Ask for one of these, or add a package source that has it",
            version.shown(service)
        )
    })
}
