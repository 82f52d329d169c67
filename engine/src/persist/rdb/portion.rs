//! What one shard reads of a file: all of it, or the parts that may hold keys of its own.
//!
//! To the [`Reader`](super::Reader) a portion is a file of its own: the same, with the parts of others
//! taken out, which leaves whole entries. Only places in it must be told as places in the file
//! ([`Portion::offset_in_file`]).
//!
//! Invariant: the bytes of a part whose checksum is known are checked when the last of them has been
//! read; so a portion that was read to its end is what was written.
#![forbid(unsafe_code)]

use std::{io, ops::RangeInclusive};

use super::{Crc64, Index, LoadError, RdbError, ReadError, Reader, index::SLOT_MAX};

/// Stretches of a file, as if they were one.
#[derive(Debug)]
pub struct Portion {
    stretches: Vec<Stretch>,
    /// Bytes of all of them.
    len: u64,
    /// Whether checksums of parts are compared, so that the file's own need not be.
    is_checked: bool,
    /// The stretch that is read, how many bytes of it were, and their checksum.
    current: usize,
    done: u64,
    crc: Crc64,
}

#[derive(Debug)]
struct Stretch {
    /// Where it begins in the portion, and where in the file.
    at: u64,
    start: u64,
    len: u64,
    /// Its checksum, if it is to be compared.
    sum: Option<u64>,
}

/// Why a portion could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PortionError {
    /// Of the file system.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The bytes are not those that were written.
    #[error(transparent)]
    Damaged(ReadError),
}

