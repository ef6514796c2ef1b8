//! Which globals make something as large as they are told: one table.

/// What a global makes of what it is called with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Makes {
    /// As many bytes as a number says or an iterator gives.
    Bytes,
    /// A container of what an iterator gives.
    Container,
    /// Nothing of what an iterator gives, all of which it goes through.
    Walk,
    /// Iterators, which hold nothing: `count()`, `repeat(x, n)`, `chain(a, b)`, `islice(it, n)`, `zip(a, b)`, `range(n)`.
    Count,
    Repeat,
    Chain,
    Slice,
    Zip,
    Range,
    /// As long as another, without end when there is anything in it.
    Cycle,
    /// Iterators that hold what they are given: `product(a, b)`, `permutations(a, n)`.
    Product,
    Choices,
    /// An array of the shape that is the argument of this number, of 8 bytes an element or of those of its dtype.
    Shape(usize),
    /// A tensor of the sizes that stand in a row or in the first argument.
    Sizes,
    /// A matrix of so many rows, and as many columns where nothing else is said.
    Square,
    /// `arange(start, stop, step)`, and `linspace(start, stop, count)`.
    Steps,
    Spaces,
    /// A compressed matrix of this shape: as much as its longer side.
    Sides,
    /// A layer: the product of its sizes.
    Layer,
    /// An array as often as numbers say.
    Repeated,
    /// `a * b`, `a + b`, `a ** b`, `a << b`, `text % value`, `format(value, text)`, `int(text)`.
    Times,
    Sum,
    Power,
    Shift,
    Format,
    Spec,
    Number,
    /// `Fraction('1e9')` works its number out.
    Fraction,
    /// What says how many bytes an element has, and one such element.
    Dtype,
    Scalar,
}

/// What a global makes; nothing for one that makes no more than it is given.
pub(super) fn makes(module: &str, name: &str) -> Option<Makes> {
    let first = module.split('.').next().unwrap_or(module);
    Some(match (first, name) {
        ("builtins" | "__builtin__", _) => match name {
            "bytearray" | "bytes" | "buffer" => Makes::Bytes,
            "list" | "tuple" | "set" | "frozenset" | "sorted" | "dict" | "dict.fromkeys" => Makes::Container,
            "sum" | "min" | "max" | "any" | "all" => Makes::Walk,
            "range" | "xrange" => Makes::Range,
            "zip" => Makes::Zip,
            "enumerate" | "reversed" | "iter" | "filter" => Makes::Chain,
            "pow" => Makes::Power,
            "format" => Makes::Spec,
            "int" | "long" => Makes::Number,
            _ => return None,
        },
        ("itertools", _) => match name {
            "count" => Makes::Count,
            "repeat" => Makes::Repeat,
            "cycle" => Makes::Cycle,
            "chain" | "chain.from_iterable" | "pairwise" | "batched" | "compress" | "zip_longest" => Makes::Chain,
            "islice" => Makes::Slice,
            "product" => Makes::Product,
            "permutations" | "combinations" | "combinations_with_replacement" => Makes::Choices,
            _ => return None,
        },
        ("operator" | "_operator", _) => match name.trim_matches('_') {
            "mul" | "imul" => Makes::Times,
            "add" | "iadd" | "concat" | "iconcat" => Makes::Sum,
            "pow" | "ipow" => Makes::Power,
            "lshift" | "ilshift" => Makes::Shift,
            "mod" | "imod" => Makes::Format,
            "contains" | "countOf" | "indexOf" => Makes::Walk,
            _ => return None,
        },
        ("math", "factorial" | "pow") => Makes::Power,
        ("math", "fsum" | "prod") => Makes::Walk,
        ("collections", "deque" | "OrderedDict" | "Counter" | "UserList" | "UserDict") => Makes::Container,
        ("array", "array") => Makes::Container,
        ("fractions", "Fraction") => Makes::Fraction,
        ("numpy", _) => match name {
            "zeros" | "ones" | "empty" | "full" | "ndarray" | "recarray" | "matrix" | "rand" | "randn" | "random" => {
                Makes::Shape(0)
            }
            "_reconstruct" => Makes::Shape(1),
            "_mareconstruct" => Makes::Shape(2),
            "eye" | "identity" | "tri" => Makes::Square,
            "arange" => Makes::Steps,
            "linspace" | "logspace" | "geomspace" => Makes::Spaces,
            "repeat" | "tile" => Makes::Repeated,
            "fromiter" => Makes::Container,
            "dtype" => Makes::Dtype,
            "scalar" => Makes::Scalar,
            _ => return None,
        },
        (
            "scipy",
            "csr_matrix" | "csc_matrix" | "lil_matrix" | "bsr_matrix" | "csr_array" | "csc_array" | "lil_array",
        ) => Makes::Sides,
        ("torch", _) => torch_makes(module, name)?,
        _ => return None,
    })
}

fn torch_makes(module: &str, name: &str) -> Option<Makes> {
    Some(match name {
        "zeros" | "ones" | "empty" | "rand" | "randn" | "full" | "empty_strided" | "randint" | "new_empty" => {
            Makes::Sizes
        }
        "eye" => Makes::Square,
        "arange" | "range" => Makes::Steps,
        "linspace" | "logspace" => Makes::Spaces,
        "tile" | "repeat_interleave" => Makes::Repeated,
        "tensor" | "as_tensor" => Makes::Container,
        _ if matches!(module, "torch" | "torch.cuda" | "torch.storage" | "torch._tensor" | "torch.tensor")
            && (name.ends_with("Storage") || name.ends_with("Tensor")) =>
        {
            Makes::Sizes
        }
        _ if module.starts_with("torch.nn.modules") && name.starts_with(char::is_uppercase) => Makes::Layer,
        _ => return None,
    })
}
