//! The parameters that an optimizer may have been made of: those of each model, in order, tied ones once.

use std::collections::{HashMap, HashSet};

use super::Fit;
use crate::checkpoint::names::{Element, join};
use crate::checkpoint::tensor::View;
use crate::checkpoint::{Checkpoint, Item, Names, Role, TensorId};

/// One parameter of a model.
#[derive(Clone, Copy)]
pub(super) struct Parameter<'a> {
    /// From the model down.
    path: &'a [Element],
    pub shape: &'a [i64],
}

impl Parameter<'_> {
    /// Its name in the model.
    pub(crate) fn name(&self) -> String {
        join(self.path)
    }
}

/// What makes two names one parameter.
#[derive(PartialEq, Eq, Hash)]
enum Identity {
    View(View),
    Object(TensorId),
}

/// Every way to see models in the file: each mapping or module that directly holds parameters; all that lies below each
/// key of the top object; everything together.
pub(super) struct Models<'a> {
    tiers: [Vec<Vec<Parameter<'a>>>; 3],
    /// The shapes of every name that a model knows a parameter by.
    shapes: HashMap<String, Vec<&'a [i64]>>,
}

impl<'a> Models<'a> {
    pub(crate) fn of(checkpoint: &'a Checkpoint, names: &'a Names) -> Self {
        let mut tiers = [Tier::default(), Tier::default(), Tier::default()];
        for entry in names.entries.iter().filter(|entry| entry.role == Role::Parameter) {
            let Item::Tensor(id, true) = entry.item else { continue };
            let Some(tensor) = checkpoint.tensor(id) else { continue };
            let depth = entry.path.len();
            for (tier, base) in tiers.iter_mut().zip([depth.saturating_sub(1), usize::from(depth > 1), 0]) {
                let Some((model, path)) = entry.path.split_at_checked(base) else { continue };
                let identity = tensor.view().map_or(Identity::Object(id), Identity::View);
                tier.add(model, identity, Parameter { path, shape: &tensor.shape });
            }
        }
        let tiers = tiers.map(|tier| tier.models);
        let mut shapes: HashMap<String, Vec<&[i64]>> = HashMap::new();
        for parameter in tiers.first().into_iter().flatten().flatten() {
            shapes.entry(parameter.name()).or_default().push(parameter.shape);
        }
        Models { tiers, shapes }
    }

    pub(crate) fn tiers(&self) -> impl Iterator<Item = &[Vec<Parameter<'a>>]> {
        self.tiers.iter().map(Vec::as_slice)
    }

    /// Whether no model has a parameter of that name which does not fit, or one has one that does.
    pub(crate) fn allow(&self, name: &str, fit: impl Fn(&[i64]) -> Fit) -> bool {
        self.shapes.get(name).is_none_or(|shapes| shapes.iter().any(|shape| fit(shape) != Fit::No))
    }
}

#[derive(Default)]
struct Tier<'a> {
    places: HashMap<&'a [Element], usize>,
    seen: HashSet<(usize, Identity)>,
    models: Vec<Vec<Parameter<'a>>>,
}

impl<'a> Tier<'a> {
    fn add(&mut self, model: &'a [Element], identity: Identity, parameter: Parameter<'a>) {
        let at = *self.places.entry(model).or_insert_with(|| {
            self.models.push(Vec::new());
            self.models.len() - 1
        });
        if self.seen.insert((at, identity)) {
            self.models.get_mut(at).into_iter().for_each(|model| model.push(parameter));
        }
    }
}
