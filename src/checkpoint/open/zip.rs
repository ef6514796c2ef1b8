//! torch's zip, TorchScript archives; other zips are passed on or refused by what they hold.

use std::sync::{Arc, OnceLock};

use super::{Opened, Opener, Parts};
use crate::checkpoint::framed::Archived;
use crate::checkpoint::names::Element;
use crate::checkpoint::numpy::Joblib;
use crate::checkpoint::script::Script;
use crate::checkpoint::storage::Bytes;
use crate::container::zip::{Flavor, Zip};
use crate::dtype::ByteOrder;
use crate::error::{Error, ErrorKind, Result};
use crate::pickle::{Decoded, Graph, decode};

/// Where storages lie, by folder and ending: those of `data.pkl`, of TorchScript's constants, of a package's pickles
/// (`torch/package/package_exporter.py`).
const DATA: (&str, &str) = ("data", "");
const CONSTANTS: (&str, &str) = ("constants", "");
const PACKAGED: (&str, &str) = (".data", ".storage");
const CONSTANTS_PICKLE: &str = "constants.pkl";

impl Opener<'_> {
    pub(super) fn zip(&self, parts: &mut Parts) -> Result<Opened> {
        let zip = match self.damaged {
            false => Zip::open(Arc::clone(&self.source), self.limits)?,
            true => Zip::salvage(Arc::clone(&self.source), self.limits)?,
        };
        self.of_zip(Arc::new(zip), parts)
    }

    /// Reads an archive whose directory has been read.
    pub(super) fn of_zip(&self, zip: Arc<Zip>, parts: &mut Parts) -> Result<Opened> {
        match zip.flavor()? {
            // of what torch.jit wrote, only the constants are lost
            Flavor::Torch if self.damaged && zip.has_code() => self.torchscript(zip, parts),
            Flavor::Torch => self.torch_zip(zip, parts),
            Flavor::TorchScript => self.torchscript(zip, parts),
            Flavor::Package => self.package(zip, None, parts),
            Flavor::Npz => self.npz(zip, parts),
            Flavor::Pt2 => self.pt2(zip, parts),
        }
    }

    pub(super) fn torch_zip(&self, zip: Arc<Zip>, parts: &mut Parts) -> Result<Opened> {
        let (byte_order, mut notes) = self.byte_order(&zip)?;
        let from = parts.graph.len();
        let object = self.member_pickle(parts, &zip, "data.pkl", DATA, byte_order)?;
        let decoded = Some((object, parts.graph.len()));
        super::read_nested(self, parts, from)?;
        notes.extend(other_folders(&zip));
        let era = match () {
            () if zip.in_top(".format_version").is_some() => "torch 2.7 or newer",
            () if zip.in_top("byteorder").is_some() => "torch 2.1 or newer",
            () => "torch 1.6 to 2.0",
        };
        Ok(Opened {
            protocol: Some(object.protocol),
            byte_order: Some(byte_order),
            era: Some(era),
            notes,
            decoded,
            ..Opened::new(self.archive(Archived::Torch, zip), object.root)
        })
    }

    fn torchscript(&self, zip: Arc<Zip>, parts: &mut Parts) -> Result<Opened> {
        if let Some(e) = zip.lost_pickle() {
            return Err(e);
        }
        let (byte_order, notes) = self.byte_order(&zip)?;
        let object = self.member_pickle(parts, &zip, "data.pkl", DATA, byte_order)?;
        let is_lost = self.damaged && zip.in_top(CONSTANTS_PICKLE).is_none_or(|member| member.doubt.is_some());
        let constants = match is_lost {
            true => Graph::NONE,
            false => self.member_pickle(parts, &zip, CONSTANTS_PICKLE, CONSTANTS, byte_order)?.root,
        };
        let list = parts.graph.sequence(constants).unwrap_or_default().iter().enumerate();
        // code refers to them as CONSTANTS.c0, CONSTANTS.c1, …
        let attached = list.map(|(number, node)| (vec![Element::Text(format!("CONSTANTS.c{number}"))], *node));
        let kind = Archived::TorchScript { script: self.script(&zip)?, constants: attached.collect() };
        Ok(Opened {
            protocol: Some(object.protocol),
            byte_order: Some(byte_order),
            era: Some("TorchScript"),
            notes,
            ..Opened::new(self.archive(kind, zip), object.root)
        })
    }

    pub(super) fn byte_order(&self, zip: &Zip) -> Result<(ByteOrder, Vec<String>)> {
        if !self.damaged {
            return Ok((zip.byte_order()?, Vec::new()));
        }
        let (order, is_sure) = zip.salvaged_byte_order();
        let note = format!("what the file says of its byte order is damaged; {}-endian is assumed", order.name());
        Ok((order, if is_sure { Vec::new() } else { vec![note] }))
    }

    fn script(&self, zip: &Zip) -> Result<Script> {
        match Script::read(zip) {
            Err(e) if self.damaged && e.kind() != ErrorKind::Io => Ok(Script::default()),
            script => script,
        }
    }

    /// Reads one pickle of a torch.package archive: number `index`, else the only one that there is.
    pub(crate) fn package(&self, zip: Arc<Zip>, index: Option<usize>, parts: &mut Parts) -> Result<Opened> {
        let name = match index {
            Some(index) => zip.members.get(index).map(|member| member.name.to_string()),
            None => {
                let pickles = zip.package_pickles()?;
                let [only] = pickles.as_slice() else {
                    return Err(Error::not_a_checkpoint(several_pickles(&pickles)));
                };
                Some((*only).to_owned())
            }
        };
        let name = name.ok_or_else(|| Error::data("no such member"))?;
        let in_top = name.strip_prefix(zip.top()).and_then(|name| name.strip_prefix('/')).unwrap_or(&name);
        let byte_order = zip.byte_order()?;
        let from = parts.graph.len();
        let object = self.member_pickle(parts, &zip, in_top, PACKAGED, byte_order)?;
        super::read_nested(self, parts, from)?;
        Ok(Opened {
            protocol: Some(object.protocol),
            byte_order: Some(byte_order),
            era: Some("torch.package"),
            ..Opened::new(self.archive(Archived::Package, zip), object.root)
        })
    }

    /// Reads the pickle of a member and finds its storages among the members that `named` says.
    fn member_pickle(
        &self,
        parts: &mut Parts,
        zip: &Arc<Zip>,
        name: &str,
        (folder, ending): (&str, &str),
        byte_order: ByteOrder,
    ) -> Result<Decoded> {
        let missing = || Error::not_a_checkpoint(format!("the archive has no {name}"));
        let member = zip.in_top(name).ok_or_else(missing)?;
        let source = zip.member_source(member)?;
        let Parts { graph, storages, .. } = parts;
        let (from, first_storage) = (graph.persistents().len(), storages.len());
        let stream = graph.add_stream(source, &member.name);
        let decoded = decode(graph, stream, 0, self.max_objects, &Joblib)?;
        let mut name = if zip.top().is_empty() { format!("{folder}/") } else { format!("{}/{folder}/", zip.top()) };
        let prefix = name.len();
        storages.resolve(graph, from, "", |key, _| {
            name.truncate(prefix);
            name.push_str(key);
            name.push_str(ending);
            let bytes = match zip.position(&name) {
                // a file of its own has no checksum that an archive's member would have
                Some(index) if zip.is_loose() => match zip.members.get(index).map(|member| zip.member_source(member)) {
                    Some(Ok(source)) => Bytes::Here(source),
                    _ => Bytes::Missing(format!("its storage, file {name}, cannot be read")),
                },
                Some(index) => Bytes::Member { zip: Arc::clone(zip), index, opened: OnceLock::new() },
                None => Bytes::Missing(format!("its storage, member {name}, is missing")),
            };
            (bytes, byte_order)
        })?;
        if self.damaged {
            storages.probe(first_storage)?;
        }
        Ok(decoded)
    }
}

/// What a reader of the top folder, which torch is too, does not see.
fn other_folders(zip: &Zip) -> Option<String> {
    let top = format!("{}/", zip.top());
    let mut others = zip.members.iter().filter_map(|member| member.name.strip_suffix("/data.pkl"));
    let mut others = others.by_ref().filter(|folder| !format!("{folder}/").starts_with(&top) || zip.top().is_empty());
    let first = others.next()?.escape_debug().to_string();
    Some(match others.count() {
        0 => format!("the folder {first} of the archive is another checkpoint (FILE::{first})"),
        more => format!("the folder {first} of the archive and {more} more are other checkpoints (FILE::{first})"),
    })
}

fn several_pickles(names: &[&str]) -> String {
    match names.len() {
        0 => "is a torch.package archive of source code, without a pickle".to_owned(),
        count => format!("is a torch.package archive of {count} pickles, each a checkpoint of its own"),
    }
}
