//! The JSON schemas of the reports, as files. A test makes them from the types, so that they never differ from what is
//! written; `CKPT_BLESS=1` writes them again.
//!
//! A schema has a number that grows when a field is removed or changes its meaning. New fields keep the number, and so every
//! schema allows fields that it does not name.

/// One schema: what `schema` says in a report, and the text of the file.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// `ckpt.ls/1`.
    pub name: &'static str,
    /// JSON Schema, draft 2020-12.
    pub text: &'static str,
}

macro_rules! schemas {
    ($($name:literal $file:literal),* $(,)?) => {
        /// All of them, in the order of their names.
        pub const ALL: &[Schema] =
            &[$(Schema { name: $name, text: include_str!(concat!("schemas/", $file)) }),*];
    };
}

schemas! {
    "ckpt.average/1" "average.1.json",
    "ckpt.check/1" "check.1.json",
    "ckpt.convert/1" "convert.1.json",
    "ckpt.diff/1" "diff.1.json",
    "ckpt.digest/1" "digest.1.json",
    "ckpt.edit/1" "edit.1.json",
    "ckpt.error/1" "error.1.json",
    "ckpt.extract/1" "extract.1.json",
    "ckpt.ls/1" "ls.1.json",
    "ckpt.ls-archive/1" "ls-archive.1.json",
    "ckpt.merge/1" "merge.1.json",
    "ckpt.names/1" "names.1.json",
    "ckpt.rename/1" "rename.1.json",
    "ckpt.repair/1" "repair.1.json",
    "ckpt.tree/1" "tree.1.json",
    "ckpt.value/1" "value.1.json",
}

/// The schema of this name: `ckpt.ls/1`, or short `ls`.
pub fn find(name: &str) -> Option<&'static Schema> {
    let short = |schema: &Schema| schema.name.strip_prefix("ckpt.").and_then(|name| name.split_once('/'));
    ALL.iter().find(|schema| schema.name == name || short(schema).is_some_and(|(short, _)| short == name))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use schemars::generate::SchemaSettings;
    use schemars::transform::{RecursiveTransform, Transform};
    use schemars::{JsonSchema, Schema as Generated};
    use serde_json::{Value, json};

    use super::*;
    use crate::report;

    /// The text of a schema file: what is serialized, called by its name, which `schema` always says.
    fn text_of<T: JsonSchema>(name: &str) -> String {
        let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
        let mut schema = generator.into_root_schema_for::<T>();
        schema.insert("title".to_owned(), name.into());
        let described = json!({"const": name, "description": "The name of this schema."});
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert("schema".to_owned(), described);
        }
        let mut plain = RecursiveTransform(|schema: &mut Generated| {
            // widths of Rust's integers are no formats of JSON Schema
            schema.remove("format");
            if let Some(Value::String(text)) = schema.get_mut("description") {
                *text = text.replace('\n', " ");
                assert!(!text.contains("[`"), "a link that readers of the schema cannot follow: {text}");
            }
        });
        plain.transform(&mut schema);
        serde_json::to_string_pretty(&schema).unwrap() + "\n"
    }

    fn generated(name: &str) -> String {
        match name {
            "ckpt.average/1" => text_of::<report::average::Averaging>(name),
            "ckpt.check/1" => text_of::<report::check::Check>(name),
            "ckpt.convert/1" => text_of::<report::convert::Conversion>(name),
            "ckpt.diff/1" => text_of::<report::diff::Diff>(name),
            "ckpt.digest/1" => text_of::<report::digest::Digested>(name),
            "ckpt.edit/1" => text_of::<report::edit::Edits>(name),
            "ckpt.error/1" => text_of::<report::refusal::Refusal>(name),
            "ckpt.extract/1" => text_of::<report::extract::Extraction>(name),
            "ckpt.ls/1" => text_of::<report::ls::Listing>(name),
            "ckpt.ls-archive/1" => text_of::<report::ls_archive::ArchiveListing>(name),
            "ckpt.merge/1" => text_of::<report::merge::Merging>(name),
            "ckpt.names/1" => text_of::<report::names::NameList<'_>>(name),
            "ckpt.rename/1" => text_of::<report::rename::Renaming>(name),
            "ckpt.repair/1" => text_of::<report::repair::Repair>(name),
            "ckpt.tree/1" => text_of::<report::tree::schema::Top>(name),
            "ckpt.value/1" => text_of::<report::value::Extracted>(name),
            _ => panic!("{name}: no type"),
        }
    }

    #[test]
    fn schemas_are_in_step() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/schemas");
        for schema in ALL {
            let path = folder.join(schema.name.trim_start_matches("ckpt.").replace('/', ".") + ".json");
            let wanted = generated(schema.name);
            if std::env::var_os("CKPT_BLESS").is_some() {
                std::fs::write(&path, wanted).unwrap();
            } else {
                assert!(std::fs::read_to_string(&path).unwrap() == wanted, "{}: bless it", path.display());
            }
        }
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), ALL.len());
    }

    #[test]
    fn found_by_both_names() {
        for schema in ALL {
            let short = schema.name.trim_start_matches("ckpt.").trim_end_matches("/1");
            assert_eq!([find(schema.name), find(short)].map(|found| found.unwrap().name), [schema.name; 2]);
        }
        assert!(["", "ckpt", "ls/1", "ckpt.ls/2", "ckpt."].iter().all(|name| find(name).is_none()));
    }
}
