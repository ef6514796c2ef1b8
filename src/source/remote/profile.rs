//! The AWS credentials that `aws configure` leaves in files: the environment's go before them.
//!
//! Source: the AWS SDKs' shared configuration files (`~/.aws/credentials`, `~/.aws/config`).

use std::path::PathBuf;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key};

/// Adds what the files say of the profile, where the environment says nothing.
pub(super) fn with_profile(builder: AmazonS3Builder) -> AmazonS3Builder {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let profile = set("AWS_PROFILE").or_else(|| set("AWS_DEFAULT_PROFILE")).unwrap_or_else(|| "default".into());
    let read = |variable: &str, name: &str| -> String {
        let path = set(variable).map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".aws").join(name)));
        path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
    };
    let credentials = read("AWS_SHARED_CREDENTIALS_FILE", "credentials");
    let config = read("AWS_CONFIG_FILE", "config");
    let is_default = profile == "default";
    let section = if is_default { profile.clone() } else { format!("profile {profile}") };
    let value = |name: &str| in_section(&credentials, &profile, name).or_else(|| in_section(&config, &section, name));
    let mut builder = builder;
    // a key of the environment belongs to its own secret
    let has_key = builder.get_config_value(&Key::AccessKeyId).is_some();
    let keys = [
        (Key::AccessKeyId, "aws_access_key_id"),
        (Key::SecretAccessKey, "aws_secret_access_key"),
        (Key::Token, "aws_session_token"),
    ];
    for (key, name) in keys {
        if let Some(value) = value(name).filter(|_| !has_key) {
            builder = builder.with_config(key, value);
        }
    }
    for (key, name) in [(Key::Region, "region"), (Key::Endpoint, "endpoint_url")] {
        if builder.get_config_value(&key).is_none()
            && let Some(value) = value(name)
        {
            builder = builder.with_config(key, value);
        }
    }
    builder
}

/// A value in a section of an INI file.
fn in_section(text: &str, section: &str, name: &str) -> Option<String> {
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(head) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = head.split_whitespace().eq(section.split_whitespace());
        } else if inside
            && !line.starts_with(['#', ';'])
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == name
        {
            return Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_of_ini_files() {
        let text = "[default]\nregion = eu-1\n# region = x\n[profile  a b]\nregion=us-2\nempty =\n";
        assert_eq!(in_section(text, "default", "region").as_deref(), Some("eu-1"));
        assert_eq!(in_section(text, "profile a b", "region").as_deref(), Some("us-2"));
        assert_eq!(in_section(text, "profile a b", "empty"), None);
        assert_eq!(in_section(text, "other", "region"), None);
    }
}
