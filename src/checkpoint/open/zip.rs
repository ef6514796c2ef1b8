//! torch's zip, TorchScript archives; other zips are passed on or refused by what they hold.

use std::sync::{Arc, OnceLock};

use super::Opener;
use crate::checkpoint::names::Element;
use crate::checkpoint::numpy::Joblib;
use crate::checkpoint::script::Script;
use crate::checkpoint::storage::{Bytes, Storages};
use crate::checkpoint::{Checkpoint, Container};
use crate::container::zip::{Flavor, Zip};
use crate::dtype::ByteOrder;
use crate::error::{Error, Result};
use crate::pickle::{Decoded, Graph, decode};

impl Opener<'_> {
    pub(super) fn zip(&self) -> Result<Checkpoint> {
        let zip = Arc::new(Zip::open(Arc::clone(&self.source), self.limits)?);
        match zip.flavor()? {
            Flavor::Torch => self.torch_zip(zip),
            Flavor::TorchScript => self.torchscript(zip),
            Flavor::Npz => self.npz(&zip),
            Flavor::Pt2 => Err(Error::unsupported("is a torch.export archive (.pt2), which is not read yet")),
        }
    }

    fn torch_zip(&self, zip: Arc<Zip>) -> Result<Checkpoint> {
        let byte_order = zip.byte_order()?;
        let mut graph = Graph::new();
        let mut storages = Storages::default();
        let object = self.member_pickle(&mut graph, &mut storages, &zip, "data.pkl", "data", byte_order)?;
        let mut tensors = Default::default();
        super::read_nested(self, &mut graph, &mut storages, &mut tensors)?;
        let mut checkpoint = self.finish_with(Container::Zip, graph, object.root, storages, tensors)?;
        checkpoint.protocol = Some(object.protocol);
        checkpoint.byte_order = Some(byte_order);
        checkpoint.era = Some(match () {
            () if zip.in_top(".format_version").is_some() => "torch 2.7 or newer",
            () if zip.in_top("byteorder").is_some() => "torch 2.1 or newer",
            () => "torch 1.6 to 2.0",
        });
        checkpoint.zip = Some(zip);
        Ok(checkpoint)
    }

    fn torchscript(&self, zip: Arc<Zip>) -> Result<Checkpoint> {
        let byte_order = zip.byte_order()?;
        let mut graph = Graph::new();
        let mut storages = Storages::default();
        let object = self.member_pickle(&mut graph, &mut storages, &zip, "data.pkl", "data", byte_order)?;
        let constants =
            self.member_pickle(&mut graph, &mut storages, &zip, "constants.pkl", "constants", byte_order)?;
        let mut checkpoint = self.finish(Container::TorchScript, graph, object.root, storages)?;
        let list = checkpoint.graph.sequence(constants.root).unwrap_or_default().to_vec();
        for (number, constant) in list.into_iter().enumerate() {
            // code refers to them as CONSTANTS.c0, CONSTANTS.c1, …
            checkpoint.attached.push((vec![Element::Text(format!("CONSTANTS.c{number}"))], constant));
        }
        checkpoint.protocol = Some(object.protocol);
        checkpoint.byte_order = Some(byte_order);
        checkpoint.script = Some(Script::read(&zip)?);
        checkpoint.era = Some("TorchScript");
        checkpoint.zip = Some(zip);
        Ok(checkpoint)
    }

    /// Reads the pickle of a member and finds its storages among the members of `folder`.
    fn member_pickle(
        &self,
        graph: &mut Graph,
        storages: &mut Storages,
        zip: &Arc<Zip>,
        name: &str,
        folder: &str,
        byte_order: ByteOrder,
    ) -> Result<Decoded> {
        let missing = || Error::not_a_checkpoint(format!("the archive has no {name}"));
        let member = zip.in_top(name).ok_or_else(missing)?;
        let source = zip.member_source(member)?;
        let from = graph.persistents().len();
        let stream = graph.add_stream(source, &member.name);
        let decoded = decode(graph, stream, 0, self.max_objects, &Joblib)?;
        let prefix = if zip.top().is_empty() { format!("{folder}/") } else { format!("{}/{folder}/", zip.top()) };
        storages.resolve(graph, from, "", |key, _, _| {
            let bytes = match zip.position(&format!("{prefix}{key}")) {
                Some(index) => Bytes::Member { zip: Arc::clone(zip), index, opened: OnceLock::new() },
                None => Bytes::Missing(format!("its storage, member {prefix}{key}, is missing")),
            };
            (bytes, byte_order)
        })?;
        Ok(decoded)
    }
}
