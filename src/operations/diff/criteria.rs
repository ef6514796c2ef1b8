//! What counts as a difference.

use super::{Ignore, Options};
use crate::data::compare;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::message::Setting;

/// What counts as a difference between two files.
#[derive(Debug, Clone)]
pub(crate) struct Criteria {
    /// How elements and floats are compared.
    pub elements: compare::Options,
    /// Elements are compared.
    pub reads_data: bool,
    /// Values of one name are.
    pub values_count: bool,
    /// Whether a key is a number or text.
    pub keys_count: bool,
    /// Dtypes.
    pub dtypes_count: bool,
    /// Devices, where both say one.
    pub devices_count: bool,
    /// Whether tensors want a gradient, where both say so.
    pub gradients_count: bool,
    /// Only names and shapes, as `load_state_dict` looks at them.
    pub load: bool,
    /// Bounds on what is read.
    pub limits: Limits,
}

impl Criteria {
    /// As the options say; `weights` when name, dtype, shape and elements are all that is compared, `state_dict` when one
    /// side does not say which tensors want a gradient.
    pub(crate) fn of(options: &Options, limits: &Limits, weights: bool, state_dict: bool) -> Result<Self> {
        for (setting, tolerance) in [(Setting::Rtol, options.rtol), (Setting::Atol, options.atol)] {
            if !(tolerance >= 0.0 && tolerance.is_finite()) {
                return Err(Error::refused(setting.then(" must be finite and not negative")));
            }
        }
        let counts = |what: Ignore| !options.ignore.contains(&what);
        Ok(Criteria {
            elements: compare::Options {
                rtol: options.rtol,
                atol: options.atol,
                nan_equal: !options.nan_differs,
                bitwise: options.bitwise,
                stop_at_first: false,
            },
            reads_data: !options.structure && !options.load && counts(Ignore::Values),
            values_count: counts(Ignore::Values),
            keys_count: !weights && !state_dict && counts(Ignore::Values),
            dtypes_count: counts(Ignore::Dtype),
            devices_count: !weights && counts(Ignore::Device),
            gradients_count: !state_dict && counts(Ignore::RequiresGrad),
            load: options.load,
            limits: limits.clone(),
        })
    }
}
