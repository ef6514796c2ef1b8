//! Calls and constructions, kept as descriptions, and the states that `BUILD` gives to what they made.

use super::{Decoder, Does, Follows, NothingInline, Trace};
use thin_vec::ThinVec;

use crate::error::{Error, Result};
use crate::pickle::graph::{Change, Construct, Graph, Node, Object};
use crate::pickle::opcode as op;

impl Decoder<'_> {
    pub(super) fn construct(&mut self) -> Result<()> {
        let mut kwargs = None;
        let (how, callable, args) = match self.code {
            op::REDUCE => {
                let args = self.pop()?;
                (Construct::Reduce, self.pop()?, args)
            }
            op::NEWOBJ => {
                let args = self.pop()?;
                (Construct::NewObj, self.pop()?, args)
            }
            op::NEWOBJ_EX => {
                kwargs = Some(self.pop()?);
                let args = self.pop()?;
                (Construct::NewObjEx, self.pop()?, args)
            }
            op::INST => {
                let (module, name) = self.global_lines()?;
                // `Lib/pickle.py` imports it before it looks for the mark
                let class = self.graph.push(Node::Global { module, name })?;
                let args = self.pop_mark_nodes()?;
                (Construct::Inst, class, self.graph.push_tuple(&args)?)
            }
            _ => {
                let items = self.pop_mark_nodes()?;
                let (class, args) = items.split_first().ok_or_else(|| self.fail("no class after MARK"))?;
                (Construct::Obj, *class, self.graph.push_tuple(args)?)
            }
        };
        let is_tuple = self.graph.tuple(args).is_some();
        if !is_tuple && !matches!(self.graph.node(args), Node::None | Node::List(_) | Node::Object(_)) {
            // `Lib/pickle.py` calls with whatever can be walked
            let is_number =
                matches!(self.graph.node(args), Node::Bool(_) | Node::Int(_) | Node::Long(_) | Node::Float(_));
            if !self.is_either || is_number {
                return Err(self.fail("the arguments are not a tuple"));
            }
            self.odd("a call with arguments that are no tuple");
        }
        self.push_node(Node::Object(Box::new(Object { how, callable, args, kwargs, changes: ThinVec::new() })))
    }

    pub(super) fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        let target = self.top()?;
        if let Err(e) = self.refuse_plain(target) {
            // C looks for no attributes when the state is None; Python's own code, when it is anything that is false
            if state == Graph::NONE {
                return Ok(());
            }
            if !self.is_either || !self.is_no_state(state) {
                return Err(e);
            }
            self.odd("a state for what has none");
            return Ok(());
        }
        self.graph.change(target, Change::Build(state));
        let position = self.reader.position();
        match self.inline.after_build(self.graph, target, self.source, position)? {
            Follows::Opcodes => {}
            Follows::Bytes { padding, len } => {
                let begin = position.saturating_add(padding);
                if begin.checked_add(len).is_none_or(|end| end > self.source.len()) {
                    let message = format!("an array of {len} bytes in the stream reaches past its end");
                    return Err(Error::truncated(message).at(self.source.absolute(position)));
                }
                self.graph.set_inline_bytes(target, self.stream, begin, len);
                self.frame_end = 0;
                self.reader.seek(begin + len);
            }
            Follows::Pickle => {
                // a plain pickle by its library's rules: nothing inline in it, so this goes one level deep
                self.trace(Does::Enter);
                let (graph, max_objects) = (&mut *self.graph, self.max_objects);
                let source = self.source;
                let trace = self.trace.as_mut().map(|trace| &mut **trace as &mut dyn Trace);
                let mut inner = Decoder::new(graph, self.stream, source, position, max_objects, &NothingInline, trace);
                inner.is_either = self.is_either;
                let inner = inner.run()?;
                self.graph.set_inline_pickle(target, inner.root);
                self.frame_end = 0;
                self.reader.seek(inner.end);
                self.trace(Does::Leave);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pickle::decode::tests::decoded;

    #[test]
    fn changes_of_objects_are_kept_in_order() {
        // m.C() made by NEWOBJ, then append, item, state
        let (graph, result) = decoded(b"cm\nC\n)\x81K\x01aK\x02K\x03s}b.");
        let object = graph.object(result.unwrap().root).unwrap();
        assert_eq!(object.how, Construct::NewObj);
        let [Change::Append(one), Change::Item(item), Change::Build(state)] = object.changes[..] else {
            panic!("{:?}", object.changes)
        };
        assert_eq!([one, item.key, item.value].map(|node| graph.int(node)), [Some(1), Some(2), Some(3)]);
        assert_eq!((graph.node(state), item.key_at), (&Node::Dict(Box::default()), 10));
    }
}
