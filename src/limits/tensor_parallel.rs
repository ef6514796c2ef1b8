//! How tensors are cut among the ranks of tensor parallelism, where the files do not say so: the rules of whoever opens them.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

/// How one tensor lies in the files of several ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cut {
    /// Every rank has all of it.
    Replicate,
    /// Every rank has a part of one dimension.
    Dim {
        /// The dimension, counted from 0.
        dim: usize,
        /// So many blocks of it are cut each for itself, and a rank has a part of each: 2 where the gate and the up
        /// projection of a gated MLP are one matrix.
        blocks: u64,
    },
}

/// A rule: the first whose glob matches a tensor's name counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Over whole names; `*` crosses dots.
    pub glob: String,
    /// What it says.
    pub cut: Cut,
}

/// Rules in order. They come before those that are built in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TensorParallel {
    /// The rules.
    pub rules: Vec<Rule>,
}

impl TensorParallel {
    /// Reads rules: a line each, a glob and then `replicate`, a dimension, or a dimension and a number of blocks (`0/2`);
    /// lines that begin with `#` say nothing. Or a JSON object of globs and the like. The error says what is wrong where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rules = match text.trim_start().starts_with('{') {
            true => serde_json::from_str::<Rules>(text).map_err(|e| e.to_string())?.0,
            false => {
                let lines = (1..).zip(text.lines()).map(|(number, line)| (number, line.trim()));
                let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
                let rule = |(number, line): (usize, &str)| {
                    let (glob, cut) = line
                        .rsplit_once(char::is_whitespace)
                        .ok_or_else(|| format!("line {number}: a glob and a dimension or `replicate` are wanted"))?;
                    Rule::new(glob.trim(), cut).map_err(|why| format!("line {number}: {why}"))
                };
                lines.map(rule).collect::<Result<_, String>>()?
            }
        };
        if rules.is_empty() {
            return Err("holds no rule".into());
        }
        Ok(TensorParallel { rules })
    }
}

impl Rule {
    fn new(glob: &str, cut: &str) -> Result<Self, String> {
        Ok(Rule { glob: glob.to_owned(), cut: cut_of(cut)? })
    }
}

fn cut_of(text: &str) -> Result<Cut, String> {
    if text == "replicate" {
        return Ok(Cut::Replicate);
    }
    let (dim, blocks) = text.split_once('/').unwrap_or((text, "1"));
    match (dim.parse(), blocks.parse()) {
        (Ok(dim), Ok(blocks)) if blocks > 0 => Ok(Cut::Dim { dim, blocks }),
        _ => Err(format!(
            "{text:?} is neither `replicate` nor a dimension, nor a dimension and a number of blocks (0/2)"
        )),
    }
}

/// The members of a JSON object, in order.
struct Rules(Vec<Rule>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Dim(usize),
    Text(String),
}

impl<'de> Deserialize<'de> for Rules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Rules;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of globs")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Rules, A::Error> {
                let mut rules = Vec::new();
                while let Some((glob, said)) = map.next_entry::<String, Said>()? {
                    let text = match said {
                        Said::Dim(dim) => dim.to_string(),
                        Said::Text(text) => text,
                    };
                    rules.push(Rule::new(&glob, &text).map_err(serde::de::Error::custom)?);
                }
                Ok(Rules(rules))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_json_say_the_same() {
        let lines = TensorParallel::parse("# GPT\n*.wq.weight  0\n\n*.fc1.weight\t0/2\n*norm* replicate\n").unwrap();
        let json =
            TensorParallel::parse(r#"{"*.wq.weight": 0, "*.fc1.weight": "0/2", "*norm*": "replicate"}"#).unwrap();
        assert_eq!(lines, json);
        let cuts: Vec<Cut> = lines.rules.iter().map(|rule| rule.cut).collect();
        assert_eq!(cuts, [Cut::Dim { dim: 0, blocks: 1 }, Cut::Dim { dim: 0, blocks: 2 }, Cut::Replicate]);
    }

    #[test]
    fn what_is_no_rule() {
        for (text, why) in [
            ("", "no rule"),
            ("*.weight", "line 1"),
            ("a 0\nb first", "line 2: \"first\" is neither"),
            ("a 0/0", "neither"),
            ("a -1", "neither"),
            ("{\"a\": 0.5}", "line 1"),
            ("{\"a\": 0,", "line 1"),
        ] {
            let e = TensorParallel::parse(text).unwrap_err();
            assert!(e.contains(why), "{text:?}: {e}");
        }
    }
}
