//! How the command line calls what the library names: a setting by its flag.

use crate::error::Error;
use crate::message::Setting;

/// The flag that a setting has.
pub(crate) fn flag(setting: Setting) -> String {
    match setting {
        Setting::Output => "-o FILE".to_owned(),
        other => format!("--{}", other.name().replace('_', "-")),
    }
}

/// An error with everything that it is about, on one line.
pub(crate) fn worded(error: &anyhow::Error) -> String {
    let causes = error.chain().map(|cause| match cause.downcast_ref::<Error>() {
        Some(ours) => ours.spoken(flag),
        None => cause.to_string(),
    });
    causes.collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn an_error_is_told_with_flags() {
        let e = anyhow::Error::new(Error::limit("objects nest too deep").at(7).allowed_by(Setting::MaxDepth));
        assert_eq!(worded(&e.context("a.pt")), "a.pt: objects nest too deep (byte 7); --max-depth allows more");
        assert_eq!(flag(Setting::Output), "-o FILE");
    }
}
