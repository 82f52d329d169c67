//! What a file is made of, gathered while it is written, and the end of the file that says it.
#![forbid(unsafe_code)]

use tessera_engine::persist::{
    rdb::{Index, Part, crc64, writer::END},
    snapshot::checksum::{Joiner, join},
};

/// The end of a file without checksums (`rdbchecksum no`).
pub(super) const UNSUMMED_END: [u8; 9] = [END, 0, 0, 0, 0, 0, 0, 0, 0];

/// Parts of a file from its beginning on, those of one shard in a row as one.
#[derive(Default)]
pub(super) struct Parts {
    list: Vec<Part>,
    /// The checksum of all of them.
    sum: u64,
    joiner: Joiner,
}

impl Parts {
    /// These bytes are next, and for all.
    pub(super) fn push_for_all(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.push(Part::for_all(bytes.len() as u64, crc64(bytes)));
        }
    }

    /// This part is next.
    pub(super) fn push(&mut self, part: Part) {
        self.sum = self.joiner.join(self.sum, part.sum, part.len);
        match self.list.last_mut() {
            Some(last) if last.slots == part.slots => {
                last.sum = self.joiner.join(last.sum, part.sum, part.len);
                last.len += part.len;
            }
            _ => self.list.push(part),
        }
    }

    /// Appends the end of the file, which follows all parts: their index, if that is wanted, the end mark
    /// and the checksum.
    pub(super) fn put_end(self, with_index: bool, out: &mut Vec<u8>) {
        let start = out.len();
        if with_index {
            Index::new(self.list).put(out);
        }
        out.push(END);
        let sum = join(self.sum, crc64(&out[start..]), (out.len() - start) as u64);
        out.extend_from_slice(&sum.to_le_bytes());
    }
}
