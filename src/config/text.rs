//! Texts with a form of their own: log filters and publisher ids.

use log::LevelFilter;

/// What is wrong with a log filter: a level, or parts such as `fanfare::pubsub=debug`, with commas
/// between them and at most one `/regex` at the end.
///
/// Stricter than env_logger, which takes a mistyped level (`inof`) for the name of a module and
/// then logs next to nothing.
pub fn log_filter_fault(filter: &str) -> Option<String> {
    let example = "write for example info, or info,fanfare::pubsub=debug";
    let (parts, rest) = match filter.split_once('/') {
        Some((parts, regex)) => (parts, Some(regex)),
        None => (filter, None),
    };
    if rest.is_some_and(|regex| regex.contains('/')) {
        return Some(format!("{filter:?} has more than one /; {example}"));
    }
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
    let is_module = |word: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_:-".contains(&byte);
        !word.is_empty() && word.bytes().all(known)
    };
    parts.split(',').map(str::trim).find_map(|part| {
        let (module, level) = match part.split_once('=') {
            Some((module, level)) => (Some(module.trim()), level.trim()),
            None => (None, part),
        };
        if !is_level(level) {
            Some(format!(
                "{level:?} is not a level (off, error, warn, info, debug, trace); {example}"
            ))
        } else if module.is_some_and(|module| !is_module(module)) {
            Some(format!("{part:?} names no module; {example}"))
        } else {
            None
        }
    })
}

/// A publisher id: 32 hexadecimal digits, with the dashes of a uuid or without. All zeros is none.
pub(super) fn id(text: &str) -> Option<[u8; 16]> {
    let dashes = [8, 13, 18, 23];
    let digits: Vec<u8> = match text.len() {
        32 => text.bytes().collect(),
        36 if dashes.iter().all(|&at| text.as_bytes()[at] == b'-') => text
            .bytes()
            .enumerate()
            .filter(|(at, _)| !dashes.contains(at))
            .map(|(_, byte)| byte)
            .collect(),
        _ => return None,
    };
    let mut id = [0; 16];
    for (slot, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        *slot = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    (id != [0; 16]).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_filters_are_checked() {
        for good in [
            "off",
            "info",
            "INFO",
            "info,fanfare::pubsub=debug",
            "warn, fanfare = trace",
            "debug/some.*text",
        ] {
            assert_eq!(log_filter_fault(good), None, "{good}");
        }
        for (bad, why) in [
            ("", r#""" is not a level"#),
            ("inof", r#""inof" is not a level"#),
            ("info,fanfare", r#""fanfare" is not a level"#),
            ("fanfare=loud", r#""loud" is not a level"#),
            ("=info", r#""=info" names no module"#),
            ("a b=info", r#""a b=info" names no module"#),
            ("info/a/b", r#""info/a/b" has more than one /"#),
        ] {
            let fault = log_filter_fault(bad).unwrap();
            assert!(fault.starts_with(why), "{bad}: {fault}");
        }
    }

    #[test]
    fn ids_are_hexadecimal() {
        let plain = id("00112233445566778899aabbccddeeFF").unwrap();
        assert_eq!(plain[1], 0x11);
        assert_eq!(plain[15], 0xff);
        assert_eq!(id("00112233-4455-6677-8899-aabbccddeeff"), Some(plain));
        for bad in [
            "",
            "0011",
            "00112233445566778899aabbccddeefg",
            "0011223344556677889-aabbccddeeff",
            "001122334455-6677-8899-aabbccddeeff-",
            "00000000000000000000000000000000",
            "éééééééééééééééé",
            "éééééééé-éé-éé-éé-éééé",
        ] {
            assert_eq!(id(bad), None, "{bad}");
        }
    }
}
