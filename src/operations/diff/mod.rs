//! Did anything change between two checkpoints, where, and by how much.
//!
//! Equal means equal as numbers, element by element, whatever the dtypes are. When one of the two has a format for weights
//! only, weights are compared, by name, dtype, shape and elements. A module against a mapping is compared by what its
//! `state_dict()` gives.

mod align;
mod choose;
mod comparing;
mod criteria;
mod pairs;
mod prefix;
mod renames;
mod side;
mod tensors;
mod values;

use crate::error::Result;
use crate::operations::Input;
use crate::progress::{Progress, Silent};
use crate::report::diff::{Diff, Problem};
use comparing::Comparing;

/// What is compared, and what counts as a difference: everything, unless something is set.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// Compare only the part of the first under this name; `.` is the top. Names are relative to it.
    pub root_a: Option<String>,
    /// Compare only the part of the second under this name.
    pub root_b: Option<String>,
    /// Take the names that match: a name, an element with everything below it, or a glob.
    pub include: Vec<String>,
    /// Skip the names that match.
    pub exclude: Vec<String>,
    /// Strip this prefix from the names that have it: in both, or in one only if more names match that way.
    pub strip_prefix: Option<String>,
    /// Compare names, shapes, dtypes and other values only; read no tensor data.
    pub structure: bool,
    /// Compare what `load_state_dict(strict=False)` of the first into the second does: keys and shapes of the weights.
    pub load: bool,
    /// Relative tolerance: `|a - b| <= atol + rtol * |b|` is equal, as in `torch.allclose`.
    pub rtol: f64,
    /// Absolute tolerance.
    pub atol: f64,
    /// Treat NaN as different from NaN.
    pub nan_differs: bool,
    /// Compare bits: 0.0 differs from -0.0, and a NaN from other NaNs. Tolerances do not matter then.
    pub bitwise: bool,
    /// Ignore differences in these properties.
    pub ignore: Vec<Ignore>,
}

/// What may be left out of account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignore {
    /// Device.
    Device,
    /// requires_grad flag.
    RequiresGrad,
    /// Data type; elements are still compared as numbers.
    Dtype,
    /// Elements of tensors, and other values of the same name.
    Values,
}

/// Whether two checkpoints differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// They are equal.
    Equal,
    /// They differ.
    Different,
    /// These could not be compared.
    Unknown(Vec<Problem>),
}

/// Everything in which two checkpoints differ. Aliases in the metadata of safetensors files become tensors of their inputs.
///
/// ```
/// use ckpt::layout::Layout;
/// use ckpt::limits::Limits;
/// use ckpt::operations::Input;
/// use ckpt::operations::diff::{Options, diff};
/// use ckpt::progress::Silent;
///
/// # fn main() -> ckpt::error::Result<()> {
/// let open = |name: &str| {
///     let layout = Layout::of(name.as_ref(), &Limits::default())?;
///     let (bytes, checkpoint) = (layout.bytes(), layout.open(&Limits::default(), &Silent)?);
///     Ok::<_, ckpt::error::Error>(Input { name: name.into(), name_bytes: None, bytes, checkpoint })
/// };
/// let (mut a, mut b) = (open("testdata/diff/run_a.ckpt")?, open("testdata/diff/run_b.ckpt")?);
/// let mut options = Options::default();
/// options.include.push("*head.*".into());
/// let diff = diff(&mut a, &mut b, &options, &Silent)?;
/// assert!(!diff.equal);
/// let changed: Vec<&str> = diff.changed.iter().map(|tensor| tensor.name.as_str()).collect();
/// assert_eq!(changed, ["model.head.weight", "model.head.bias"]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When an option names nothing, a tolerance is negative or not finite, nothing is left to compare, or a bound is met.
/// Tensors and values that cannot be compared are [`Diff::problems`].
pub fn diff(a: &mut Input, b: &mut Input, options: &Options, progress: &dyn Progress) -> Result<Diff> {
    restore_aliases([&mut *a, &mut *b])?;
    let diff = Comparing::of(a, b, options)?.diff(progress);
    read_whole([a, b])?;
    Ok(diff)
}

/// Whether two checkpoints differ, with as little reading as possible. The answer is always the same: what the files say is
/// wrong comes first, then what needs no data, then the first tensor in file order.
///
/// ```
/// # use ckpt::{layout::Layout, limits::Limits, operations::Input, progress::Silent};
/// use ckpt::operations::diff::{Answer, Options, first_difference};
///
/// # fn main() -> ckpt::error::Result<()> {
/// # let open = |name: &str| {
/// #     let layout = Layout::of(name.as_ref(), &Limits::default())?;
/// #     let (bytes, checkpoint) = (layout.bytes(), layout.open(&Limits::default(), &Silent)?);
/// #     Ok::<_, ckpt::error::Error>(Input { name: name.into(), name_bytes: None, bytes, checkpoint })
/// # };
/// let mut saved = open("testdata/diff/run_a.ckpt")?;
/// let mut weights = open("testdata/diff/run_a.safetensors")?;
/// assert_eq!(first_difference(&mut saved, &mut weights, &Options::default())?, Answer::Equal);
/// let mut later = open("testdata/diff/run_b.ckpt")?;
/// assert_eq!(first_difference(&mut saved, &mut later, &Options::default())?, Answer::Different);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`diff`].
pub fn first_difference(a: &mut Input, b: &mut Input, options: &Options) -> Result<Answer> {
    restore_aliases([&mut *a, &mut *b])?;
    let answer = Comparing::of(a, b, options)?.first_difference(&Silent);
    read_whole([a, b])?;
    Ok(answer)
}

fn restore_aliases(inputs: [&mut Input; 2]) -> Result<()> {
    for input in inputs {
        input.checkpoint.restore_aliases().map_err(|e| e.of_input(&input.name))?;
    }
    Ok(())
}

/// Fails when a value was looked at that could not be read.
fn read_whole(inputs: [&Input; 2]) -> Result<()> {
    inputs.into_iter().try_for_each(|input| input.checkpoint.graph.complete().map_err(|e| e.of_input(&input.name)))
}
