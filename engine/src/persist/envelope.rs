//! The form of everything in the data directory but records: an archive with a seal in front.
//!
//! ```text
//! bytes   field
//! 4       CRC32C of everything behind it, little endian
//! 4       magic: what the archive is
//! 4       version of its form, little endian
//! 4       length of the archive, little endian
//! …       the archive (rkyv), which lies at a multiple of 16 if the seal does
//! ```
//!
//! An archive whose checksum is right is validated all the same before it is used: checksums guard
//! against disks, not against whoever makes files.
#![forbid(unsafe_code)]

use rkyv::{
    Archive, Deserialize, Serialize,
    api::high::{HighDeserializer, HighSerializer, HighValidator},
    bytecheck::CheckBytes,
    rancor::Error,
    ser::allocator::ArenaHandle,
    util::AlignedVec,
};

/// Bytes of the seal.
pub const SEAL_BYTES: usize = 16;

/// What an archive is, and the version of its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Four letters that show in a dump of the file.
    pub magic: [u8; 4],
    /// Counted up when the archive's fields change.
    pub version: u32,
}

/// Why bytes are not what was sealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The bytes end before the archive does.
    #[error("it is cut short")]
    Short,
    /// Something else stands here.
    #[error("it does not begin as it should")]
    Magic,
    /// A newer server has written it.
    #[error("it has version {0}, which this server does not know")]
    Version(u32),
    /// The bytes are not those that were written.
    #[error("its checksum is wrong")]
    Checksum,
    /// They are, and make no sense.
    #[error("it is malformed")]
    Malformed,
}

/// What can be sealed.
pub trait Sealable:
    Sized
    + Archive<
        Archived: for<'a> CheckBytes<HighValidator<'a, Error>>
                      + Deserialize<Self, HighDeserializer<Error>>,
    > + for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, Error>>
{
    /// What it is called in files.
    const KIND: Kind;
}

/// The sealed archive of `value`.
///
/// # Panics
///
/// When it takes 4 GiB, which no header does.
pub fn seal<T: Sealable>(value: &T) -> AlignedVec {
    let archive = rkyv::to_bytes::<Error>(value).expect("an archive in memory cannot fail");
    let len = u32::try_from(archive.len()).expect("an archive is shorter than 4 GiB");
    let mut sealed = AlignedVec::with_capacity(SEAL_BYTES + archive.len());
    sealed.extend_from_slice(&[0; 4]);
    sealed.extend_from_slice(&T::KIND.magic);
    sealed.extend_from_slice(&T::KIND.version.to_le_bytes());
    sealed.extend_from_slice(&len.to_le_bytes());
    sealed.extend_from_slice(&archive);
    let checksum = crc32c::crc32c(&sealed[4..]);
    sealed[..4].copy_from_slice(&checksum.to_le_bytes());
    sealed
}

/// What was sealed at the beginning of `bytes`, and the length of it with its seal.
///
/// # Errors
///
/// See [`EnvelopeError`].
pub fn open<T: Sealable>(bytes: &[u8]) -> Result<(T, usize), EnvelopeError> {
    let len = SEAL_BYTES + sealed_len::<T>(bytes)?;
    let sealed = bytes.get(..len).ok_or(EnvelopeError::Short)?;
    if word(sealed, 0) != crc32c::crc32c(&sealed[4..]) {
        return Err(EnvelopeError::Checksum);
    }
    let mut archive = AlignedVec::<16>::with_capacity(len - SEAL_BYTES);
    archive.extend_from_slice(&sealed[SEAL_BYTES..]);
    let value = rkyv::from_bytes::<T, Error>(&archive).map_err(|_| EnvelopeError::Malformed)?;
    Ok((value, len))
}

/// The length of the archive, if the seal is one of the kind.
fn sealed_len<T: Sealable>(bytes: &[u8]) -> Result<usize, EnvelopeError> {
    let seal = bytes.get(..SEAL_BYTES).ok_or(EnvelopeError::Short)?;
    if seal[4..8] != T::KIND.magic {
        return Err(EnvelopeError::Magic);
    }
    let version = word(seal, 8);
    if version != T::KIND.version {
        return Err(EnvelopeError::Version(version));
    }
    Ok(word(seal, 12) as usize)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    u32::from_le_bytes(*word.expect("a seal holds four words"))
}
