//! The digests of a file's chunks: what an upload compares the chunks with that it sends. Knows no file.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::tls::hex;

/// Chunks of one file whose digests are kept, at most: 128 GiB at 8 MiB. A file with more has none.
pub const MOST_CHUNKS: u64 = 1 << 14;

/// The SHA-256 of each chunk of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkDigests {
    /// Bytes of a chunk; the last one may be shorter.
    pub size: u64,
    /// In the file's order; stored as hexadecimal.
    #[serde(with = "as_hex")]
    pub sha256: Vec<[u8; 32]>,
}

impl ChunkDigests {
    /// Whether there is a digest for each chunk of a file of so many bytes.
    pub(super) fn covers(&self, bytes: u64) -> bool {
        self.size > 0 && u64::try_from(self.sha256.len()).is_ok_and(|count| count == bytes.div_ceil(self.size))
    }

    /// The digest of the list itself, hexadecimal: a damaged list does not have it.
    pub(super) fn root(&self) -> String {
        let mut list = Sha256::new();
        for digest in &self.sha256 {
            list.update(digest);
        }
        hex(&list.finalize())
    }
}

/// Digests while the file is read from its beginning.
#[derive(Clone, Debug)]
pub(super) struct Chunker {
    size: u64,
    done: Vec<[u8; 32]>,
    open: Sha256,
    /// Bytes of the open chunk so far.
    filled: u64,
}

impl Chunker {
    /// For a file of so many bytes; `None` when it has too many chunks of this size.
    pub(super) fn new(bytes: u64, size: u64) -> Option<Self> {
        let few = size > 0 && bytes.div_ceil(size) <= MOST_CHUNKS;
        few.then(|| Self { size, done: Vec::new(), open: Sha256::new(), filled: 0 })
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(self.size - self.filled).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.open.update(now);
            self.filled += now.len() as u64;
            if self.filled == self.size {
                self.close();
            }
            bytes = later;
        }
    }

    pub(super) fn finish(mut self) -> ChunkDigests {
        if self.filled > 0 {
            self.close();
        }
        ChunkDigests { size: self.size, sha256: self.done }
    }

    fn close(&mut self) {
        self.done.push(std::mem::take(&mut self.open).finalize().into());
        self.filled = 0;
    }
}

mod as_hex {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::tls::hex;

    pub(super) fn serialize<S: Serializer>(list: &[[u8; 32]], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(list.iter().map(|digest| hex(digest)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<[u8; 32]>, D::Error> {
        let list = Vec::<String>::deserialize(deserializer)?;
        list.iter().map(|text| digest(text).ok_or_else(|| D::Error::custom("not a SHA-256 in hexadecimal"))).collect()
    }

    fn digest(text: &str) -> Option<[u8; 32]> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut digest = [0; 32];
        for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
        }
        Some(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digests as they must be, whatever the pieces in which the bytes came.
    fn plainly(bytes: &[u8], size: usize) -> Vec<[u8; 32]> {
        bytes.chunks(size).map(|chunk| Sha256::digest(chunk).into()).collect()
    }

    proptest::proptest! {
        #[test]
        fn each_chunk_has_its_digest_however_the_file_is_read(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..500),
            size in 1usize..200,
            piece in 1usize..300,
        ) {
            let mut chunker = Chunker::new(bytes.len() as u64, size as u64).unwrap();
            bytes.chunks(piece).for_each(|piece| chunker.update(piece));
            let list = chunker.finish();
            assert_eq!(list.sha256, plainly(&bytes, size));
            assert!(list.covers(bytes.len() as u64) && !list.covers(bytes.len() as u64 + size as u64));
        }
    }

    #[test]
    fn the_list_is_stored_as_hexadecimal() {
        let list = ChunkDigests { size: 3, sha256: plainly(b"abcdef!", 3) };
        let text = serde_json::to_string(&list).unwrap();
        assert!(text.contains("\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\""), "{text}");
        assert_eq!(serde_json::from_str::<ChunkDigests>(&text).unwrap(), list);
        for bad in ["ba78", "", &"g".repeat(64), &"é".repeat(32)] {
            let text = format!("{{\"size\": 3, \"sha256\": [\"{bad}\"]}}");
            assert!(serde_json::from_str::<ChunkDigests>(&text).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_of_too_many_chunks_has_no_list() {
        assert!(Chunker::new(MOST_CHUNKS * 8, 8).is_some());
        assert!(Chunker::new(MOST_CHUNKS * 8 + 1, 8).is_none());
        assert!(Chunker::new(8, 0).is_none());
    }
}
