//! From which side a prefix is taken off, and whether that could be done for good.

use super::pairs::pair;
use super::side::Side;
use crate::checkpoint::edit::prefixes;
use crate::checkpoint::edit::rules::{Rules, Step};
use crate::checkpoint::near::near;
use crate::checkpoint::{Checkpoint, Container};
use crate::error::{Error, Result};
use crate::message::Note;

/// Whether this step renames something in a checkpoint that can be written as it is.
pub(crate) fn can_be_stripped(checkpoint: &Checkpoint, step: &Step) -> bool {
    // a distributed checkpoint is not written as one
    (checkpoint.container() == Container::Sharded || !checkpoint.container().is_merged())
        && checkpoint
            .plan_renames(&checkpoint.top(), &Rules(vec![step.clone()]), None)
            .is_ok_and(|plan| !plan.renames.is_empty())
}

/// The sides with the prefix taken off both, A or B: whichever makes most names agree, the first of these where several
/// do; which of them lost it. Says so when only one did that both have. Fails when no name has it, when its dot is
/// missing, and when two names would become one.
pub(crate) fn without_prefix<'a>(
    prefix: &str,
    whole: (Side<'a>, Side<'a>),
    stripped: (Side<'a>, Side<'a>),
) -> Result<(Side<'a>, Side<'a>, [bool; 2], Option<Note>)> {
    let has = (stripped.0.stripped.names > 0, stripped.1.stripped.names > 0);
    if has == (false, false) {
        return Err(Error::refused(no_such_prefix(prefix, &whole)));
    }
    let agreeing =
        |a: &Side<'_>, b: &Side<'_>| pair(&a.tensors, &b.tensors).both.len() + pair(&a.values, &b.values).both.len();
    let mut best: Option<(usize, (bool, bool))> = None;
    for choice in [(true, true), (true, false), (false, true)] {
        if choice.0 && !has.0 || choice.1 && !has.1 {
            continue;
        }
        let left = if choice.0 { &stripped.0 } else { &whole.0 };
        let right = if choice.1 { &stripped.1 } else { &whole.1 };
        if left.stripped.fault.is_none() && right.stripped.fault.is_none() {
            let agree = agreeing(left, right);
            best = best.filter(|(most, _)| *most >= agree).or(Some((agree, choice)));
        }
    }
    let Some((_, choice)) = best else {
        // what is wrong with one file is enough to mend what was asked for
        let side = if stripped.0.stripped.fault.is_some() { &stripped.0 } else { &stripped.1 };
        return Err(Error::refused(side.stripped.fault.as_deref().unwrap_or_default()).of_input(side.name));
    };
    let said = |side: &Side<'_>| {
        let what = format!("{prefix:?} stripped from this file only, so that more names match");
        Some(Note::new(side.name, what))
    };
    let note = match choice {
        (true, false) if has.1 => said(&whole.0),
        (false, true) if has.0 => said(&whole.1),
        _ => None,
    };
    let left = if choice.0 { stripped.0 } else { whole.0 };
    let right = if choice.1 { stripped.1 } else { whole.1 };
    Ok((left, right, [choice.0, choice.1], note))
}

fn no_such_prefix(prefix: &str, whole: &(Side<'_>, Side<'_>)) -> String {
    let sides = [&whole.0, &whole.1].into_iter();
    let names: Vec<&str> =
        sides.flat_map(|side| side.tensors.iter().chain(&side.values)).map(|named| &*named.name).collect();
    let there = prefixes(prefix, names.iter().copied());
    let nodes = there.iter().map(|(prefix, _)| prefix.trim_end_matches('.'));
    let near = near(prefix.trim_end_matches('.'), nodes);
    let near: Vec<String> = near.iter().map(|near| format!("\"{near}.\"")).collect();
    let hint = match (near.as_slice(), names.first()) {
        ([], Some(example)) => format!("; names look like {example:?}"),
        ([], None) => String::new(),
        (near, _) => format!("; did you mean {}?", near.join(" or ")),
    };
    format!("no name in {} or {} begins with {prefix:?}{hint}", whole.0.name, whole.1.name)
}
