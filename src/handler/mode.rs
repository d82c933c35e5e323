//! Permissions in the configuration.

use super::{BuildError, Settings};

/// The permission bits under `mode`, octal digits in quotes; `default` where it is not set.
pub(super) fn mode(settings: &Settings, default: u32) -> Result<u32, BuildError> {
    let wrong = || BuildError::setting("mode", "must be octal digits in quotes, such as \"0640\"");
    match settings.get::<String>("mode").map_err(|_| wrong())? {
        None => Ok(default),
        // from_str_radix would take a sign, and bits above these change what the file is.
        Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            match u32::from_str_radix(&text, 8) {
                Ok(mode) if mode <= 0o777 => Ok(mode),
                _ => Err(wrong()),
            }
        }
        Some(_) => Err(wrong()),
    }
}
