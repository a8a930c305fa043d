//! The operator's Caddyfile template: read, and tried before anything is rendered with it.

use std::fs;

use crate::host::caddy::{self, Version};
use crate::render::caddyfile::{Proxy, try_template};
use crate::settings::Settings;

/// Reads the template and returns the settings for rendering routes.
///
/// # Errors
/// The template cannot be read or rendered.
pub fn proxy(settings: &Settings) -> Result<Proxy, String> {
    let path = &settings.caddy.template;
    let template = fs::read_to_string(path)
        .map_err(|e| format!("could not read {}: {e}; `make install` puts it there", path.display()))?;
    let caddy = Version::installed();
    let proxy = settings.proxy(template, caddy.keeps_streams());
    let proxy = Proxy { encode_flushes: caddy.encode_flushes(), ..proxy };
    try_template(&proxy).map(|()| proxy)
}

/// Returns the same with the last template that Caddy accepted; the loop checks the one on disk before using it.
///
/// # Errors
/// There is none, and the one on disk cannot be read or rendered.
pub fn last_good_proxy(settings: &Settings) -> Result<Proxy, String> {
    let kept = fs::read_to_string(caddy::kept_template(&settings.caddy.template)).ok();
    let kept = kept.map(|template| settings.proxy(template, Version::installed().keeps_streams()));
    match kept.filter(|proxy| try_template(proxy).is_ok()) {
        Some(proxy) => Ok(proxy),
        None => proxy(settings),
    }
}