impl Portion {
    /// What the owner of the slots `own` needs of a file of `len` bytes that `read_at` reads: all, if it
    /// owns all slots, if slots say nothing of who owns what, or if the file has no index. With
    /// `checksum` checksums of parts are compared.
    ///
    /// # Errors
    ///
    /// What `read_at` says.
    pub fn find(
        len: u64,
        own: Option<RangeInclusive<u16>>,
        checksum: bool,
        read_at: impl FnMut(u64, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Self> {
        let Some(own) = own.filter(|own| *own != (0..=SLOT_MAX)) else {
            return Ok(Self::whole(len));
        };
        let index = Index::find(len, read_at)?;
        Ok(index.map_or_else(|| Self::whole(len), |index| Self::of(&index, len, &own, checksum)))
    }

    /// All of a file of `len` bytes.
    pub fn whole(len: u64) -> Self {
        let mut portion = Self::empty(false);
        portion.push(0, len, None);
        portion
    }

    /// What the owner of the slots `own` needs of a file of `len` bytes with this index. With `checksum`
    /// checksums are compared.
    pub fn of(index: &Index, len: u64, own: &RangeInclusive<u16>, checksum: bool) -> Self {
        let (mut portion, mut start) = (Self::empty(true), 0);
        for part in index.parts() {
            if part.slots.start() <= own.end() && own.start() <= part.slots.end() {
                portion.push(start, part.len, checksum.then_some(part.sum));
            }
            start += part.len;
        }
        // The index has been checked, and the end says nothing new.
        portion.push(start, len.saturating_sub(start), None);
        portion
    }

    fn empty(is_checked: bool) -> Self {
        let (stretches, crc) = (Vec::new(), Crc64::new());
        Self { stretches, len: 0, is_checked, current: 0, done: 0, crc }
    }

    fn push(&mut self, start: u64, len: u64, sum: Option<u64>) {
        self.stretches.push(Stretch { at: self.len, start, len, sum });
        self.len += len;
    }

    /// A reader of the portion. With `checksum` the file's own is compared, unless those of its parts
    /// are.
    pub fn reader(&self, checksum: bool) -> Reader {
        Reader::new(Some(self.len), checksum && !self.is_checked)
    }

    /// Bytes of the portion.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the next bytes of the portion, up to the length of `buffer`, by `read_at`, which reads from
    /// an offset in the file; answers how many there were, none at the end.
    ///
    /// # Errors
    ///
    /// What `read_at` says; or a part that has been read to its end is damaged.
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        read_at: impl FnOnce(u64, &mut [u8]) -> io::Result<usize>,
    ) -> Result<usize, PortionError> {
        while self.stretches.get(self.current).is_some_and(|stretch| self.done == stretch.len) {
            self.finish_stretch()?;
        }
        let Some(stretch) = self.stretches.get(self.current) else { return Ok(0) };
        let left = stretch.len - self.done;
        let len = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = read_at(stretch.start + self.done, &mut buffer[..len])?.min(len);
        if stretch.sum.is_some() {
            self.crc.update(&buffer[..read]);
        }
        self.done += read as u64;
        if read > 0 && self.done == stretch.len {
            self.finish_stretch()?;
        }
        Ok(read)
    }

    /// The present stretch was read to its end.
    fn finish_stretch(&mut self) -> Result<(), PortionError> {
        let expected = std::mem::take(&mut self.crc).value();
        let Stretch { start, sum, .. } = self.stretches[self.current];
        (self.current, self.done) = (self.current + 1, 0);
        match sum {
            Some(found) if found != expected => {
                let cause = RdbError::Checksum { found, expected };
                Err(PortionError::Damaged(ReadError { offset: start, key: None, cause }))
            }
            _ => Ok(()),
        }
    }

    /// Where in the file the byte `offset` of the portion stands.
    pub fn offset_in_file(&self, offset: u64) -> u64 {
        let behind = self.stretches.partition_point(|stretch| stretch.at <= offset);
        let stretch = behind.checked_sub(1).and_then(|last| self.stretches.get(last));
        stretch.map_or(offset, |stretch| stretch.start + (offset - stretch.at))
    }

    /// The same error with its place in the file.
    pub fn located(&self, error: LoadError) -> LoadError {
        match error {
            LoadError::Read(error) => {
                LoadError::Read(ReadError { offset: self.offset_in_file(error.offset), ..error })
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Part, crc64},
        *,
    };

    /// Parts of the slots 0 to 9, 10 to 19 and so on, between a head and an end that are for all.
    fn index(file: &[u8], lens: &[usize]) -> Index {
        let (mut parts, mut at) = (Vec::new(), 0);
        for (number, &len) in (0_u16..).zip(lens) {
            let bytes = &file[at..at + len];
            let slots = if number == 0 { 0..=16_383 } else { number * 10 - 10..=number * 10 - 1 };
            parts.push(Part { slots, len: len as u64, sum: crc64(bytes) });
            at += len;
        }
        Index::new(parts)
    }

    fn read(portion: &mut Portion, file: &[u8], step: usize) -> Result<Vec<u8>, PortionError> {
        let (mut all, mut buffer) = (Vec::new(), vec![0; step]);
        loop {
            let read = portion.read(&mut buffer, |at, buffer| {
                let rest = &file[at as usize..];
                let len = rest.len().min(buffer.len());
                buffer[..len].copy_from_slice(&rest[..len]);
                Ok(len)
            })?;
            if read == 0 {
                return Ok(all);
            }
            all.extend_from_slice(&buffer[..read]);
        }
    }

    #[test]
    fn a_portion_is_the_file_without_the_parts_of_others() {
        let file: Vec<u8> = (0..200).collect();
        let index = index(&file, &[5, 40, 0, 30, 60]);
        for step in [1, 7, 64, 500] {
            let mut portion = Portion::of(&index, 200, &(25..=33), true);
            let expected = [&file[..5], &file[45..200]].concat();
            assert_eq!(portion.len(), expected.len() as u64);
            assert_eq!(read(&mut portion, &file, step).expect("it is whole"), expected);
            assert_eq!(portion.offset_in_file(4), 4);
            assert_eq!(portion.offset_in_file(5), 45);
            assert_eq!(portion.offset_in_file(expected.len() as u64), 200);
            let mut portion = Portion::of(&index, 200, &(0..=4), true);
            let expected = [&file[..45], &file[135..]].concat();
            assert_eq!(read(&mut portion, &file, step).expect("it is whole"), expected);
            assert_eq!(read(&mut Portion::whole(200), &file, step).expect("all"), file);
        }
    }

    #[test]
    fn damage_is_found_by_those_who_read_it() {
        let mut file: Vec<u8> = (0..200).collect();
        let index = index(&file, &[5, 40, 0, 30, 60]);
        file[50] ^= 1;
        let portion = |own| Portion::of(&index, 200, &own, true);
        assert!(read(&mut portion(0..=4), &file, 9).is_ok());
        let error = read(&mut portion(20..=20), &file, 9).expect_err("the third part is damaged");
        assert!(error.to_string().starts_with("at byte 45: the checksum is"), "{error}");
        assert!(read(&mut Portion::of(&index, 200, &(20..=20), false), &file, 9).is_ok());
    }
}
