//! What the names of DeepSpeed's files say: which rank wrote them, and what lies in them.
//!
//! Source: `_get_ckpt_name`, `_get_rank_zero_ckpt_name` and `_get_expert_ckpt_name` of `deepspeed/runtime/engine.py`,
//! `ckpt_layer_path` of `deepspeed/runtime/pipe/module.py`.

use crate::error::{Error, Result};

const MODEL: &str = "_model_states.pt";
const OPTIMIZER: &str = "_optim_states.pt";

/// What one file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    /// The module of all ranks, or with ZeRO-3 the part of one.
    Model { rank: Option<u32>, model_rank: u32 },
    /// One rank's part of the optimizer and of the fp32 weights.
    Optimizer { rank: u32, model_rank: u32 },
    /// An expert's parameters, or the state of its optimizer.
    Expert,
    /// A layer of a pipeline.
    Layer,
    /// Called like one of DeepSpeed's and like none of those.
    Unknown,
}

fn digits(text: &str) -> Option<u32> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// Nothing for what does not end like DeepSpeed's files.
fn name_of(name: &str) -> Option<Name> {
    if let Some(stem) = name.strip_suffix(OPTIMIZER) {
        let bare = stem.strip_prefix("bf16_").or_else(|| stem.strip_prefix("fp16_")).unwrap_or(stem);
        return Some(match of_rank(bare) {
            Some((rank, model_rank)) => Name::Optimizer { rank, model_rank },
            None if stem.starts_with("expp_rank_") => Name::Expert,
            None => Name::Unknown,
        });
    }
    if name.strip_suffix("-model_states.pt").is_some_and(|stem| stem.starts_with("layer_")) {
        return Some(Name::Layer);
    }
    let stem = name.strip_suffix(MODEL)?;
    Some(match (stem.strip_prefix("mp_rank_").and_then(digits), of_rank(stem)) {
        (Some(model_rank), _) => Name::Model { rank: None, model_rank },
        (None, Some((rank, model_rank))) => Name::Model { rank: Some(rank), model_rank },
        (None, None) if stem.contains("expert_") => Name::Expert,
        (None, None) => Name::Unknown,
    })
}

/// `zero_pp_rank_3_mp_rank_00`.
fn of_rank(stem: &str) -> Option<(u32, u32)> {
    let (rank, model_rank) = stem.strip_prefix("zero_pp_rank_")?.split_once("_mp_rank_")?;
    Some((digits(rank)?, digits(model_rank)?))
}

/// Whether a file is called like one of DeepSpeed's.
pub(crate) fn is_deepspeed(name: &str) -> bool {
    name_of(name).is_some_and(|name| name != Name::Unknown)
}

/// Whether it belongs to a checkpoint of DeepSpeed that is in this directory.
pub(crate) fn is_part(name: &str) -> bool {
    name_of(name).is_some()
}

/// Whether these are files of which one checkpoint is made, sound or not: not where the model itself was split, whose files
/// are known one by one.
pub(crate) fn are_put_together(files: &[String]) -> bool {
    !files.iter().filter_map(|file| name_of(file)).any(Name::is_of_split_model)
}

impl Name {
    fn is_of_split_model(self) -> bool {
        match self {
            Name::Model { model_rank, .. } | Name::Optimizer { model_rank, .. } => model_rank > 0,
            Name::Expert | Name::Layer => true,
            Name::Unknown => false,
        }
    }
}

/// The files of a checkpoint, those of ranks by rank.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// What is the same for all ranks.
    pub whole: Option<String>,
    /// ZeRO-3: the module's part of each rank.
    pub models: Vec<String>,
    /// The fp32 weights of each rank.
    pub optimizers: Vec<String>,
}

