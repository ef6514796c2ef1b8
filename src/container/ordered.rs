//! A JSON object in the order of the file: serde_json's own map sorts its keys.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

/// The members of a JSON object, in order. A key that is there twice is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ordered<T>(pub Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Ordered(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Ordered<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered<T>, A::Error> {
                let mut seen = HashSet::new();
                let mut members = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if !seen.insert(key.clone()) {
                        return Err(twice(&key));
                    }
                    members.push((key, map.next_value()?));
                }
                Ok(Ordered(members))
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// What is said of a key that an object has twice.
pub(crate) fn twice<E: Error>(key: &str) -> E {
    E::custom(format_args!("the key `{}` is there twice", key.escape_debug()))
}

/// Where in `json` the parser stopped, in bytes, and what it says.
pub(crate) fn json_error(json: &[u8], e: &serde_json::Error) -> (u64, String) {
    let lines = json.split(|byte| *byte == b'\n').take(e.line().saturating_sub(1));
    let before: usize = lines.map(|line| line.len() + 1).sum();
    let text = e.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    ((before + e.column().saturating_sub(1)) as u64, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_the_files() {
        let read = |json: &str| serde_json::from_str::<Ordered<u8>>(json);
        assert_eq!(read(r#"{"z": 1, "a": 2}"#).unwrap().0, [("z".to_owned(), 1), ("a".to_owned(), 2)]);
        let e = read(r#"{"z": 1, "z": 2}"#).unwrap_err();
        assert!(e.to_string().contains("`z` is there twice"), "{e}");
    }
}
