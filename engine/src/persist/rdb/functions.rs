//! The payload of FUNCTION DUMP and RESTORE: for each library an opcode and its code, then version and
//! checksum as behind a value.
#![forbid(unsafe_code)]

use super::{
    input::{Input, Stop},
    lzf::Lzf,
    opcode,
    output::put_text,
    payload::seal,
};

/// Why a payload that is not damaged holds no libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FunctionsError {
    /// It ends in the middle.
    #[error("failed loading the given functions payload")]
    Broken,
    /// From a version of Redis that never was released.
    #[error("Pre-GA function format not supported")]
    PreGa,
    /// Something else stands there.
    #[error("given type is not a function")]
    NotAFunction,
}

/// The payload of libraries, given by their code.
pub fn dump<'c>(libraries: impl Iterator<Item = &'c [u8]>, compress: bool) -> Vec<u8> {
    let mut lzf = compress.then(Lzf::new);
    let mut out = Vec::new();
    for code in libraries {
        out.push(opcode::FUNCTION_2);
        put_text(&mut out, code, lzf.as_mut());
    }
    seal(&mut out);
    out
}

/// The code of the libraries that the content of a payload (see [`super::payload::verify`]) holds.
///
/// # Errors
///
/// See [`FunctionsError`].
pub fn libraries_of(content: &[u8]) -> Result<Vec<Vec<u8>>, FunctionsError> {
    let mut input = Input::whole(content);
    let mut libraries = Vec::new();
    let broken = |_: Stop| FunctionsError::Broken;
    while !input.is_empty() {
        match input.byte().map_err(broken)? {
            opcode::FUNCTION_2 => {
                let text = input.text().map_err(broken)?;
                libraries.push(text.with_bytes(<[u8]>::to_vec));
            }
            opcode::FUNCTION_PRE_GA => return Err(FunctionsError::PreGa),
            _ => return Err(FunctionsError::NotAFunction),
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::rdb::payload;

    #[test]
    fn libraries_come_back_from_their_payload() {
        let long = [b"#!lua name=b\n".to_vec(), vec![b'x'; 3000]].concat();
        for compress in [false, true] {
            let dumped = dump([&b"#!lua name=a\nx"[..], &long].into_iter(), compress);
            assert_eq!(dumped.len() < 1000, compress);
            let content = payload::verify(&dumped).expect("it is sealed");
            let libraries = libraries_of(content).expect("it is whole");
            assert_eq!(libraries, [b"#!lua name=a\nx".to_vec(), long.clone()]);
            for end in 1..content.len() {
                let cut = libraries_of(&content[..end]);
                assert!(cut.map_or(true, |some| some.len() < 2));
            }
        }
        assert_eq!(libraries_of(&[opcode::FUNCTION_PRE_GA]), Err(FunctionsError::PreGa));
        assert_eq!(libraries_of(&[0]), Err(FunctionsError::NotAFunction));
        assert_eq!(libraries_of(&[]), Ok(Vec::new()));
    }
}
