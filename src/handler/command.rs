//! Commands of the operator: how they are written in the configuration and how they run.

pub(super) mod pipes;
pub(super) mod process;
pub(super) mod run;

use super::{BuildError, Settings};

/// The command under `key` as program and arguments; `None` where it is not set.
///
/// # Errors
/// It is no list, names no program, or contains NUL.
pub(super) fn arguments(settings: &Settings, key: &str) -> Result<Option<Vec<String>>, BuildError> {
    const HINT: &str = "must be a list, program first, such as [\"/usr/bin/logger\", \"-t\", \"net\"]; \
                        there is no shell unless you name one";
    let fault = |why: &str| Err(BuildError::setting(key, why));
    if let Ok(Some(_)) = settings.get::<String>(key) {
        return fault(HINT);
    }
    let Some(command) = settings.get::<Vec<String>>(key)? else {
        return Ok(None);
    };
    if command.first().is_none_or(String::is_empty) {
        return fault(HINT);
    }
    if command.iter().any(|part| part.contains('\0')) {
        return fault("must not contain NUL");
    }
    Ok(Some(command))
}

/// The command under `command`, which must be set.
pub(super) fn required(settings: &Settings) -> Result<Vec<String>, BuildError> {
    arguments(settings, "command")?.ok_or_else(|| BuildError::setting("command", "must be set"))
}
