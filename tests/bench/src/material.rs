//! The files that are uploaded: the ISO and, for curl, the same cut into chunks. Their content is random but the same in
//! every run, so that no disk and no line can compress it.

mod volume;

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use md5::Md5;
use nix::{
    fcntl::{PosixFadviseAdvice, posix_fadvise},
    sys::statvfs::statvfs,
};
use sha2::{Digest as _, Sha256};
use tokio::task::{block_in_place, yield_now};

/// Bytes of a chunk, as real clusters hand it out.
pub const CHUNK: u64 = 8 << 20;
/// The least size of a file.
pub const LEAST: u64 = 1 << 20;
/// Name of the ISO, after the pattern that the agent takes.
pub const ISO_NAME: &str = "cloudtower-v0.bench.x86_64.iso";
/// Free space that must stay.
const SPARE: u64 = 256 << 20;

/// A file and what is known about it.
#[derive(Clone, Debug)]
pub struct Iso {
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Lower-case hexadecimal, as all digests here.
    pub sha256: String,
    pub md5: String,
}

/// An ISO and its chunks.
#[derive(Clone, Debug)]
pub struct Material {
    pub iso: Iso,
    /// The directory of the chunks, which are named by [`chunk_name`].
    pub chunks: PathBuf,
    /// SHA-256 of each chunk.
    pub digests: Vec<String>,
}

/// The file of a chunk.
pub fn chunk_name(chunk: usize) -> String {
    format!("chunk.{chunk:05}")
}

impl Material {
    /// Makes both below `dir`. Can be dropped between two chunks.
    ///
    /// # Errors
    /// There is not enough room, or a file cannot be written.
    pub async fn make(dir: &Path, size: u64) -> anyhow::Result<Self> {
        room(dir, 2 * size)?;
        let (path, chunks) = (dir.join(ISO_NAME), dir.join("chunks"));
        fs::create_dir(&chunks).with_context(|| format!("making {}", chunks.display()))?;
        let mut writer = Writer::create(path, size)?;
        let mut digests = Vec::new();
        let mut random = Random(0x6761_6e74_7279);
        for chunk in 0..size.div_ceil(CHUNK) {
            let length = CHUNK.min(size - chunk * CHUNK);
            let made = block_in_place(|| -> anyhow::Result<String> {
                let mut bytes = vec![0; usize::try_from(length)?];
                random.fill(&mut bytes);
                if chunk == 0 {
                    volume::write(&mut bytes, size);
                }
                writer.write(&bytes)?;
                fs::write(chunks.join(chunk_name(digests.len())), &bytes)?;
                Ok(hex(&Sha256::digest(&bytes)))
            });
            digests.push(made.context("writing a chunk")?);
            yield_now().await;
        }
        Ok(Self { iso: writer.finish()?, chunks, digests })
    }

    /// Drops the chunks from the page cache.
    ///
    /// # Errors
    /// A file cannot be opened or flushed.
    pub fn cool_chunks(&self) -> anyhow::Result<()> {
        (0..self.digests.len()).try_for_each(|chunk| cool(&self.chunks.join(chunk_name(chunk))))
    }
}

impl Iso {
    /// A file of zeros but for its beginning, that takes no room. Can be dropped in between.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn sparse(path: PathBuf, size: u64) -> anyhow::Result<Self> {
        let mut writer = Writer::create(path, size)?;
        let mut bytes = vec![0; volume::LENGTH];
        volume::write(&mut bytes, size);
        writer.write(&bytes)?;
        writer.file.set_len(size).context("making a sparse file")?;
        let zeros = vec![0; usize::try_from(CHUNK)?];
        let mut left = size - volume::LENGTH as u64;
        while left > 0 {
            let length = left.min(CHUNK);
            block_in_place(|| writer.hash(&zeros[..length as usize]));
            left -= length;
            yield_now().await;
        }
        writer.finish()
    }
}

/// Drops a file from the page cache.
///
/// # Errors
/// It cannot be opened or flushed.
pub fn cool(path: &Path) -> anyhow::Result<()> {
    let cooled = || {
        let file = File::open(path)?;
        // What is not on the disk yet cannot be dropped.
        file.sync_all()?;
        Ok::<_, std::io::Error>(posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?)
    };
    cooled().with_context(|| format!("dropping {} from the page cache", path.display()))
}

/// Whether these bytes fit into the file system of `dir`.
///
/// # Errors
/// They do not, or nobody knows.
fn room(dir: &Path, bytes: u64) -> anyhow::Result<()> {
    let stat = statvfs(dir).with_context(|| format!("looking for room in {}", dir.display()))?;
    let free = stat.blocks_available() * stat.fragment_size();
    if free < bytes + SPARE {
        let mib = |bytes: u64| bytes >> 20;
        bail!("{} has {} MiB free, {} are needed; see --dir", dir.display(), mib(free), mib(bytes + SPARE));
    }
    Ok(())
}

/// Writes and hashes in one go.
struct Writer {
    path: PathBuf,
    file: File,
    size: u64,
    sha256: Sha256,
    md5: Md5,
}

impl Writer {
    fn create(path: PathBuf, size: u64) -> anyhow::Result<Self> {
        if size < LEAST {
            bail!("a file of {size} bytes is too small, {LEAST} are the least");
        }
        let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path, file, size, sha256: Sha256::new(), md5: Md5::new() })
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes).with_context(|| format!("writing {}", self.path.display()))?;
        self.hash(bytes);
        Ok(())
    }

    fn hash(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.md5.update(bytes);
    }

    fn finish(self) -> anyhow::Result<Iso> {
        let (sha256, md5) = (hex(&self.sha256.finalize()), hex(&self.md5.finalize()));
        Ok(Iso { path: self.path, size: self.size, sha256, md5 })
    }
}

fn hex(bytes: &[u8]) -> String {
    crate::sink::hex(bytes)
}

/// SplitMix64: quick, and good enough to be incompressible.
struct Random(u64);

impl Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..word.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_chunks_are_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let size = CHUNK + 3 * LEAST;
        let material = Material::make(dir.path(), size).await.unwrap();
        let file = fs::read(&material.iso.path).unwrap();
        let chunks: Vec<u8> = (0..2).flat_map(|n| fs::read(material.chunks.join(chunk_name(n))).unwrap()).collect();
        assert!(file == chunks && file.len() as u64 == size);
        assert_eq!(material.iso.sha256, hex(&Sha256::digest(&file)));
        assert_eq!(material.iso.md5, hex(&Md5::digest(&file)));
        assert_eq!(
            material.digests,
            [&file[..CHUNK as usize], &file[CHUNK as usize..]].map(|c| hex(&Sha256::digest(c)))
        );
        cool(&material.iso.path).unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_sparse_file_is_hashed_as_it_reads() {
        let dir = tempfile::tempdir().unwrap();
        let iso = Iso::sparse(dir.path().join("s.iso"), CHUNK + LEAST).await.unwrap();
        let file = fs::read(&iso.path).unwrap();
        assert_eq!(
            (file.len() as u64, &iso.sha256, &iso.md5),
            (iso.size, &hex(&Sha256::digest(&file)), &hex(&Md5::digest(&file)))
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(room(Path::new("/"), u64::MAX / 2).unwrap_err().to_string().contains("--dir"));
    }
}
