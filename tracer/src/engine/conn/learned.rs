//! Of which connections something was learned since the last walk over descriptors: that they are there, or who owns
//! them.

/// Most that are remembered.
pub(super) const MOST: usize = 4096;

/// Where they are in the table, once or oftener.
#[derive(Debug, Default)]
pub(crate) struct Learned(Vec<u32>);

impl Learned {
    /// Something was learned of this one.
    pub(super) fn note(&mut self, index: u32) {
        if self.0.len() < MOST {
            self.0.push(index);
        }
    }

    /// All of them, and none from now on; `None` when there are too many to remember.
    pub(super) fn take(&mut self) -> Option<Vec<u32>> {
        let all = std::mem::take(&mut self.0);
        (all.len() < MOST).then_some(all)
    }
}
