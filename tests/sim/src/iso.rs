//! Makes small and large ISO 9660 images of an exact size for upload tests: valid volume, path tables, directories,
//! Rock Ridge and Joliet names, seeded filling. It must not know who uploads or reads them.
//!
//! ```no_run
//! use gantry_sim::iso::Iso;
//!
//! # fn main() -> std::io::Result<()> {
//! Iso::new(3 * 65536 + 1).seed(7).write(std::path::Path::new("cloudtower-v4.7.1.oe2003.x86_64.iso"))?;
//! # Ok(())
//! # }
//! ```

mod layout;
mod record;

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use layout::Layout;

/// Bytes of a logical sector.
pub(crate) const SECTOR: u64 = 2048;
/// The smallest image: 32 sectors hold every descriptor, table, directory and small file.
pub const MIN_SIZE: u64 = 64 * 1024;
/// The root entry that marks an ISO with guest tools (`cloudtower.md` 1.1).
pub const TOOLS_NAME: &str = "SMTX_VM_TOOLS_INSTALL.sh";
/// The volume label of the modified CloudTower ISO (`cloudtower.md` 1.1).
pub const VOLUME_LABEL: &str = "openEuler-20.03-LTS-SP3-x86_64";

/// An image to be made.
#[derive(Clone, Debug)]
pub struct Iso {
    size: u64,
    seed: u64,
    tools: bool,
    rock_ridge: bool,
    joliet: bool,
    sparse: bool,
    label: String,
}

impl Iso {
    /// An image of exactly `size` bytes (at least [`MIN_SIZE`]) with guest tools, Rock Ridge and no Joliet.
    pub fn new(size: u64) -> Self {
        Iso {
            size,
            seed: 1,
            tools: true,
            rock_ridge: true,
            joliet: false,
            sparse: false,
            label: VOLUME_LABEL.to_owned(),
        }
    }

    /// Another seed gives other content.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// With or without the root entry [`TOOLS_NAME`]; without it is a stock ISO.
    #[must_use]
    pub fn tools(mut self, tools: bool) -> Self {
        self.tools = tools;
        self
    }

    /// With or without Rock Ridge names. Without them the tools appear as `SMTX_VM_.SH;1` only.
    #[must_use]
    pub fn rock_ridge(mut self, rock_ridge: bool) -> Self {
        self.rock_ridge = rock_ridge;
        self
    }

    /// With or without a Joliet tree.
    #[must_use]
    pub fn joliet(mut self, joliet: bool) -> Self {
        self.joliet = joliet;
        self
    }

    /// Leaves the filling as a hole in the file: for images of many GB that need no content.
    #[must_use]
    pub fn sparse(mut self, sparse: bool) -> Self {
        self.sparse = sparse;
        self
    }

    /// Another volume label; the primary descriptor holds its first 32 characters in capitals as they are given.
    #[must_use]
    pub fn label(mut self, label: &str) -> Self {
        label.clone_into(&mut self.label);
        self
    }

    /// Writes the image, streamed: memory does not grow with the size.
    ///
    /// # Errors
    /// When `size` is below [`MIN_SIZE`] or the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        if self.size < MIN_SIZE {
            let text = format!("an ISO needs at least {MIN_SIZE} bytes, {} were asked for", self.size);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut file = File::create(path)?;
        file.set_len(self.size)?;
        let layout = Layout::of(self);
        file.seek(SeekFrom::Start(16 * SECTOR))?;
        file.write_all(&layout.head())?;
        if self.sparse {
            return file.sync_data();
        }
        let start = layout.payload_start() * SECTOR;
        file.seek(SeekFrom::Start(start))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        fill(&mut out, self.seed, self.size - start)?;
        out.flush()
    }

    /// The image in memory, for small ones.
    ///
    /// # Errors
    /// As [`Iso::write`].
    pub fn bytes(&self) -> io::Result<Vec<u8>> {
        if self.size < MIN_SIZE {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too small for an ISO"));
        }
        let layout = Layout::of(self);
        let mut image = vec![0; 16 * SECTOR as usize];
        image.extend(layout.head());
        if self.sparse {
            image.resize(self.size as usize, 0);
        } else {
            let left = self.size - layout.payload_start() * SECTOR;
            fill(&mut image, self.seed, left)?;
        }
        Ok(image)
    }
}

/// Seeded filling (splitmix64): no byte of one seed repeats another's, and a lost or swapped chunk is noticed.
fn fill(out: &mut impl Write, seed: u64, mut left: u64) -> io::Result<()> {
    let mut state = seed;
    let mut block = vec![0_u8; 64 * 1024];
    while left > 0 {
        for word in block.chunks_exact_mut(8) {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            word.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
        }
        let now = left.min(block.len() as u64) as usize;
        out.write_all(&block[..now])?;
        left -= now as u64;
    }
    Ok(())
}
