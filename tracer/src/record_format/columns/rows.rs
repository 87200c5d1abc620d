//! Rows of holders: each number as its difference to the same one of the row before.

/// Bytes of a row, [`HolderRow`](tracer_common::wire::HolderRow).
pub(super) const ROW: usize = 56;
/// Bytes of a number.
const NUMBER: usize = 8;

/// All first bytes of the rows' differences, then all second ones, and so on; then what is left.
pub(super) fn encode(rows: &[u8], out: &mut Vec<u8>) {
    let from = out.len();
    let count = rows.len() / ROW;
    out.resize(from + count * ROW, 0);
    let columns = &mut out[from..];
    let mut before = [0; ROW / NUMBER];
    let (whole, rest) = rows.split_at(count * ROW);
    for (index, row) in whole.chunks_exact(ROW).enumerate() {
        for ((place, number), before) in row.chunks_exact(NUMBER).enumerate().zip(&mut before) {
            let number = number.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
            let difference = number.wrapping_sub(std::mem::replace(before, number));
            for (plane, byte) in difference.to_le_bytes().into_iter().enumerate() {
                columns[(place * NUMBER + plane) * count + index] = byte;
            }
        }
    }
    out.extend_from_slice(rest);
}

/// The rows again.
pub(super) fn decode(columns: &[u8], out: &mut Vec<u8>) {
    let count = columns.len() / ROW;
    let mut before = [0; ROW / NUMBER];
    for index in 0..count {
        for (place, before) in before.iter_mut().enumerate() {
            let bytes: [u8; NUMBER] =
                std::array::from_fn(|plane| columns[(place * NUMBER + plane) * count + index]);
            *before = u64::wrapping_add(*before, u64::from_le_bytes(bytes));
            out.extend_from_slice(&before.to_ne_bytes());
        }
    }
    out.extend_from_slice(&columns[count * ROW..]);
}
