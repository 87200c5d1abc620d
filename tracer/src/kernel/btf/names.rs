//! What is asked by name: structs, typedefs, functions, enumerators.

use super::index::Btf;
use super::types::{Kind, u32_at};

impl Btf {
    /// Whether there is a function of that name. Static and inlined ones may be missing.
    pub fn has_func(&self, name: &str) -> bool {
        self.find(name, |kind| kind == Kind::Func).is_some()
    }

    /// Whether there is a typedef of that name.
    pub fn has_typedef(&self, name: &str) -> bool {
        self.find(name, |kind| kind == Kind::Typedef).is_some()
    }

    /// The struct or union of that name; the first where a kernel has several.
    pub fn struct_id(&self, name: &str) -> Option<u32> {
        self.find(name, Kind::is_aggregate)
    }

    /// The typedef of that name; the first where a kernel has several.
    pub fn typedef_id(&self, name: &str) -> Option<u32> {
        self.find(name, |kind| kind == Kind::Typedef)
    }

    /// The function of that name; the first where a kernel has several.
    pub fn func_id(&self, name: &str) -> Option<u32> {
        self.find(name, |kind| kind == Kind::Func)
    }

    /// Number of parameters of a typedef that is a pointer to a function, as the `btf_trace_*` of
    /// tracepoints are; those count a leading `void *` that programs never see.
    pub fn func_args(&self, typedef: &str) -> Option<usize> {
        let (_, pointer) = self.strip(self.typedef_id(typedef)?)?;
        if pointer.kind() != Kind::Ptr {
            return None;
        }
        let (_, proto) = self.strip(pointer.size_or_type)?;
        (proto.kind() == Kind::FuncProto).then(|| proto.len() as usize)
    }

    /// Number of parameters of a function.
    pub fn params(&self, func: &str) -> Option<usize> {
        let func = self.type_by_id(self.func_id(func)?)?;
        let proto = self.type_by_id(func.size_or_type)?;
        (proto.kind() == Kind::FuncProto).then(|| proto.len() as usize)
    }

    /// The enumerators of an enum of 32 bits, in their order; empty when there is none of that
    /// name.
    pub fn enumerators(&self, name: &str) -> Vec<(String, u32)> {
        let found = self.find(name, |kind| kind == Kind::Enum).and_then(|id| self.type_by_id(id));
        let Some(ty) = found else { return Vec::new() };
        ty.extra
            .chunks_exact(8)
            .filter_map(|entry| {
                let name = String::from_utf8_lossy(self.name(u32_at(entry, 0)?)).into_owned();
                Some((name, u32_at(entry, 4)?))
            })
            .collect()
    }
}
