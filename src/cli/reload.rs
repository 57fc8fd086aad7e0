//! `tollgate reload` and `tollgate upgrade`.

use std::path::Path;

use anyhow::bail;

use super::admin_client::{AdminSocket, call};
use super::output::write_out;
use super::running::socket_of;
use super::trial;
use crate::api::{ReloadReport, UpgradeReport};
use crate::server;

/// `tollgate reload`: validates first, so that a bad file is reported here and never reaches the gateway. What the file
/// points to is opened by the gateway alone: its credentials and its environment are not those of whoever asks. With
/// `confirm` the configuration is on trial for so long.
pub(super) fn reload(path: &Path, confirm: Option<&str>) -> anyhow::Result<()> {
    let config = server::load(path)?.config;
    let target = match confirm {
        Some(span) => format!("/api/v1/reload?confirm={span}"),
        None => "/api/v1/reload".to_owned(),
    };
    let socket = AdminSocket::configured(config.server.runtime_dir);
    let (status, report): (_, ReloadReport) = call(&socket, "POST", &target)?;
    let hash = &report.config_hash;
    if status != 200 {
        let why = report.error.as_deref().unwrap_or("no reason given");
        bail!("the gateway kept its old configuration ({hash}):\n{why}");
    }
    let wanted = &config.hash;
    if hash != wanted {
        bail!(
            "the gateway reloaded another file: its hash is {hash}, that of {} is {wanted}",
            path.display()
        );
    }
    for key in &report.needs_upgrade {
        eprintln!("needs upgrade: {key} changed, which a reload cannot apply");
    }
    match confirm {
        Some(_) => trial::follow(&socket, hash),
        None => write_out(&format!("reloaded, configuration {hash}\n")),
    }
}

/// `tollgate upgrade`.
pub(super) fn upgrade(path: &Path) -> anyhow::Result<()> {
    // The file is checked by the program that is going to read it, which may know more than this one.
    let (status, report): (_, UpgradeReport) = call(&socket_of(path)?, "POST", "/api/v1/upgrade")?;
    let known = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
    if status != 200 {
        bail!("the gateway goes on as it was:\n{}", known(report.error));
    }
    let (version, pid) = (known(report.version), report.pid);
    write_out(&format!(
        "upgraded, tollgate {version} serves as process {pid}\n"
    ))
}
