//! Cuts a kernel's BTF down to what `tracer::kernel::layout` asks for, for the test fixtures:
//! `cargo run --example cut_btf IN OUT`.
//!
//! Structs on the way to a field keep all their members. Other structs and unions keep their name and
//! size and lose their members, and pointers become `void *`: else the rest of the kernel would
//! hang on them. The tracepoints' typedefs keep their number of arguments.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result, bail};
use tracer::kernel::btf::{Btf, Kind};
use tracer::kernel::layout;

/// Functions worth having in a fixture: the loader asks for some of them.
const FUNCS: [&str; 5] = [
    "bpf_get_socket_ptr_cookie",
    "bpf_sock_from_file",
    "bpf_get_current_task_btf",
    "inet_csk_accept",
    "tcp_reset",
];

struct Cutter<'a> {
    btf: &'a Btf,
    /// Structs and unions that keep their members.
    kept: BTreeSet<u32>,
    /// Ids in the output of the types written.
    ids: HashMap<u32, u32>,
    strings: Vec<u8>,
    string_offsets: HashMap<Vec<u8>, u32>,
    types: Vec<u8>,
    last: u32,
}

impl Cutter<'_> {
    fn string(&mut self, offset: u32) -> u32 {
        let name = self.btf.name(offset);
        if name.is_empty() {
            return 0;
        }
        *self.string_offsets.entry(name.to_vec()).or_insert_with(|| {
            let at = self.strings.len() as u32;
            self.strings.extend(name);
            self.strings.push(0);
            at
        })
    }

    /// Writes what a type refers to and then the type; returns its new id.
    fn copy(&mut self, id: u32) -> Result<u32> {
        let Some(ty) = self.btf.type_by_id(id) else {
            return Ok(0);
        };
        if let Some(&new) = self.ids.get(&id) {
            return Ok(new);
        }
        let mut info = ty.info;
        let mut size_or_type = ty.size_or_type;
        let mut extra = words(ty.extra);
        let anonymous = self.btf.name(ty.name_off).is_empty();
        match ty.kind() {
            Kind::Struct | Kind::Union if anonymous || self.kept.contains(&id) => {
                for member in extra.chunks_exact_mut(3) {
                    member[0] = self.string(member[0]);
                    member[1] = self.copy(member[1])?;
                }
            }
            Kind::Struct | Kind::Union => {
                info &= 0x7f00_0000;
                extra.clear();
            }
            Kind::Ptr => size_or_type = 0,
            Kind::Array => {
                extra[0] = self.copy(extra[0])?;
                extra[1] = self.copy(extra[1])?;
            }
            Kind::FuncProto => {
                size_or_type = self.copy(size_or_type)?;
                for parameter in extra.chunks_exact_mut(2) {
                    parameter[0] = self.string(parameter[0]);
                    parameter[1] = self.copy(parameter[1])?;
                }
            }
            Kind::Enum | Kind::Enum64 => {
                let each = extra.len() / (ty.len() as usize).max(1);
                for value in extra.chunks_exact_mut(each.max(1)) {
                    value[0] = self.string(value[0]);
                }
            }
            Kind::Typedef
            | Kind::Volatile
            | Kind::Const
            | Kind::Restrict
            | Kind::TypeTag
            | Kind::Func => size_or_type = self.copy(size_or_type)?,
            Kind::Int | Kind::Float | Kind::Fwd => {}
            other => bail!("type {id} is a {other:?}, which no field should lead to"),
        }
        let name = self.string(ty.name_off);
        Ok(self.write(Some(id), &[name, info, size_or_type], &extra))
    }

    /// A tracepoint's typedef: its pointer is followed, unlike those of members.
    fn copy_tracepoint(&mut self, id: u32) -> Result<()> {
        let typedef = self.btf.type_by_id(id).context("typedef")?;
        let pointer = self.btf.type_by_id(typedef.size_or_type).context("pointer")?;
        let proto = self.copy(pointer.size_or_type)?;
        let pointer = self.write(None, &[0, pointer.info, proto], &[]);
        let name = self.string(typedef.name_off);
        self.write(None, &[name, typedef.info, pointer], &[]);
        Ok(())
    }

    fn write(&mut self, old: Option<u32>, head: &[u32; 3], extra: &[u32]) -> u32 {
        self.types.extend(head.iter().chain(extra).flat_map(|word| word.to_ne_bytes()));
        self.last += 1;
        if let Some(old) = old {
            self.ids.insert(old, self.last);
        }
        self.last
    }
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|&word| u32::from_ne_bytes(word)).collect()
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [input, output] = args.as_slice() else { bail!("usage: cut_btf IN OUT") };
    let btf = Btf::parse(std::fs::read(input).with_context(|| input.clone())?)?;

    let mut kept = BTreeSet::new();
    for (root, path) in layout::paths() {
        kept.extend(btf.struct_id(root));
        let ends = path.match_indices('.').map(|(at, _)| at).chain([path.len()]);
        // A kernel may lack a field: then there is nothing to keep.
        kept.extend(ends.filter_map(|end| Some(btf.field(root, &path[..end]).ok()?.type_id)));
    }
    let mut cutter = Cutter {
        btf: &btf,
        kept: kept.clone(),
        ids: HashMap::new(),
        strings: vec![0],
        string_offsets: HashMap::new(),
        types: Vec::new(),
        last: 0,
    };
    for id in kept {
        cutter.copy(id)?;
    }
    for name in layout::typedefs() {
        if let Some(id) = btf.typedef_id(&name) {
            cutter.copy_tracepoint(id)?;
        }
    }
    for id in FUNCS.iter().filter_map(|name| btf.func_id(name)) {
        cutter.copy(id)?;
    }

    let mut out = Vec::new();
    out.extend(0xeb9f_u16.to_ne_bytes());
    out.extend([1, 0]);
    let (types, strings) = (cutter.types.len() as u32, cutter.strings.len() as u32);
    out.extend([24, 0, types, types, strings].iter().flat_map(|word: &u32| word.to_ne_bytes()));
    out.extend(&cutter.types);
    out.extend(&cutter.strings);
    if layout::resolve(&Btf::parse(out.clone())?) != layout::resolve(&btf) {
        bail!("the cut file resolves otherwise than {input}");
    }
    std::fs::write(output, out).with_context(|| output.clone())
}
