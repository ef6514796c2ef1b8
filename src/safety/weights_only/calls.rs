//! `REDUCE` and `NEWOBJ`: the allowed callables, how many arguments each takes, and the rule that answers for it.
//!
//! The rules themselves are in `tensors.rs`, `constructors.rs` and `plain.rs`, that of `persistent_load` in `storages.rs`; each gives a
//! value, or says why torch would raise.
//!
//! Sources: `torch/_utils.py` (`_rebuild_*`), `torch/serialization.py` (`persistent_load`), and what torch 2.15 answered
//! to each kind of wrong argument. Arguments that are unknown pass.

use super::arguments::{Made, wrong};
use super::replay::Replay;
use super::tables::Kind;
use super::value::{Id, Mapping, OtherStorage, Value, tensor};

impl Replay<'_> {
    /// `REDUCE`: `callable(*args)`.
    pub(super) fn reduce(&mut self, callable: Id, args: Id) -> Value {
        let (name, kind) = match self.value(callable) {
            Value::Global(name, kind) => (*name, *kind),
            Value::Unknown => return Value::Unknown,
            other => {
                let detail = format!("calls {}, which is no allowed global", other.type_name());
                self.refuse("call", detail);
                return Value::Unknown;
            }
        };
        let made = self.unpack(args).and_then(|args| match args {
            Some(args) => self.call(name, kind, &args),
            None => Ok(Value::Unknown),
        });
        self.told_value(name, made)
    }

    fn told_value(&mut self, name: &str, made: Made) -> Value {
        made.unwrap_or_else(|why| {
            self.refuse("argument", format!("{name}: {why}"));
            Value::Unknown
        })
    }

    pub(super) fn call(&mut self, name: &'static str, kind: Kind, args: &[Id]) -> Made {
        let count = |least: usize, most: usize| match args.len() {
            len if len < least || len > most => Err(format!("takes {least} to {most} arguments, {len} given")),
            _ => Ok(()),
        };
        let arg = |index: usize| args.get(index).copied().unwrap_or(Self::NONE);
        match (kind, name.strip_prefix("torch._utils.").unwrap_or(name)) {
            (Kind::Dtype | Kind::QScheme | Kind::Storage(Some(_)), _) if name != "torch.storage.UntypedStorage" => {
                Err("is not callable".into())
            }
            (Kind::Storage(Some(_)), _) => self.untyped_storage(args),
            (Kind::Storage(None), _) => self.typed_storage(args),
            (Kind::TensorClass, _) if name.starts_with("torch.cuda.") => Err("needs a GPU".into()),
            (Kind::TensorClass, _) if name.starts_with("torch.sparse.") => self.legacy_sparse_tensor(name, args),
            (Kind::TensorClass, _) | (_, "torch.Tensor") => self.legacy_tensor(name, args),
            (_, "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3" | "_rebuild_qtensor") if matches!(self.value(arg(0)), Value::OtherStorage(storage) if storage.is_untyped) => {
                Err("a storage without a dtype".into())
            }
            (_, "_rebuild_tensor") => {
                count(4, 4)?;
                self.strided(args, None).map(tensor)
            }
            (_, "_rebuild_tensor_v2") => {
                count(6, 7)?;
                let made = self.strided(args, None)?;
                let made = self.with_grad(made, arg(4), false)?;
                self.metadata(arg(6), &made)?;
                Ok(tensor(made))
            }
            (_, "_rebuild_tensor_v3") => {
                count(7, 8)?;
                let dtype = self.dtype(arg(6))?;
                let made = self.strided(args, Some(dtype))?;
                let made = self.with_grad(made, arg(4), true)?;
                if made.requires_grad {
                    return Err("a leaf that requires grad is set in place".into());
                }
                self.metadata(arg(7), &made)?;
                Ok(tensor(made))
            }
            (_, "_rebuild_parameter") => {
                count(3, 3)?;
                self.parameter(arg(0), Some(arg(1)))
            }
            (_, "_rebuild_parameter_with_state") => {
                count(4, 4)?;
                let made = self.parameter(arg(0), Some(arg(1)))?;
                self.object_state(&made, arg(3))?;
                Ok(made)
            }
            (_, "torch.nn.parameter.Parameter") => {
                count(0, 2)?;
                self.parameter(arg(0), args.get(1).copied())
            }
            (_, "_rebuild_qtensor") => {
                count(7, 7)?;
                self.quantized(args)
            }
            (_, "_rebuild_sparse_tensor") => {
                count(2, 2)?;
                self.sparse(arg(0), arg(1))
            }
            (_, "_rebuild_meta_tensor_no_storage") => {
                count(4, 4)?;
                self.without_storage(arg(0), arg(1), arg(2), arg(3))
            }
            (_, "_rebuild_wrapper_subclass") => {
                count(8, 8)?;
                Err("no allowed class has __torch_dispatch__".into())
            }
            (_, "_rebuild_device_tensor_from_numpy") => {
                count(4, 4)?;
                match self.value(arg(0)) {
                    Value::Unknown => Ok(Value::Unknown),
                    other => Err(wrong("the array", other)),
                }
            }
            (_, "_rebuild_device_tensor_from_cpu_tensor") => {
                count(4, 4)?;
                self.device_tensor(arg(0), arg(1), arg(3))
            }
            (_, "torch._tensor._rebuild_from_type_v2") => {
                count(4, 4)?;
                self.of_subclass(arg(0), arg(1), arg(2), arg(3))
            }
            (_, "collections.OrderedDict") => {
                count(0, 1)?;
                self.mapping(Mapping::OrderedDict, args.first().copied())
            }
            (_, "collections.Counter") => {
                count(0, 1)?;
                self.mapping(Mapping::Counter, args.first().copied())
            }
            (_, "builtins.set") => {
                count(0, 1)?;
                self.set(args.first().copied())
            }
            (_, "builtins.bytearray") => self.byte_array(args),
            (_, "builtins.complex") => {
                count(0, 2)?;
                self.complex(args)
            }
            (_, "_codecs.encode") => self.encode(args),
            (_, "torch.Size") => {
                count(0, 1)?;
                self.torch_size(args.first().copied())
            }
            (_, "torch.device") => self.device(args),
            (_, "torch.serialization._get_layout") => {
                count(1, 1)?;
                self.layout(arg(0))
            }
            (_, "torch.distributed._mesh_layout._FlatLayout") => {
                count(1, 2)?;
                match self.value(arg(0)) {
                    Value::Int(_) | Value::Bool(_) | Value::Tuple(_) | Value::Size(_) | Value::Unknown => {
                        Ok(Value::Other(name))
                    }
                    other => Err(wrong("the shape", other)),
                }
            }
            (_, "torch.distributed._mesh_layout._MeshLayout") => {
                count(1, 1)?;
                self.iterate(arg(0)).map(|_| Value::Other(name))
            }
            _ => Ok(Value::Other(name)),
        }
    }

    /// `NEWOBJ`: `cls.__new__(cls, *args)`.
    pub(super) fn new_object(&mut self, class: Id, args: Id) -> Value {
        let (name, kind) = match self.value(class) {
            Value::Global(name, kind) => (*name, *kind),
            Value::Unknown => return Value::Unknown,
            other => {
                let detail = format!("makes an object of {}, which is no allowed class", other.type_name());
                self.refuse("call", detail);
                return Value::Unknown;
            }
        };
        let args = match self.unpack(args) {
            Ok(Some(args)) => args,
            Ok(None) => return Value::Unknown,
            Err(why) => return self.told_value(name, Err(why)),
        };
        let made = match (kind, name) {
            (Kind::Function | Kind::Dtype | Kind::QScheme, _) => Err("is no class".into()),
            (Kind::Storage(_), "torch.storage.UntypedStorage") => self.untyped_storage(&args),
            (Kind::Storage(None), _) => Ok(Value::OtherStorage(OtherStorage::default())),
            (Kind::Storage(_), _) => Err("is no class".into()),
            // their `__new__` ignores the arguments
            (_, "collections.OrderedDict") => Ok(Value::Dict(Mapping::OrderedDict, Vec::new())),
            (_, "collections.Counter") => Ok(Value::Dict(Mapping::Counter, Vec::new())),
            (_, "builtins.set") => Ok(Value::Set(Vec::new())),
            (_, "builtins.bytearray") => self.byte_array(&[]),
            (_, _) if name.starts_with("torch.distributed.") => Ok(Value::Other(name)),
            _ => self.call(name, kind, &args),
        };
        self.told_value(name, made)
    }
}
