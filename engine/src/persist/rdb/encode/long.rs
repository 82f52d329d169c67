//! A long string on its way out: compressed step by step, then copied step by step.
#![forbid(unsafe_code)]

use bytes::Bytes;

use super::{
    super::{
        lzf::{Compression, Lzf},
        output::{compressed_bytes_max, put_compressed_head, put_length},
    },
    Progress,
};

/// A string of at least `LONG_BYTES_MIN`.
#[derive(Debug)]
pub(super) struct Long {
    text: Bytes,
    stage: Stage,
    /// What follows the string.
    tail: Option<[u8; 8]>,
}

#[derive(Debug)]
enum Stage {
    Compress(Option<Compression>),
    /// Copies the text, or what came of compressing it, from there on.
    Copy(Bytes, usize),
}

impl Long {
    pub(super) fn new(text: Bytes, compress: bool, lzf: &mut Lzf) -> Self {
        let bytes_max = compressed_bytes_max(text.len()).filter(|_| compress);
        let stage = Stage::Compress(bytes_max.map(|bytes_max| lzf.start(text.len(), bytes_max)));
        Self { text, stage, tail: None }
    }

    /// Lets `tail` follow the string.
    pub(super) fn then(&mut self, tail: [u8; 8]) {
        self.tail = Some(tail);
    }

    /// Goes on for about `budget` bytes and takes them off it.
    pub(super) fn step(
        &mut self,
        lzf: &mut Lzf,
        out: &mut Vec<u8>,
        budget: &mut usize,
    ) -> Progress {
        if let Stage::Compress(compression) = &mut self.stage {
            if let Some(compression) = compression {
                // A step may have been used up before it came here, and must do something yet.
                let share = (*budget).max(1);
                let before = compression.position();
                let is_done = lzf.step(compression, &self.text, share);
                *budget = budget.saturating_sub(compression.position() - before);
                if !is_done {
                    return Progress::More;
                }
            }
            self.stage = match compression.take().and_then(Compression::finish) {
                Some(packed) => {
                    put_compressed_head(out, packed.len(), self.text.len());
                    Stage::Copy(packed.into(), 0)
                }
                None => {
                    put_length(out, self.text.len() as u64);
                    Stage::Copy(self.text.clone(), 0)
                }
            };
        }
        let Stage::Copy(bytes, at) = &mut self.stage else { return Progress::More };
        let len = (bytes.len() - *at).min((*budget).max(1));
        out.extend_from_slice(&bytes[*at..*at + len]);
        *at += len;
        *budget = budget.saturating_sub(len);
        if *at < bytes.len() {
            return Progress::More;
        }
        out.extend(self.tail.into_iter().flatten());
        Progress::Done
    }
}
