//! Which names are compared: those that were asked for, below the roots.

use super::side::Side;
use crate::checkpoint::Root;
use crate::checkpoint::resolve::Listed;
use crate::error::{Error, Result};
use crate::message::Message;
use crate::operations::Input;
use crate::operations::select::{Asked, Filter};

/// An input, where its names begin, and whether that was found rather than named.
pub(crate) type Begun<'a> = (&'a Input, &'a Root, bool);

/// What the arguments choose on each side: among the aligned names of both together, else among all names of the files as
/// they stand there. An argument that matches in neither file is an error.
pub(crate) fn choose(asked: &Asked<'_>, inputs: [Begun<'_>; 2], sides: [&Side<'_>; 2]) -> Result<[Filter; 2]> {
    let listed = sides.map(|side| {
        let named = side.tensors.iter().chain(side.values.iter().filter(|named| !named.is_module()));
        Listed::of_names(named.map(|named| (named.name.clone(), named.path.as_slice())))
    });
    let mut resolved = asked.resolve(&listed)?;
    let [a, b] = inputs;
    if resolved.missing().next().is_some() {
        // nobody named the part that is compared, so names begin at the top
        let whole = |(input, root, is_found): Begun<'_>| {
            let from = if is_found { input.checkpoint.top() } else { root.clone() };
            input.checkpoint.names(&from).map_err(|e| e.of_input(&input.name))
        };
        let whole = [whole(a)?, whole(b)?];
        let whole = whole.each_ref().map(|names| Listed::of(&names.entries));
        resolved.look_further(&whole)?;
        let both = || format!("{} and {}", a.0.name, b.0.name);
        resolved.missing_is_an_error(&whole).map_err(|e| e.of_part(&both()))?;
    }
    let filter = |(_, root, is_found): Begun<'_>| -> Result<Filter> {
        let filter = resolved.filter()?;
        Ok(if is_found { filter.below(root) } else { filter })
    };
    Ok([filter(a)?, filter(b)?])
}

/// Nothing is not equal to nothing where something was left aside.
pub(crate) fn nothing_left(asked: &Asked<'_>, weights: bool, inputs: [&Input; 2]) -> Result<()> {
    let nothing = |what: Message| Err(Error::refused(Message::from("nothing to compare: ").message(what)));
    if !asked.is_empty() {
        return nothing(asked.nothing_left("names"));
    }
    for input in inputs {
        let names = input.checkpoint.names(&input.checkpoint.top()).map_err(|e| e.of_input(&input.name))?;
        if !names.entries.is_empty() {
            let what = if weights { "no weights on either side" } else { "no names below the roots" };
            return nothing(what.into());
        }
    }
    Ok(())
}
