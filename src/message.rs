//! Sentences that name settings, without saying how a person spells those: whoever shows one decides. The library calls a
//! setting by its field (`max_objects`), the command line by its flag (`--max-objects`).

use std::fmt;

/// Everything a caller can set that a message may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Setting {
    /// Putting a prefix before names.
    AddPrefix,
    /// Globals that are vouched for.
    Allow,
    /// Removing a prefix inside names too.
    Anywhere,
    /// The absolute tolerance.
    Atol,
    /// Writing only the parts of storages that tensors use.
    Compact,
    /// The nesting that a tree shows.
    Depth,
    /// The device to record.
    Device,
    /// Drawing what is below the middle in one colour, above in another.
    Diverging,
    /// Names to leave out, with everything below them.
    Drop,
    /// The dtype to cast to.
    Dtype,
    /// The decay of a moving average.
    Ema,
    /// Names to skip.
    Exclude,
    /// The digest that the weights must have.
    ExpectDigest,
    /// Replacing files that exist.
    Force,
    /// Giving a tensor another shape.
    ForceShape,
    /// Letting steps pass that match nothing.
    IfPresent,
    /// Names to take.
    Include,
    /// Writing the index of shards that are there.
    IndexOnly,
    /// Editing the file itself.
    InPlace,
    /// The report as JSON, which is complete.
    Json,
    /// Keeping tensors that may be damaged.
    KeepDamaged,
    /// A table of names.
    Map,
    /// [`Limits::max_depth`](crate::limits::Limits::max_depth).
    MaxDepth,
    /// [`Limits::max_entries`](crate::limits::Limits::max_entries).
    MaxEntries,
    /// [`Limits::max_expanded_bytes`](crate::limits::Limits::max_expanded_bytes).
    MaxExpandedBytes,
    /// [`Limits::max_objects`](crate::limits::Limits::max_objects).
    MaxObjects,
    /// [`Limits::max_read_bytes`](crate::limits::Limits::max_read_bytes).
    MaxReadBytes,
    /// The size of a shard.
    MaxShardSize,
    /// The bytes that may be transferred from elsewhere.
    MaxTransfer,
    /// Names in a list that NULs end.
    Null,
    /// What becomes of a name that several inputs have.
    OnConflict,
    /// Where to write.
    Output,
    /// The values that are black and white in a picture.
    Range,
    /// Rewriting names by a regular expression.
    Regex,
    /// Where to begin.
    Root,
    /// Where to begin in the first file.
    RootA,
    /// Where to begin in the second file.
    RootB,
    /// Pixels of a value's side in a picture.
    Scale,
    /// The relative tolerance.
    Rtol,
    /// Replacing what torch's weights-only unpickler refuses.
    Safe,
    /// A file for the values that a format does not hold.
    SaveValues,
    /// Entries for the metadata.
    SetMetadata,
    /// New elements for a tensor.
    SetTensor,
    /// One of several jobs.
    Shard,
    /// How tensors that share memory are written.
    Shared,
    /// The part of a tensor to take.
    Slice,
    /// Reducing to a plain state dict.
    StateDict,
    /// The prefix to remove, or to compare without.
    StripPrefix,
    /// The format to write.
    To,
    /// Rules for tensors that are cut among ranks.
    TpRule,
    /// How much each input counts.
    Weights,
}