impl Names {
    /// Sorts the files of a directory. Fails when a rank is missing, when two files are of the same rank, and where the
    /// model itself was split.
    pub(crate) fn of(files: &[String]) -> Result<Self> {
        let mut names = Names::default();
        let (mut models, mut optimizers) = (Vec::new(), Vec::new());
        for file in files {
            let Some(name) = name_of(file) else { continue };
            match name {
                Name::Expert => return Err(split("expert-parallel", file)),
                Name::Layer => return Err(split("pipeline-parallel", file)),
                Name::Model { model_rank: 1.., .. } | Name::Optimizer { model_rank: 1.., .. } => {
                    return Err(split("tensor-parallel", file));
                }
                Name::Model { rank: None, .. } if names.whole.is_none() => names.whole = Some(file.clone()),
                Name::Model { rank: Some(rank), .. } => models.push((rank, file)),
                Name::Optimizer { rank, .. } => optimizers.push((rank, file)),
                Name::Model { rank: None, .. } | Name::Unknown => {
                    let message = format!("{file} is called like a file of DeepSpeed's, and is of no rank");
                    return Err(Error::malformed(message).advise("move it out of the directory"));
                }
            }
        }
        names.models = by_rank(models)?;
        names.optimizers = by_rank(optimizers)?;
        Ok(names)
    }

    /// The file that says what the weights are called.
    pub(crate) fn first_model(&self) -> Option<&String> {
        self.whole.as_ref().or(self.models.first())
    }
}

fn split(how: &str, file: &str) -> Error {
    let message = format!("is a {how} checkpoint of DeepSpeed ({file}), whose parts are not put together");
    Error::unsupported(message).advise("name one of its files")
}

/// The files in the order of their ranks, which go from 0 to the last one without a gap.
fn by_rank(mut files: Vec<(u32, &String)>) -> Result<Vec<String>> {
    files.sort();
    for (place, (rank, file)) in (0..).zip(&files) {
        if *rank > place {
            return Err(Error::malformed(format!("the file of rank {place} is missing: the next one is {file}")));
        }
        if *rank < place {
            let other = usize::try_from(place - 1).ok().and_then(|at| files.get(at)).map_or("", |(_, file)| file);
            let message = format!("{other} and {file} are both of rank {rank}: one was left by another run");
            return Err(Error::malformed(message).advise("move it out of the directory"));
        }
    }
    Ok(files.into_iter().map(|(_, file)| file.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[&str]) -> Result<Names, String> {
        Names::of(&files.iter().map(|file| (*file).to_owned()).collect::<Vec<_>>()).map_err(|e| e.to_string())
    }

    #[test]
    fn files_of_ranks() {
        let found = names(&[
            "latest",
            "bf16_zero_pp_rank_10_mp_rank_00_optim_states.pt",
            "zero_to_fp32.py",
            "mp_rank_00_model_states.pt",
        ]);
        assert!(found.unwrap_err().contains("rank 0 is missing"));
        let ranks: Vec<String> =
            (0..12).rev().map(|rank| format!("zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")).collect();
        let found = Names::of(&ranks).unwrap().optimizers;
        assert_eq!(found.iter().rev().cloned().collect::<Vec<_>>(), ranks);
        let gap: Vec<String> = ranks.iter().filter(|name| !name.contains("rank_7_")).cloned().collect();
        assert!(Names::of(&gap).unwrap_err().to_string().contains("rank 7 is missing"));
    }

    #[test]
    fn what_is_not_put_together() {
        let cases = [
            ("layer_0_expert_1_mp_rank_00_model_states.pt", "expert-parallel"),
            ("expert_3_mp_rank_00_model_states.pt", "expert-parallel"),
            ("expp_rank_0_mp_rank_00_optim_states.pt", "expert-parallel"),
            ("layer_03-model_00-model_states.pt", "pipeline-parallel"),
            ("mp_rank_01_model_states.pt", "tensor-parallel"),
            ("zero_pp_rank_0_mp_rank_01_optim_states.pt", "tensor-parallel"),
            ("old_mp_rank_00_model_states.pt", "of no rank"),
            ("zero_pp_rank__mp_rank_00_optim_states.pt", "of no rank"),
            ("zero_pp_rank_4294967296_mp_rank_00_optim_states.pt", "of no rank"),
        ];
        for (file, word) in cases {
            let said = names(&[file]).unwrap_err();
            assert!(said.contains(word) && said.contains(file), "{said}");
        }
        let twice = ["bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"];
        assert!(names(&twice).unwrap_err().contains("both of rank 0"));
        assert!(!is_deepspeed("pytorch_model.pt") && is_deepspeed("mp_rank_00_model_states.pt"));
    }
}
