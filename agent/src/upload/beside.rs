//! Hashing beside the sending: where one chunk at a time is in flight, its own thread would hash or send, never both. What
//! has been sent goes to a thread that hashes it; the buffers come back. Knows no connection and no file.

use std::{
    io,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{Builder, JoinHandle},
};

use sha2::{Digest as _, Sha256};

/// Buffers on their way: the hashing may lag behind by so many pieces before the sending waits for it.
const BUFFERS: usize = 8;

/// What goes to the thread.
enum Word {
    /// The chunk's next bytes: so many of this buffer.
    Sent(Vec<u8>, usize),
    /// The chunk is at its end.
    End,
}

/// The hashing end, as the sender has it.
pub(super) struct Beside {
    /// Taken away when the thread is to end.
    words: Option<SyncSender<Word>>,
    spare: Receiver<Vec<u8>>,
    digests: Receiver<[u8; 32]>,
    thread: Option<JoinHandle<()>>,
}

impl Beside {
    /// Starts the thread; it ends when this is dropped. `piece`: bytes of a buffer.
    pub(super) fn start(piece: usize) -> io::Result<Self> {
        let (words, inbox) = sync_channel(BUFFERS);
        let (give_back, spare) = sync_channel(BUFFERS);
        let (tell, digests) = sync_channel(1);
        for _ in 0..BUFFERS {
            // It has room for all of them.
            let _ = give_back.try_send(vec![0; piece]);
        }
        let work = move || {
            let mut hash = Sha256::new();
            while let Ok(word) = inbox.recv() {
                let told = match word {
                    Word::End => tell.send(hash.finalize_reset().into()).is_ok(),
                    Word::Sent(buffer, count) => {
                        hash.update(&buffer[..count.min(buffer.len())]);
                        give_back.send(buffer).is_ok()
                    }
                };
                if !told {
                    return;
                }
            }
        };
        let thread = Builder::new().name("upload hash".to_owned()).spawn(work)?;
        Ok(Self { words: Some(words), spare, digests, thread: Some(thread) })
    }

    /// A buffer to be filled and sent; waits while all are being hashed.
    pub(super) fn buffer(&self) -> io::Result<Vec<u8>> {
        self.spare.recv().map_err(ended)
    }

    /// Its first `count` bytes are the chunk's next ones.
    pub(super) fn sent(&self, buffer: Vec<u8>, count: usize) -> io::Result<()> {
        self.tell(Word::Sent(buffer, count))
    }

    /// The SHA-256 of what was handed over since the last time.
    pub(super) fn digest(&self) -> io::Result<[u8; 32]> {
        self.tell(Word::End)?;
        self.digests.recv().map_err(ended)
    }

    fn tell(&self, word: Word) -> io::Result<()> {
        let words = self.words.as_ref().ok_or_else(|| ended("it was dismissed"))?;
        words.send(word).map_err(|_| ended("it takes nothing"))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.words = None;
        // Soon: it has nothing to wait for but what was handed over.
        while self.spare.recv().is_ok() {}
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn ended(why: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("the thread that hashes has ended: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_hashes_what_it_gets_chunk_by_chunk() {
        let beside = Beside::start(4).unwrap();
        for text in ["abc", "", "abcdefgh the longer one, of more pieces than there are buffers"] {
            for part in text.as_bytes().chunks(4) {
                let mut buffer = beside.buffer().unwrap();
                buffer[..part.len()].copy_from_slice(part);
                beside.sent(buffer, part.len()).unwrap();
            }
            let expected: [u8; 32] = Sha256::digest(text).into();
            assert_eq!(beside.digest().unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn it_ends_in_the_middle_of_a_chunk() {
        let beside = Beside::start(4).unwrap();
        let buffer = beside.buffer().unwrap();
        beside.sent(buffer, 4).unwrap();
        drop(beside);
    }
}