impl Setting {
    /// The name of the field that holds it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Setting::AddPrefix => "add_prefix",
            Setting::Allow => "allow",
            Setting::Anywhere => "anywhere",
            Setting::Atol => "atol",
            Setting::Compact => "compact",
            Setting::Depth => "depth",
            Setting::Device => "device",
            Setting::Diverging => "diverging",
            Setting::Drop => "drop",
            Setting::Dtype => "dtype",
            Setting::Ema => "ema",
            Setting::Exclude => "exclude",
            Setting::ExpectDigest => "expect_digest",
            Setting::Force => "force",
            Setting::ForceShape => "force_shape",
            Setting::IfPresent => "if_present",
            Setting::Include => "include",
            Setting::IndexOnly => "index_only",
            Setting::InPlace => "in_place",
            Setting::Json => "json",
            Setting::KeepDamaged => "keep_damaged",
            Setting::Map => "map",
            Setting::MaxDepth => "max_depth",
            Setting::MaxEntries => "max_entries",
            Setting::MaxExpandedBytes => "max_expanded_bytes",
            Setting::MaxObjects => "max_objects",
            Setting::MaxReadBytes => "max_read_bytes",
            Setting::MaxTransfer => "max_transfer",
            Setting::MaxShardSize => "max_shard_size",
            Setting::Null => "null",
            Setting::OnConflict => "on_conflict",
            Setting::Output => "output",
            Setting::Range => "range",
            Setting::Regex => "regex",
            Setting::Root => "root",
            Setting::RootA => "root_a",
            Setting::RootB => "root_b",
            Setting::Rtol => "rtol",
            Setting::Safe => "safe",
            Setting::SaveValues => "save_values",
            Setting::Scale => "scale",
            Setting::SetMetadata => "set_metadata",
            Setting::SetTensor => "set_tensor",
            Setting::Shard => "shard",
            Setting::Shared => "shared",
            Setting::Slice => "slice",
            Setting::StateDict => "state_dict",
            Setting::StripPrefix => "strip_prefix",
            Setting::To => "to",
            Setting::TpRule => "tp_rule",
            Setting::Weights => "weights",
        }
    }

    /// A sentence that begins with this setting.
    pub(crate) fn then(self, text: impl Into<String>) -> Message {
        Message::default().setting(self).text(text)
    }
}

/// How a setting is called for whoever reads a message.
pub type Voice = fn(Setting) -> String;

/// The library's own: the names of fields.
pub fn fields(setting: Setting) -> String {
    setting.name().to_owned()
}

/// Text with settings in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Setting(Setting),
}

impl Message {
    /// Adds text.
    #[must_use]
    pub(crate) fn text(mut self, text: impl Into<String>) -> Self {
        self.0.push(Piece::Text(text.into()));
        self
    }

    /// Adds the name of a setting.
    #[must_use]
    pub(crate) fn setting(mut self, setting: Setting) -> Self {
        self.0.push(Piece::Setting(setting));
        self
    }

    /// Whether it names one of these settings.
    pub(crate) fn names(&self, settings: &[Setting]) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Setting(setting) if settings.contains(setting)))
    }

    /// Adds another message.
    #[must_use]
    pub(crate) fn message(mut self, other: Message) -> Self {
        self.0.extend(other.0);
        self
    }

    /// All of them, one after the other.
    pub(crate) fn joined(messages: impl IntoIterator<Item = Message>, separator: &str) -> Self {
        let mut all = Message::default();
        for message in messages {
            all = if all.0.is_empty() { message } else { all.text(separator).message(message) };
        }
        all
    }

    /// With settings as `voice` calls them.
    pub fn spoken(&self, voice: Voice) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Setting(setting) => voice(*setting),
        });
        pieces.collect()
    }
}

/// Something worth knowing about a file that is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The file.
    pub file: String,
    /// What there is to know.
    pub message: Message,
}

impl Note {
    /// A note about `file`.
    pub(crate) fn new(file: &str, message: impl Into<Message>) -> Self {
        Note { file: file.to_owned(), message: message.into() }
    }
}

impl<T: Into<String>> From<T> for Message {
    fn from(text: T) -> Self {
        Message::default().text(text)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spoken(fields))
    }
}

/// As the library says it: whoever has another voice writes [`spoken`](Message::spoken) text.
impl serde::Serialize for Message {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reader_decides_how_settings_are_called() {
        let message = Message::from("leave it out with ").setting(Setting::Exclude).text(" or ").setting(Setting::Drop);
        assert_eq!(message.to_string(), "leave it out with exclude or drop");
        assert_eq!(message.spoken(|setting| format!("<{}>", setting.name())), "leave it out with <exclude> or <drop>");
        assert!(message.names(&[Setting::Drop]) && !message.names(&[Setting::Root]));
        let joined = Message::joined([Setting::Root.then(" a"), Message::from("b")], "; ");
        assert_eq!(joined.to_string(), "root a; b");
        assert_eq!(Message::joined([], "; "), Message::default());
    }
}
